"""How numbers, sizes, durations and times are written."""

from datetime import UTC, datetime, timedelta
from functools import cache

from babel import Locale
from babel.dates import format_datetime
from babel.numbers import get_decimal_symbol, get_group_symbol
from flask_babel import get_locale
from flask_babel import gettext as _

from admin.i18n import zone
from engine.models import now
from engine.search.pagination import COUNTED_TO

NONE = "–"
MINUTE, HOUR, DAY = 60, 3600, 86_400
ENGLISH = Locale("en")


def locale() -> Locale:
    """English where nobody reads a page."""
    return get_locale() or ENGLISH


# --- numbers -------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """1234567 → 1,234,567; 23.50 → 23.5."""
    if value is None:
        return NONE
    return signs(f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else f"{value:,}")


def signs(figure: str) -> str:
    """A figure as Python writes it, with the signs that the reader's language has for thousands and fractions."""
    return figure.translate(signs_of(locale()))


@cache
def signs_of(language: Locale) -> dict[int, str]:
    return str.maketrans({",": get_group_symbol(language), ".": get_decimal_symbol(language)})


def bounded(count: int) -> str:
    """A count that was not taken further than anyone reads."""
    return f"{number(COUNTED_TO)}+" if count > COUNTED_TO else number(count)


def percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0
    if 0 < share < 0.1:
        return signs("< 0.1 %")
    return signs(f"{share:.1f}".removesuffix(".0") + " %")


# --- times ---------------------------------------------------------------------------------------------------


def duration(ms: float | None) -> str:
    """41 ms, 1.2 s, 48 s, 4 min 12 s, 3 h 5 min, 2 d 4 h."""
    if ms is None:
        return NONE
    if ms < 1:
        return _("< 1 ms")
    if ms < 999.5:
        return _("%(count)s ms", count=f"{ms:.0f}")
    if ms < 9950:
        return _("%(count)s s", count=signs(f"{ms / 1000:.1f}"))
    return spell(round(ms / 1000))


def minutes(value: int | None) -> str:
    if value is None:
        return NONE
    return spell(value * MINUTE) if value > 0 else _("%(count)s min", count=value)


def units() -> list[tuple[int, str]]:
    """The largest first: seconds, and how so many of it are written."""
    return [(DAY, _("%(count)s d")), (HOUR, _("%(count)s h")), (MINUTE, _("%(count)s min")), (1, _("%(count)s s"))]


def spell(seconds: int) -> str:
    """The two largest units, the smaller one only where it is not 0."""
    sizes = units()
    first = next((i for i, (size, _pattern) in enumerate(sizes) if seconds >= size), len(sizes) - 1)
    parts: list[str] = []
    for size, pattern in sizes[first : first + 2]:
        count, seconds = divmod(seconds, size)
        if count or not parts:
            parts.append(pattern % {"count": count})
    return " ".join(parts)


def largest(seconds: int) -> str:
    size, pattern = next(unit for unit in units() if seconds >= unit[0])
    return pattern % {"count": number(seconds // size)}


def timer(until: datetime, at: datetime | None = None) -> str:
    """mm:ss that are left, h:mm:ss from an hour on."""
    left = max(0, round((until - (at or now())).total_seconds()))
    hours, rest = divmod(left, HOUR)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"


def ago(instant: datetime, at: datetime | None = None) -> str:
    seconds = round(((at or now()) - instant).total_seconds())
    if abs(seconds) < 2:
        return _("now")
    if seconds > 0:
        return _("%(time)s ago", time=largest(seconds))
    return _("in %(time)s", time=largest(-seconds))


def due(instant: datetime, at: datetime | None = None) -> str:
    return ago(instant, at) if instant > (at or now()) else _("now")


def clock(instant: datetime, at: datetime | None = None) -> str:
    """17:30:00 today, 22 Nov 17:30 this year, 22 Nov 2025 before (or after) it."""
    instant, at = instant.astimezone(zone()), (at or now()).astimezone(zone())
    if instant.date() == at.date():
        return f"{instant:%H:%M:%S}"
    pattern = "d MMM HH:mm" if instant.year == at.year else "d MMM y"
    return str(format_datetime(instant, pattern, tzinfo=instant.tzinfo, locale=locale()))


def zone_label(at: datetime | None = None) -> str:
    """What the reader's zone is called at that time: UTC, CET, UTC+03."""
    return zone_name((at or now()).astimezone(zone()))


def zone_name(at: datetime) -> str:
    """Of the instant's own zone."""
    name = at.tzname() or ""
    return name if name.isalpha() else f"UTC{name}"


def so_far(instant: datetime, at: datetime | None = None) -> str:
    """How long it has lasted, in whole seconds."""
    return spell(max(0, int(((at or now()) - instant).total_seconds())))


def open_for(instant: datetime, at: datetime | None = None) -> str:
    """How long it has lasted, in whole minutes after the first one: a column of these does not fidget."""
    seconds = int(((at or now()) - instant).total_seconds())
    return spell(max(0, seconds if seconds < MINUTE else seconds // MINUTE * MINUTE))


def since(ms: float) -> datetime:
    """When it began, to the second: two pages that are asked for at once agree on it."""
    return (now() - timedelta(milliseconds=ms)).replace(microsecond=0)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def exact(instant: datetime) -> str:
    """To the millisecond, in the reader's zone and in UTC."""
    utc, local = (f"{at:%Y-%m-%d %H:%M:%S.%f}"[:-3] for at in (instant.astimezone(UTC), instant.astimezone(zone())))
    return f"{utc} UTC" if local == utc else f"{local} {zone_label(instant)} · {utc} UTC"


def size(count: float | None) -> str:
    """512 B, 1.4 KB, 38 MB, 2.1 GB: steps of 1,024."""
    if count is None:
        return NONE
    step = 0
    while count >= 999.5 and step < 4:
        count, step = count / 1024, step + 1
    shown = signs(f"{count:.1f}".removesuffix(".0") if step and count < 9.95 else f"{count:.0f}")
    units = (_("%(count)s B"), _("%(count)s KB"), _("%(count)s MB"), _("%(count)s GB"), _("%(count)s TB"))
    return str(units[step]) % {"count": shown}


def rate(per_minute: float) -> str:
    """0, 0.4, 12, 1,204: how many a minute."""
    return number(round(per_minute, 1) if per_minute < 10 else round(per_minute))


def cpu(percent: float) -> str:
    """Of one core, in whole percent, so that an idle one does not fidget."""
    return f"{percent:.0f} %"
