"""Sizes and rates, as the pages write them."""

from flask_babel import gettext as _

from admin.figures import NONE, number, signs


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
