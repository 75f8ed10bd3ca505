"""English: sentences by sentencex, dictionary forms by simplemma. Endings replace parts of speech."""

from collections.abc import Iterator
from functools import cache, lru_cache

import sentencex
import simplemma

from reading.passages.words import CLASSES, OTHER, Words, load_words

QUALITY, ACTION = CLASSES.index("quality"), CLASSES.index("action")
QUALITIES = ("ous", "ful", "less", "ish", "like", "colored", "coloured")
ACTIONS = ("ed", "ing")


def split_sentences(block: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each sentence of a block."""
    for sentence in sentencex.get_sentence_boundaries("en", block):
        start, end = sentence["start_index"], sentence["end_index"]
        text = block[start:end]
        yield start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())


@lru_cache(maxsize=40_000)
def classify(word: str) -> int:
    """Return the class of a lower-case word: that of the word itself, then that of its dictionary form."""
    class_of = words().class_of
    named = class_of.get(word, OTHER)
    if named == OTHER:
        named = class_of.get(simplemma.lemmatize(word, lang="en").lower(), OTHER)
    if named != OTHER:
        return named
    if word.endswith(QUALITIES):
        return QUALITY
    return ACTION if word.endswith(ACTIONS) else OTHER


@cache
def words() -> Words:
    return load_words("en")
