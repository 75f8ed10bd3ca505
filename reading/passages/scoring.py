"""Score of a passage: how densely its words show a place, a person or the weather."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from reading.passages.words import CLASSES, Words

WORD = re.compile(r"[^\W\d_]+(?:[-’'][^\W\d_]+)*")

#: Type of a passage → the classes that speak for it, and how strongly.
TYPES = {
    "location": {"place": 1.0, "room": 0.4},
    "character": {"person": 1.0, "body": 0.7},
    "atmosphere": {"weather": 1.0, "time": 0.6},
}
#: Priority of a type, as the reading app's first extractor defined it.
TYPE_PRIORITY = {"location": 75, "character": 60, "atmosphere": 45}
BEST_LENGTH = 300


class Counts(NamedTuple):
    """Words of a text, by class."""

    words: int
    by_class: tuple[int, ...]

    def plus(self, other: "Counts") -> "Counts":
        return Counts(self.words + other.words, tuple(map(int.__add__, self.by_class, other.by_class)))


def count_words(text: str, classify: Callable[[str], int]) -> Counts:
    by_class = [0] * len(CLASSES)
    found = WORD.findall(text.lower())
    for word in found:
        by_class[classify(word)] += 1
    return Counts(len(found), tuple(by_class))


def measure_confidence(counts: Counts, words: Words) -> float:
    """Return a number from 0 to 1: the logistic function of the weighted shares of the classes."""
    root = math.sqrt(counts.words or 1)
    score = words.bias + sum(map(float.__mul__, words.weights, map(float, counts.by_class))) / root
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, score))))


def find_type(counts: Counts) -> str:
    shares = {
        kind: sum(weight * counts.by_class[CLASSES.index(name)] for name, weight in classes.items())
        for kind, classes in TYPES.items()
    }
    return max(shares, key=lambda kind: shares[kind])


def compute_priority(kind: str, confidence: float, length: int) -> float:
    """Return 0–100: the type, up to 20 for confidence, and up to 15 for a length that a picture can hold."""
    length_score = 15.0 if length <= BEST_LENGTH else max(0.0, 15 - (length - BEST_LENGTH) / 50)
    return min(100.0, TYPE_PRIORITY[kind] + confidence * 20 + length_score)
