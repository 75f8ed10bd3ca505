"""A table with a row per figure, a column per system, and ratios of Dewey to each."""

import statistics
from collections.abc import Mapping, Sequence


class Table:
    def __init__(self, systems: Sequence[str]) -> None:
        self.systems = list(systems)
        peers = [f"ours ÷ {name}" for name in self.systems[1:]]
        self.rows = [["", *self.systems, *peers, "goal"]]

    def add(self, label: str, results: Mapping[str, Sequence[float]], goal: str = "", lower: bool = False) -> None:
        """Add a row. `results`: the figures of each system by turn. `lower` is better, else higher."""
        ours = results[self.systems[0]]
        medians = [figure(statistics.median(results[name])) if results.get(name) else "" for name in self.systems]
        ratios = [ratio(ours, results[name]) if results.get(name) else "" for name in self.systems[1:]]
        self.rows.append([f"{label}{' ↓' if lower else ''}", *medians, *ratios, goal])

    def show(self) -> None:
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        for row in self.rows:
            first, *middle, goal = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(
                "  ".join(
                    [
                        first,
                        *(cell.strip().rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)),
                        goal,
                    ]
                ).rstrip()
            )
        print("↓ lower is better. In brackets: the smallest and the largest ratio of a turn.")


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    turns = [our / their for our, their in zip(ours, theirs, strict=True) if their]
    if not turns:
        return ""
    spread = f" ({min(turns):.2f}–{max(turns):.2f})" if len(turns) > 1 else ""
    return f"{statistics.median(turns):.2f}{spread}"
