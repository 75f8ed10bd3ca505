"""Types of the parameters of commands: a length of time, an instant."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from admin.search.run_query import parse_ms


class Length(click.ParamType[timedelta]):
    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        ms = parse_ms(value)
        return timedelta(milliseconds=ms) if ms else self.fail("such as 30m, 4h or 2d is needed")


class Instant(click.ParamType[datetime]):
    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail("a date and time such as 2026-11-24T18:30 is needed")
        return at if at.tzinfo else at.replace(tzinfo=UTC)
