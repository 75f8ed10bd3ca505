"""Blocks of a chapter, and the runs of sentences in a block that are narration."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator

#: Returns the start and end of each sentence of a block.
Splitter = Callable[[str], Iterable[tuple[int, int]]]

#: Splitters take quadratic time for some blocks, so a block without line breaks is cut. The cut sentence is lost.
LINE = re.compile(r"[^\n]{1,20000}")
STATEMENT = re.compile(r"[^a-zа-яё].*[.…][)»”\"’']*", re.DOTALL)
#: A dash or a quotation mark opens speech, a bracket, star or digit a note, a word in capitals a part in a play.
NO_NARRATION = re.compile(r"\s*(?:[-–—−―*\[({•·\d„“”«»\"‘`'_]|[A-ZА-ЯЁ]{2,}[\s.:])")
CAPITALS = re.compile(r"[^a-zа-яё]+")
#: Quotations. An apostrophe before a letter closes none.
QUOTES = re.compile(
    r"“[^”]*”?|„[^“”]*[“”]?|«[^»]*»?|\"[^\"]*\"?|(?<!\w)(?:[‘`]|'(?=[A-Z]))[^’']*(?:[’'](?=\w)[^’']*)*[’']?"
)
END_OF_SPEECH = re.compile(r"[.,!?…:]\W*$|[!?]")
#: Words and characters in quotation marks up to these numbers are a name: the brig “Tranquillo”.
NAME_WORDS, NAME_LENGTH = 3, 60
#: Questions and exclamations, a colon that announces speech, braces of translators, and dashes around speech.
ADDRESSED = re.compile(r"[!?{}\[\]]|[:;,—–-]\W*$|[:,.!?…\s]\s*(?:--|—)\s*[А-ЯЁA-Z]|[,.!?…]\s*(?:--|—|–)\s")


def find_blocks(text: str, min_length: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each block of narration. The first block is the heading and is left out."""
    lines = (match for match in LINE.finditer(text) if not match[0].isspace())
    next(lines, None)
    for line in lines:
        if len(line[0]) >= min_length and not NO_NARRATION.match(line[0]) and not CAPITALS.fullmatch(line[0]):
            yield line.span()


def find_narration(block: str, split: Splitter, max_length: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the runs of adjacent sentences that contain no speech. A longer sentence ends a run."""
    speech = list(find_speech(block))
    run: list[tuple[int, int]] = []
    for start, end in split(block):
        if end - start <= max_length and not touches(speech, start, end) and is_statement(block[start:end]):
            run.append((start, end))
        elif run:
            yield run
            run = []
    if run:
        yield run


def find_speech(block: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each quotation that is longer than a name or ends like a sentence."""
    for quote in QUOTES.finditer(block):
        words = quote[0]
        if len(words) > NAME_LENGTH or len(words.split()) > NAME_WORDS or END_OF_SPEECH.search(words):
            yield quote.span()


def touches(spans: list[tuple[int, int]], start: int, end: int) -> bool:
    """Return true if one of the ordered spans overlaps start–end."""
    following = bisect_right(spans, start, key=lambda span: span[1])
    return following < len(spans) and spans[following][0] < end


def is_statement(sentence: str) -> bool:
    """Return false for a question, an exclamation, an announcement of speech and a part of a sentence."""
    return STATEMENT.fullmatch(sentence) is not None and not ADDRESSED.search(sentence)
