"""Positions of bars, for every chart of the console."""

from typing import NamedTuple

#: Minimum height, so that a few failures among thousands of runs are visible.
SMALLEST_SHARE = 0.08


class BarRow(NamedTuple):
    """`places` of the same width. `gap`: the free share of a place, half on each side."""

    places: int
    gap: float

    def left(self, place: int) -> str:
        return self.percent(place + self.gap / 2)

    def middle(self, place: int) -> str:
        return self.percent(place + 0.5)

    @property
    def width(self) -> str:
        return self.percent(1 - self.gap)

    def percent(self, width: float) -> str:
        """Return a width in places as percent."""
        return f"{width * (100 / self.places):.2f}%"


def bar_share(count: int, highest: int) -> float:
    """Return the height of a bar as a share of the highest one, 0 for no count."""
    return round(max(count / highest, SMALLEST_SHARE), 3) if count > 0 else 0


def bar_path(left: float, floor: float, width: float, height: float) -> str:
    """Return the outline of a bar from its lower left corner, without its lower edge."""
    return f"M{left:g} {floor:g}v-{height:.3g}h{width:g}v{height:.3g}"
