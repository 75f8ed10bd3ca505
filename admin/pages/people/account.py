"""Account page of the user: password, sessions, language, colours and time zone."""

import re

import pytz
from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from admin.auth.access import requires_role
from admin.auth.identity import IDLE_LIMIT, SESSION_LIMIT, Actor, current_actor, secret_digest
from admin.forms import datetimes
from admin.operations.account import SIGN_IN_NAME, own_account
from admin.operations.registry import execute
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from admin.problems import ConflictError, InvalidInput
from engine.models import now
from models import BrowserSession

SESSIONS = 30

#: Product names in user agents, most specific first: Edge also names Chrome and Safari.
BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari", "curl", "Python")
NAMES = {"Edg": "Edge", "OPR": "Opera"}
SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "Linux")


@blueprint.get("/me")
@requires_role("viewer")
def me() -> ResponseReturnValue:
    return account_page()


def account_page(wrong: InvalidInput | None = None) -> ResponseReturnValue:
    actor = load_person()
    as_of = now()
    own_sessions = (BrowserSession.operator == own_account(actor)) & BrowserSession.ended_at.is_null()
    unexpired = (BrowserSession.seen_at > as_of - IDLE_LIMIT) & (BrowserSession.created_at > as_of - SESSION_LIMIT)
    rows = list(
        BrowserSession.select().where(own_sessions & unexpired).order_by(BrowserSession.seen_at.desc()).limit(SESSIONS)
    )
    this_digest = secret_digest(actor.secret or "")
    answer = live_refresh.render_page(
        "people/me.html",
        sessions=[(row, row.digest[:SIGN_IN_NAME], row.digest == this_digest, browser_name(row.agent)) for row in rows],
        wrong=wrong,
        zone=datetimes.zone_name(),
        zones=pytz.common_timezones,
        chosen_zone=request.cookies.get("timezone", ""),
    )
    answer.status_code = 422 if wrong else answer.status_code
    return answer


def load_person() -> Actor:
    actor = current_actor()
    if actor.kind != "operator":
        abort(404, _("Tokens have no account page."))
    return actor


def browser_name(agent: str | None) -> str:
    """Return browser and system from the user agent, such as `Firefox 130 · Linux`."""
    text = agent or ""
    name = next((browser for browser in BROWSERS if browser.lower() in text.lower()), None)
    version = name and re.search(rf"(?i){name}[A-Za-z-]*/(\d+)", text)
    system = next((system for system in SYSTEMS if system in text), None)
    browser = name and f"{NAMES.get(name, name)}{f' {version[1]}' if version else ''}"
    return " · ".join(part for part in (browser, system) if part) or _("unknown browser")


@blueprint.post("/me/password", endpoint="me_password")
@requires_role("viewer")
def change_password() -> ResponseReturnValue:
    load_person()
    old, new, again = (request.form.get(name, "") for name in ("old", "new", "again"))
    try:
        if new != again:
            raise InvalidInput("again", _("must match the new password"))
        execute(current_actor(), "me.password", old=old, new=new)
    except InvalidInput as error:
        return account_page(error)
    flash(_("Password changed. Your other sessions are signed out."))
    return redirect(url_for("pages.me"), 303)


@blueprint.post("/me/sessions/<session>/end", endpoint="me_end_session")
@requires_role("viewer")
def end_session(session: str) -> ResponseReturnValue:
    load_person()
    try:
        execute(current_actor(), "me.end_session", session=session)
        flash(_("Session signed out."))
    except ConflictError as error:
        flash(str(error.description), "error")
    return redirect(url_for("pages.me"), 303)


@blueprint.post("/me/sessions/end-others", endpoint="me_end_other_sessions")
@requires_role("viewer")
def end_other_sessions() -> ResponseReturnValue:
    load_person()
    execute(current_actor(), "me.end_other_sessions")
    flash(_("Your other sessions are signed out."))
    return redirect(url_for("pages.me"), 303)
