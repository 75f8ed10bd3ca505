"""Passages of a book that are worth a picture: places, people and weather, in Russian and English."""

from reading.passages.finder import Passage, find_passages

__all__ = ["Passage", "find_passages"]
