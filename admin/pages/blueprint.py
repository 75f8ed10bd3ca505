"""What all pages of the console share: their blueprint, the way from one to another, and the paging of long lists."""

from typing import NamedTuple

from flask import Blueprint, current_app, request
from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString
from peewee import Field, ModelSelect

from admin.pages import live_refresh
from admin.problems import BadInput
from engine.search import pagination
from engine.search.pagination import Page, Row

ROWS = 30

blueprint = Blueprint("pages", __name__)
blueprint.before_request(live_refresh.answer_a_refresh)
blueprint.app_context_processor(lambda: {"navigation": navigation})


class Place(NamedTuple):
    """A page of its own in the navigation; `g` and its key lead there."""

    endpoint: str
    label: LazyString
    key: str


#: Whether all is well, the work, what carries it, who may steer it, how to. Pages that do not exist are not shown.
NAVIGATION = (
    (
        Place("pages.overview", lazy_gettext("Overview"), "o"),
        Place("pages.alerts", lazy_gettext("Alerts"), "a"),
        Place("pages.sessions", lazy_gettext("Sessions"), "s"),
    ),
    (
        Place("pages.runs", lazy_gettext("Runs"), "r"),
        Place("pages.errors", lazy_gettext("Errors"), "e"),
        Place("pages.dead", lazy_gettext("Dead runs"), "d"),
        Place("pages.tasks", lazy_gettext("Tasks"), "t"),
        Place("pages.schedule", lazy_gettext("Schedule"), "c"),
    ),
    (
        Place("pages.queues", lazy_gettext("Queues"), "q"),
        Place("pages.workers", lazy_gettext("Workers"), "w"),
    ),
    (
        Place("pages.audit", lazy_gettext("Audit"), "u"),
        Place("pages.operators", lazy_gettext("Operators"), "p"),
        Place("pages.tokens", lazy_gettext("Tokens"), "k"),
    ),
    (
        Place("pages.api_docs", lazy_gettext("API"), "i"),
        Place("pages.help", lazy_gettext("Help"), "h"),
    ),
)


def navigation() -> list[list[Place]]:
    existing = current_app.view_functions
    groups = [[item for item in group if item.endpoint in existing] for group in NAVIGATION]
    return [group for group in groups if group]


def page_of(query: "ModelSelect[Row]", newest_first: Field, key: Field) -> Page[Row]:
    try:
        return pagination.page(query, newest_first, key, ROWS, request.args.get("before", ""))
    except pagination.BadPage as error:
        raise BadInput("before", str(error)) from error
