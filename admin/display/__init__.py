"""Format values for people."""

from flask import Flask
from jinja2 import StrictUndefined
from markupsafe import Markup

from admin.display.labels import (
    call_text,
    ngettext_html,
    outcome_text,
    pretty_json,
    requester_text,
    role_word,
    short_id,
    state_word,
)
from admin.display.numbers import (
    format_ago,
    format_capped,
    format_cpu,
    format_due,
    format_duration,
    format_elapsed,
    format_instant,
    format_minutes,
    format_number,
    format_open_time,
    format_percent,
    format_rate,
    format_share,
    format_since,
    format_size,
    format_timer,
    full_timestamp,
    short_timestamp,
    zone_label,
)
from admin.display.schedules import bar_label, format_minute, format_minute_utc, tick_label
from admin.display.truncate import shorten
from config import settings
from engine.models import now


def register(app: Flask) -> None:
    filters = (
        format_ago,
        call_text,
        pretty_json,
        requester_text,
        format_capped,
        shorten,
        short_timestamp,
        format_cpu,
        format_due,
        format_duration,
        full_timestamp,
        format_instant,
        bar_label,
        format_minute,
        format_minute_utc,
        format_minutes,
        format_number,
        format_open_time,
        format_percent,
        format_rate,
        role_word,
        short_id,
        format_share,
        format_since,
        format_size,
        format_elapsed,
        state_word,
        tick_label,
        format_timer,
    )
    app.jinja_env.filters.update({function.__name__.removeprefix("format_"): function for function in filters})
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        counted=ngettext_html,
        ngettext=ngettext_html,
        outcome=outcome_text,
        now=now,
        zone_label=zone_label,
        run_command=Markup("<code>{}</code>").format(settings.run_command),
    )
