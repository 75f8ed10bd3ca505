"""How values are written for people."""

from flask import Flask
from jinja2 import StrictUndefined

from admin.display.labels import as_call, as_json, asker, counted_in_page, outcome, role_word, short, state_word
from admin.display.numbers import (
    ago,
    bounded,
    clock,
    cpu,
    due,
    duration,
    exact,
    instant,
    minutes,
    number,
    open_for,
    percent,
    rate,
    since,
    size,
    so_far,
    timer,
    zone_label,
)
from admin.display.schedules import mark_words, minute, minute_utc, tick_state
from admin.display.truncate import brief
from engine.models import now


def register(app: Flask) -> None:
    filters = (
        ago,
        as_call,
        as_json,
        asker,
        bounded,
        brief,
        clock,
        cpu,
        due,
        duration,
        exact,
        instant,
        mark_words,
        minute,
        minute_utc,
        minutes,
        number,
        open_for,
        percent,
        rate,
        role_word,
        short,
        since,
        size,
        so_far,
        state_word,
        tick_state,
        timer,
    )
    app.jinja_env.filters.update({function.__name__: function for function in filters})
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        counted=counted_in_page, ngettext=counted_in_page, outcome=outcome, now=now, zone_label=zone_label
    )
