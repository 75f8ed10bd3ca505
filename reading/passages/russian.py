"""Russian: sentences by razdel, dictionary forms and parts of speech by pymorphy3."""

from collections.abc import Iterator
from functools import cache, lru_cache

import razdel
from pymorphy3 import MorphAnalyzer

from reading.passages.words import CLASSES, OTHER, Words, load_words

LOOK, QUALITY, ACTION = (CLASSES.index(name) for name in ("look", "quality", "action"))
PRONOUN = "Apro"
#: Part of speech → class of a word that the lists omit.
CLASS_OF_PART = {
    **dict.fromkeys(("ADJF", "ADJS", "PRTF", "PRTS"), QUALITY),
    **dict.fromkeys(("VERB", "INFN", "GRND"), ACTION),
}


def split_sentences(block: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each sentence of a block."""
    return ((sentence.start, sentence.stop) for sentence in razdel.sentenize(block))


@lru_cache(maxsize=40_000)
def classify(word: str) -> int:
    """Return the class of a lower-case word."""
    parse = analyzer().parse(word)[0]
    part = parse.tag.POS
    named = words().class_of.get(parse.normal_form.replace("ё", "е"), OTHER)
    if named == LOOK and CLASS_OF_PART.get(part) == ACTION:
        return ACTION
    if named == OTHER and PRONOUN not in parse.tag:
        return CLASS_OF_PART.get(part, OTHER)
    return named


@cache
def words() -> Words:
    return load_words("ru")


@cache
def analyzer() -> MorphAnalyzer:
    """Load the dictionary: 0.1 s and 25 MB."""
    return MorphAnalyzer(lang="ru")
