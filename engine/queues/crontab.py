"""When a periodic task is due: a cron expression that can be shown as well as asked."""

from datetime import datetime, timedelta

import huey


class Cron:
    """`schedule(at)` tells whether the minute of `at` (UTC) matches. Raises ValueError for what is no expression."""

    #: A whole cycle of leap years: what does not match within it never does.
    HORIZON = timedelta(days=8 * 366)

    def __init__(self, minute: str, hour: str, day: str, month: str, day_of_week: str) -> None:
        self.expression = f"{minute} {hour} {day} {month} {day_of_week}"
        self.matches = huey.crontab(minute, hour, day, month, day_of_week, strict=True)
        self.matches_day = huey.crontab("*", "*", day, month, day_of_week, strict=True)
        self.matches_hour = huey.crontab("*", hour, "*", "*", "*", strict=True)

    def __call__(self, at: datetime) -> bool:
        return bool(self.matches(at))

    def next(self, after: datetime) -> datetime | None:
        """The first matching minute after `after`; None where there is none."""
        at = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
        end = at + self.HORIZON
        while at < end:
            if not self.matches_day(at):
                at = at.replace(hour=0, minute=0) + timedelta(days=1)
            elif not self.matches_hour(at):
                at = at.replace(minute=0) + timedelta(hours=1)
            elif self.matches(at):
                return at
            else:
                at += timedelta(minutes=1)
        return None


def crontab(minute: str = "*", hour: str = "*", day: str = "*", month: str = "*", day_of_week: str = "*") -> Cron:
    """Huey's `crontab`, kept readable. Times are UTC."""
    return Cron(minute, hour, day, month, day_of_week)
