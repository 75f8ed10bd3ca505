"""Cron expressions of periodic tasks, which can be evaluated and shown."""

from datetime import datetime, timedelta

import huey


class Cron:
    """`schedule(at)` is True if the minute of `at` (UTC) matches. Raises ValueError for an invalid expression."""

    #: A full cycle of leap years: an expression without a match within it never matches.
    HORIZON = timedelta(days=8 * 366)

    def __init__(self, minute: str, hour: str, day: str, month: str, day_of_week: str) -> None:
        self.expression = f"{minute} {hour} {day} {month} {day_of_week}"
        self.matches = huey.crontab(minute, hour, day, month, day_of_week, strict=True)
        self.matches_day = huey.crontab("*", "*", day, month, day_of_week, strict=True)
        self.matches_hour = huey.crontab("*", hour, "*", "*", "*", strict=True)

    def __call__(self, at: datetime) -> bool:
        return bool(self.matches(at))

    def next(self, after: datetime) -> datetime | None:
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
    """Return a schedule like Huey's `crontab` that keeps its expression. Times are UTC."""
    return Cron(minute, hour, day, month, day_of_week)
