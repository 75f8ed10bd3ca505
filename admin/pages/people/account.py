"""One's own page: password, signed-in browsers, language, colours and time zone."""

import re

import pytz
from flask import Response, abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from admin.auth.access import needs
from admin.auth.identity import IDLE, LONGEST, Who, current_actor, digest_of
from admin.auth.login import WRONG_TRIES_PER_ACCOUNT, limiter
from admin.forms import datetimes
from admin.operations.account import SIGN_IN_NAME, oneself
from admin.operations.registry import perform
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from admin.problems import BadInput, Refused
from engine.models import now
from models import SignIn

SESSIONS = 30

#: What a browser calls itself, in the order in which it can be believed.
BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari", "curl", "Python")
NAMES = {"Edg": "Edge", "OPR": "Opera"}
SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "Linux")


@blueprint.get("/me")
@needs("viewer")
def me() -> ResponseReturnValue:
    return page()


def page(wrong: BadInput | None = None) -> ResponseReturnValue:
    actor = person()
    as_of = now()
    own_sessions = (SignIn.operator == oneself(actor)) & SignIn.ended_at.is_null()
    unexpired = (SignIn.seen_at > as_of - IDLE) & (SignIn.created_at > as_of - LONGEST)
    rows = list(SignIn.select().where(own_sessions & unexpired).order_by(SignIn.seen_at.desc()).limit(SESSIONS))
    this_digest = digest_of(actor.secret or "")
    answer = live_refresh.page(
        "people/me.html",
        sessions=[(row, row.digest[:SIGN_IN_NAME], row.digest == this_digest, browser_of(row.agent)) for row in rows],
        wrong=wrong,
        zone=datetimes.zone_name(),
        zones=pytz.common_timezones,
        chosen_zone=request.cookies.get("timezone", ""),
    )
    answer.status_code = 422 if wrong else answer.status_code
    return answer


def person() -> Who:
    actor = current_actor()
    if actor.kind != "operator":
        abort(404, _("A token has no page of its own."))
    return actor


def browser_of(agent: str | None) -> str:
    """`Firefox 130 · Linux`, as far as it tells."""
    text = agent or ""
    name = next((browser for browser in BROWSERS if browser.lower() in text.lower()), None)
    version = name and re.search(rf"(?i){name}[A-Za-z-]*/(\d+)", text)
    system = next((system for system in SYSTEMS if system in text), None)
    browser = name and f"{NAMES.get(name, name)}{f' {version[1]}' if version else ''}"
    return " · ".join(part for part in (browser, system) if part) or _("unknown browser")


def wrong_password(response: Response) -> bool:
    return response.status_code == 422


def account() -> str:
    return digest_of(current_actor().name)


@blueprint.post("/me/password", endpoint="me_password")
@needs("viewer")
@limiter.limit(WRONG_TRIES_PER_ACCOUNT, key_func=account, deduct_when=wrong_password)
def change_password() -> ResponseReturnValue:
    person()
    old, new, again = (request.form.get(name, "") for name in ("old", "new", "again"))
    try:
        if new != again:
            raise BadInput("again", _("the two new passwords differ"))
        perform(current_actor(), "me.password", old=old, new=new)
    except BadInput as error:
        return page(error)
    flash(_("Your password is changed, and your other sessions have ended."))
    return redirect(url_for("pages.me"), 303)


@blueprint.post("/me/sessions/<session>/end", endpoint="me_end_session")
@needs("viewer")
def end_session(session: str) -> ResponseReturnValue:
    person()
    try:
        perform(current_actor(), "me.end_session", session=session)
        flash(_("The session has ended."))
    except Refused as error:
        flash(str(error.description), "error")
    return redirect(url_for("pages.me"), 303)


@blueprint.post("/me/sessions/end-others", endpoint="me_end_other_sessions")
@needs("viewer")
def end_other_sessions() -> ResponseReturnValue:
    person()
    perform(current_actor(), "me.end_other_sessions")
    flash(_("Your other sessions have ended."))
    return redirect(url_for("pages.me"), 303)
