"""Parameter types of commands: a duration and an instant."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from admin.search.run_query import parse_ms


class Length(click.ParamType[timedelta]):
    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        ms = parse_ms(value)
        return timedelta(milliseconds=ms) if ms else self.fail("must be a duration such as 30m, 4h or 2d")


class Instant(click.ParamType[datetime]):
    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail("must be a date and time such as 2026-11-24T18:30")
        return at if at.tzinfo else at.replace(tzinfo=UTC)
