"""Format numbers, sizes, durations and times."""

from datetime import UTC, datetime, timedelta
from functools import cache

from babel import Locale
from babel.dates import format_datetime
from babel.numbers import format_percent as format_fraction
from babel.numbers import get_decimal_symbol, get_group_symbol
from flask_babel import get_locale
from flask_babel import gettext as _

from admin.i18n import current_zone
from engine.models import now
from engine.search.pagination import COUNT_LIMIT

NONE = "–"
MINUTE, HOUR, DAY = 60, 3600, 86_400
ENGLISH = Locale("en")


def current_locale() -> Locale:
    """Return the locale of the request, English outside one."""
    return get_locale() or ENGLISH


# --- numbers -------------------------------------------------------------------------------------------------


def format_number(value: float | None) -> str:
    """Format 1234567 as 1,234,567 and 23.50 as 23.5."""
    if value is None:
        return NONE
    return localise_number(f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else f"{value:,}")


def localise_number(figure: str) -> str:
    """Replace the separators of a Python number with those of the reader's language."""
    return figure.translate(number_signs(current_locale()))


@cache
def number_signs(language: Locale) -> dict[int, str]:
    return str.maketrans({",": get_group_symbol(language), ".": get_decimal_symbol(language)})


def format_capped(count: int) -> str:
    """Format a count that was capped at COUNT_LIMIT."""
    return f"{format_number(COUNT_LIMIT)}+" if count > COUNT_LIMIT else format_number(count)


def format_percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0
    return f"<\u00a0{format_share(0.1)}" if 0 < share < 0.1 else format_share(share)


def format_share(percent: float) -> str:
    """Format as 3.1%, in Russian as 3,1 % with a no-break space."""
    pattern = current_locale().percent_formats[None].pattern.replace("##0", "##0.#")
    return str(format_fraction(percent / 100, pattern, locale=current_locale()))


# --- times ---------------------------------------------------------------------------------------------------


def format_duration(ms: float | None) -> str:
    """Format as 41 ms, 1.2 s, 48 s, 4 min 12 s, 3 h 5 min or 2 d 4 h."""
    if ms is None:
        return NONE
    if ms < 1:
        return _("< 1 ms")
    if ms < 999.5:
        return _("%(count)s ms", count=f"{ms:.0f}")
    if ms < 9950:
        return _("%(count)s s", count=localise_number(f"{ms / 1000:.1f}"))
    return largest_units(round(ms / 1000))


def format_minutes(value: int | None) -> str:
    if value is None:
        return NONE
    return largest_units(value * MINUTE) if value > 0 else _("%(count)s min", count=value)


def duration_units() -> list[tuple[int, str]]:
    """Return seconds and pattern of each unit, the largest first."""
    return [(DAY, _("%(count)s d")), (HOUR, _("%(count)s h")), (MINUTE, _("%(count)s min")), (1, _("%(count)s s"))]


def largest_units(seconds: int) -> str:
    """Return the two largest units, without the smaller one if it is 0."""
    sizes = duration_units()
    first = next((i for i, (size, _pattern) in enumerate(sizes) if seconds >= size), len(sizes) - 1)
    parts: list[str] = []
    for size, pattern in sizes[first : first + 2]:
        count, seconds = divmod(seconds, size)
        if count or not parts:
            parts.append(pattern % {"count": count})
    return " ".join(parts)


def largest_unit(seconds: int) -> str:
    size, pattern = next(unit for unit in duration_units() if seconds >= unit[0])
    return pattern % {"count": format_number(seconds // size)}


def format_timer(until: datetime, at: datetime | None = None) -> str:
    """Return the time left as mm:ss, from an hour as h:mm:ss."""
    left = max(0, round((until - (at or now())).total_seconds()))
    hours, rest = divmod(left, HOUR)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"


def format_ago(instant: datetime, at: datetime | None = None) -> str:
    seconds = round(((at or now()) - instant).total_seconds())
    if abs(seconds) < 2:
        return _("now")
    if seconds > 0:
        return _("%(time)s ago", time=largest_unit(seconds))
    return _("in %(time)s", time=largest_unit(-seconds))


def format_due(instant: datetime, at: datetime | None = None) -> str:
    return format_ago(instant, at) if instant > (at or now()) else _("now")


def short_timestamp(instant: datetime, at: datetime | None = None) -> str:
    """Return 17:30:00 for today, 22 Nov 17:30 for this year, 22 Nov 2025 for other years."""
    instant, at = instant.astimezone(current_zone()), (at or now()).astimezone(current_zone())
    if instant.date() == at.date():
        return f"{instant:%H:%M:%S}"
    pattern = "d MMM HH:mm" if instant.year == at.year else "d MMM y"
    return str(format_datetime(instant, pattern, tzinfo=instant.tzinfo, locale=current_locale()))


def zone_label(at: datetime | None = None) -> str:
    """Return the name of the reader's zone at that time: UTC, CET, UTC+03."""
    return zone_name((at or now()).astimezone(current_zone()))


def zone_name(at: datetime) -> str:
    """Return the name of the zone of `at`."""
    name = at.tzname() or ""
    return name if name.isalpha() else f"UTC{name}"


def format_elapsed(instant: datetime, at: datetime | None = None) -> str:
    """Return the time since `instant` in whole seconds."""
    return largest_units(max(0, int(((at or now()) - instant).total_seconds())))


def format_open_time(instant: datetime, at: datetime | None = None) -> str:
    """Return the time since `instant`, from a minute on in whole minutes, so that a column changes rarely."""
    seconds = int(((at or now()) - instant).total_seconds())
    return largest_units(max(0, seconds if seconds < MINUTE else seconds // MINUTE * MINUTE))


def format_since(ms: float) -> datetime:
    """Return the start time to the second, so that two pages of the same moment show the same."""
    return (now() - timedelta(milliseconds=ms)).replace(microsecond=0)


def format_instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def full_timestamp(instant: datetime) -> str:
    """Return the time to the millisecond, in the reader's zone and in UTC."""
    utc, local = (
        f"{at:%Y-%m-%d %H:%M:%S.%f}"[:-3] for at in (instant.astimezone(UTC), instant.astimezone(current_zone()))
    )
    return f"{utc} UTC" if local == utc else f"{local} {zone_label(instant)} · {utc} UTC"


def format_size(count: float | None) -> str:
    """Format bytes as 512 B, 1.4 KB, 38 MB or 2.1 GB, in steps of 1,024."""
    if count is None:
        return NONE
    step = 0
    while count >= 999.5 and step < 4:
        count, step = count / 1024, step + 1
    shown = localise_number(f"{count:.1f}".removesuffix(".0") if step and count < 9.95 else f"{count:.0f}")
    units = (_("%(count)s B"), _("%(count)s KB"), _("%(count)s MB"), _("%(count)s GB"), _("%(count)s TB"))
    return str(units[step]) % {"count": shown}


def format_rate(per_minute: float) -> str:
    """Format a rate per minute as 0, 0.4, 12 or 1,204."""
    return format_number(round(per_minute, 1) if per_minute < 10 else round(per_minute))


def format_cpu(percent: float) -> str:
    """Format the share of one core in whole percent, so that an idle one does not flicker."""
    return format_share(round(percent))
