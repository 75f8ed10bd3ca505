"""English: sentences by sentencex, dictionary forms by simplemma. Endings replace parts of speech."""

import re
from collections.abc import Iterator
from functools import cache, lru_cache

import sentencex
from simplemma import Lemmatizer
from simplemma.strategies import DefaultStrategy

from reading.passages.words import CLASSES, OTHER, Words, load_words

QUALITY, ACTION = CLASSES.index("quality"), CLASSES.index("action")
NOUNS = {CLASSES.index(name) for name in ("place", "room", "person", "body", "weather")}
#: The letters before an ending keep fish, ring and bed out.
QUALITIES = re.compile(r".{4,}(?:ous|ful|less|ish|like|coloured|colored)")
ACTIONS = re.compile(r".{3,}(?:ed|ing)")


def split_sentences(block: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each sentence of a block."""
    for sentence in sentencex.get_sentence_boundaries("en", block):
        start, end = sentence["start_index"], sentence["end_index"]
        text = block[start:end]
        yield start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())


@lru_cache(maxsize=40_000)
def classify(word: str) -> int:
    """Return the class of a lower-case word: that of the word itself, of its dictionary form, of its ending."""
    class_of = words().class_of
    if word in class_of:
        return class_of[word]
    named = class_of.get(lemmatizer().lemmatize(word, "en").lower(), OTHER)
    is_action = ACTIONS.fullmatch(word) is not None
    if named != OTHER and not (is_action and named in NOUNS):
        return named
    if QUALITIES.fullmatch(word):
        return QUALITY
    return ACTION if is_action else OTHER


@cache
def words() -> Words:
    return load_words("en")


@cache
def lemmatizer() -> Lemmatizer:
    """Load the dictionary: 0.3 s and 4 MB. `classify` remembers words, so the second cache is left out."""
    return Lemmatizer(cache_max_size=1, lemmatization_strategy=DefaultStrategy(low_memory=True))
