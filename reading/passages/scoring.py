"""Score of a passage: how densely its words show a place, a person or the weather."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from reading.passages.words import CLASSES, Words

WORD = re.compile(r"[^\W\d_]+(?:[-’'][^\W\d_]+)*")

#: Type of a passage → the classes that suggest it, and how strongly.
TYPES = {
    "location": {"place": 1.0, "room": 0.4},
    "character": {"person": 1.0, "body": 0.7},
    "atmosphere": {"weather": 1.0, "time": 0.6},
}
#: The priority of each type in the reading app.
TYPE_PRIORITY = {"location": 75, "character": 60, "atmosphere": 45}
#: Characters up to which a passage loses no priority.
BEST_LENGTH = 300


class Counts(NamedTuple):
    """Words of a text, and words of each class."""

    words: int
    by_class: tuple[int, ...]

    def plus(self, other: "Counts") -> "Counts":
        by_class = (one + more for one, more in zip(self.by_class, other.by_class, strict=True))
        return Counts(self.words + other.words, tuple(by_class))


def count_classes(text: str, classify: Callable[[str], int]) -> Counts:
    by_class = [0] * len(CLASSES)
    words = WORD.findall(text.lower())
    for word in words:
        by_class[classify(word)] += 1
    return Counts(len(words), tuple(by_class))


def measure_confidence(counts: Counts, words: Words) -> float:
    """Return 0–1: the logistic function of the weighted counts, divided by the root of the length."""
    weighted = sum(weight * count for weight, count in zip(words.weights, counts.by_class, strict=True))
    return 1 / (1 + math.exp(-words.bias - weighted / math.sqrt(counts.words or 1)))


def find_type(counts: Counts) -> str:
    shares = {
        kind: sum(weight * counts.by_class[CLASSES.index(name)] for name, weight in classes.items())
        for kind, classes in TYPES.items()
    }
    return max(shares, key=lambda kind: shares[kind])


def compute_priority(kind: str, confidence: float, length: int) -> float:
    """Return 0–100: the type, up to 20 for confidence, and 15 for a length up to 300, less 1 per 50 beyond."""
    length_score = max(0.0, 15 - max(0, length - BEST_LENGTH) / 50)
    return min(100.0, TYPE_PRIORITY[kind] + confidence * 20 + length_score)
