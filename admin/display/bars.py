"""Where bars stand side by side, for every chart of the console."""

from typing import NamedTuple

#: A bar is at least this share of the height: a few failures among thousands of runs must show.
SMALLEST_SHARE = 0.08


class BarRow(NamedTuple):
    """So many `places` of the same width. `gap`: the share of a place that its bar leaves free, half on each side."""

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
        """`width` in places."""
        return f"{width * (100 / self.places):.2f}%"


def bar_share(count: int, highest: int) -> float:
    """Return the height of a bar as a share of the highest one, 0 for no count."""
    return round(max(count / highest, SMALLEST_SHARE), 3) if count > 0 else 0


def bar_path(left: float, floor: float, width: float, height: float) -> str:
    """Return the outline of a bar from its lower left corner, without its lower edge."""
    return f"M{left:g} {floor:g}v-{height:.3g}h{width:g}v{height:.3g}"
