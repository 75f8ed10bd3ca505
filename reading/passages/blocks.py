"""Blocks of a chapter, and the parts of a block that are narration."""

import re
from collections.abc import Callable, Iterable, Iterator

#: Starts and ends of sentences, relative to the block.
Splitter = Callable[[str], Iterable[tuple[int, int]]]

LINE = re.compile(r"[^\n]+")
#: A dash or a quotation mark opens speech, a bracket, star or digit a note, a word in capitals a part in a play.
NO_NARRATION = re.compile(r"\s*(?:[-–—−―*\[({•·\d„“”«»\"‘`'_]|[A-ZА-ЯЁ]{2,}[\s.:])")
CAPITALS = re.compile(r"[^a-zа-яё]+")
QUOTES = re.compile(r"“[^”]*”?|„[^“”]*[“”]?|«[^»]*»?|\"[^\"]*\"?|(?<!\w)[‘`][^’']*(?:[’'](?=\w)[^’']*)*[’']?")
SPEECH = re.compile(r"[.,!?…:]\W*$|[!?]")
#: Words in quotation marks up to this number are a name: the brig “Tranquillo”.
NAME_WORDS = 3
#: A question and an exclamation address somebody. A colon announces speech. A brace is a translator's note.
ADDRESSED = re.compile(r"[!?]|[:;,—–-]\W*$|[{}\[\]]|(?:[:,.!?…]|\s)\s*(?:--|—)\s*[А-ЯЁA-Z]|[,.!?]\s*--\s")


def find_blocks(text: str, min_length: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each block of narration. The first block is the heading and is left out."""
    lines = (match for match in LINE.finditer(text) if not match[0].isspace())
    next(lines, None)
    for line in lines:
        if len(line[0]) >= min_length and not NO_NARRATION.match(line[0]) and not CAPITALS.fullmatch(line[0]):
            yield line.span()


def find_narration(block: str, split: Splitter) -> Iterator[list[tuple[int, int]]]:
    """Yield the runs of adjacent sentences that contain no speech."""
    speech = list(find_speech(block))
    run: list[tuple[int, int]] = []
    for start, end in split(block):
        if any(left < end and start < right for left, right in speech) or ADDRESSED.search(block, start, end):
            if run:
                yield run
            run = []
        else:
            run.append((start, end))
    if run:
        yield run


def find_speech(block: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each quotation that is longer than a name or ends like a sentence."""
    for quote in QUOTES.finditer(block):
        if len(quote[0].split()) > NAME_WORDS or SPEECH.search(quote[0]):
            yield quote.span()
