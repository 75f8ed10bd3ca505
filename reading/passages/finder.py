"""Find the passages of a chapter that are worth a picture."""

from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from reading.books.counting import count_words
from reading.passages.blocks import find_blocks, find_narration
from reading.passages.scoring import Counts, compute_priority, count_classes, find_type, measure_confidence
from reading.passages.words import Words

#: Characters of a passage.
MIN_LENGTH, MAX_LENGTH = 100, 600
MAX_SENTENCES = 4
MAX_PER_THOUSAND_WORDS = 3
MIN_CONFIDENCE = 0.6
#: Confidence of the first and of the last sentence alone, so that a passage does not trail off.
MIN_EDGE_CONFIDENCE = 0.35

#: Language → module. The module and its dictionary are loaded for the first chapter in that language.
MODULES = {"ru": "reading.passages.russian", "en": "reading.passages.english"}


class Passage(NamedTuple):
    """A run of one to four sentences. `content` is `text[start:end]`. Confidence is 0–1, priority 0–100."""

    type: str
    content: str
    start: int
    end: int
    words: int
    confidence: float
    priority: float


class Language(Protocol):
    """A module that splits blocks and classifies words."""

    split_sentences: Callable[[str], Iterable[tuple[int, int]]]
    classify: Callable[[str], int]
    words: Callable[[], Words]


def find_passages(text: str, language: str) -> list[Passage]:
    """Return the best passages of a chapter in reading order: three per thousand words, or one of a short text.

    The first block is the heading. A language other than ru and en has no passages.
    """
    if language not in MODULES:
        return []
    module = cast(Language, import_module(MODULES[language]))
    limit = max(1, count_words(text) * MAX_PER_THOUSAND_WORDS // 1000)
    candidates = sorted(find_candidates(text, module), key=lambda passage: (-passage.confidence, passage.start))
    return choose_apart(candidates, limit)


def find_candidates(text: str, language: Language) -> Iterator[Passage]:
    """Yield every run of one to four sentences whose length and confidence suffice."""
    for block_start, block_end in find_blocks(text, MIN_LENGTH):
        block = text[block_start:block_end]
        for run in find_narration(block, language.split_sentences, MAX_LENGTH):
            counts = [count_classes(block[start:end], language.classify) for start, end in run]
            for first, last in find_windows(run, [measure_confidence(count, language.words()) for count in counts]):
                total = reduce(Counts.plus, counts[first : last + 1])
                confidence = measure_confidence(total, language.words())
                if confidence >= MIN_CONFIDENCE:
                    start, end = block_start + run[first][0], block_start + run[last][1]
                    yield build_passage(text, start, end, total, confidence)


def find_windows(run: list[tuple[int, int]], confidences: list[float]) -> Iterator[tuple[int, int]]:
    """Yield the first and last sentence of each run of a passage's length that begins and ends with a picture."""
    shows = [confidence >= MIN_EDGE_CONFIDENCE for confidence in confidences]
    for first, (start, _) in enumerate(run):
        for last in range(first, min(first + MAX_SENTENCES, len(run))):
            if shows[first] and shows[last] and MIN_LENGTH <= run[last][1] - start <= MAX_LENGTH:
                yield first, last


def build_passage(text: str, start: int, end: int, counts: Counts, confidence: float) -> Passage:
    kind = find_type(counts)
    priority = compute_priority(kind, confidence, end - start)
    content = text[start:end]
    return Passage(kind, content, start, end, count_words(content), confidence, priority)


def choose_apart(candidates: list[Passage], limit: int) -> list[Passage]:
    """Return the first candidates that do not overlap, in reading order."""
    chosen: list[Passage] = []
    for candidate in candidates:
        if len(chosen) == limit:
            break
        place = bisect(chosen, candidate.start, key=lambda passage: passage.start)
        follows = place == 0 or chosen[place - 1].end <= candidate.start
        precedes = place == len(chosen) or candidate.end <= chosen[place].start
        if follows and precedes:
            chosen.insert(place, candidate)
    return chosen
