"""Blueprint, navigation and paging shared by all pages of the console."""

from typing import NamedTuple

from flask import Blueprint, current_app, request
from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString
from peewee import Field, ModelSelect

from admin.pages import live_refresh
from admin.problems import InvalidInput
from engine.search import pagination
from engine.search.pagination import Page, Row

ROWS_PER_PAGE = 30

blueprint = Blueprint("pages", __name__)
blueprint.before_request(live_refresh.answer_refresh)
blueprint.app_context_processor(lambda: {"navigation": navigation})


class NavItem(NamedTuple):
    """An entry of the navigation. `key`: pressed after `g`, it opens the page."""

    endpoint: str
    label: LazyString
    key: str


#: Groups: status, work, infrastructure, access, reference. `navigation` leaves out pages that do not exist.
NAVIGATION = (
    (
        NavItem("pages.overview", lazy_gettext("Overview"), "o"),
        NavItem("pages.alerts", lazy_gettext("Alerts"), "a"),
        NavItem("pages.sessions", lazy_gettext("Sessions"), "s"),
    ),
    (
        NavItem("pages.runs", lazy_gettext("Runs"), "r"),
        NavItem("pages.errors", lazy_gettext("Errors"), "e"),
        NavItem("pages.dead", lazy_gettext("Dead runs"), "d"),
        NavItem("pages.tasks", lazy_gettext("Tasks"), "t"),
        NavItem("pages.schedule", lazy_gettext("Schedule"), "c"),
    ),
    (
        NavItem("pages.queues", lazy_gettext("Queues"), "q"),
        NavItem("pages.workers", lazy_gettext("Workers"), "w"),
    ),
    (
        NavItem("pages.audit", lazy_gettext("Audit"), "u"),
        NavItem("pages.operators", lazy_gettext("Users"), "p"),
        NavItem("pages.tokens", lazy_gettext("Tokens"), "k"),
    ),
    (
        NavItem("pages.api_docs", lazy_gettext("API"), "i"),
        NavItem("pages.help", lazy_gettext("Help"), "h"),
    ),
)


def navigation() -> list[list[NavItem]]:
    existing = current_app.view_functions
    groups = [[item for item in group if item.endpoint in existing] for group in NAVIGATION]
    return [group for group in groups if group]


def paginate(query: "ModelSelect[Row]", newest_first: Field, key: Field) -> Page[Row]:
    try:
        return pagination.fetch_page(query, newest_first, key, ROWS_PER_PAGE, request.args.get("before", ""))
    except pagination.InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error
