"""How values are written for people. `register` gives the templates their filters."""

from flask import Flask
from jinja2 import StrictUndefined

from admin.cut import brief
from admin.figures import (
    ago,
    bounded,
    clock,
    due,
    duration,
    exact,
    instant,
    minutes,
    number,
    open_for,
    percent,
    since,
    so_far,
    timer,
    zone_label,
)
from admin.measures import cpu, rate, size
from admin.schedule_rows import mark_words, minute, minute_utc, tick_state
from admin.words import as_call, as_json, asker, counted_in_page, outcome, role_word, short, state_word
from engine.records import now


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
    app.jinja_env.filters.update({one.__name__: one for one in filters})
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        counted=counted_in_page, ngettext=counted_in_page, outcome=outcome, now=now, zone_label=zone_label
    )
