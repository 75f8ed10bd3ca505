"""Blocks without line breaks. Splitters take quadratic time for some of them."""

from itertools import pairwise

from reading.passages.blocks import find_blocks


def test_long_blocks_are_cut() -> None:
    blocks = list(find_blocks("I\n\n" + "a" * 100_001, 1))
    assert [end - start for start, end in blocks] == [20_000] * 5 + [1]
    assert all(one[1] == other[0] for one, other in pairwise(blocks))
