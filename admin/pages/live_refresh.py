"""Pages that refresh themselves: `static/live.js` asks for them again, and they answer 304 until something has changed.

Tabs that show the same to the same person are answered from one rendering for `LIFE` seconds. That holds for what a
script asks for by itself and never for a person's own click, which always sees the truth. live.js waits twice as long
before it first asks, so that what a click has shown is not taken back.
"""

import re
from hashlib import blake2b

from flask import Flask, Response, current_app, make_response, render_template, request
from flask_babel import gettext as _
from flask_wtf.csrf import generate_csrf
from werkzeug.wrappers import Response as BaseResponse

from admin.auth.identity import asked_by_itself, current_actor
from admin.cache import Memory
from admin.i18n import language, theme, zone

#: Seconds. With the pause of live.js and the time of an answer it must stay below the two in which a change shows.
LIFE = 0.6

#: What differs between two renderings of one truth: the form token, the hour of rendering, the words of a running clock
#: (not the instant that it runs from).
PASSING = re.compile(r'<input[^>]*name="csrf_token"[^>]*>|<time[^>]*data-tick="now"[^>]*>[^<]*|(?<=">)[^<]*(?=</time>)')

#: Stands in a rendering that several sessions share; each gets its own.
TOKEN = "the-token-of-this-session"

memory = Memory[Response](LIFE, room=200)


def register(app: Flask) -> None:
    app.context_processor(
        lambda: {"refreshing": asked_by_itself(), "csrf_token": csrf_token, "script_words": script_words}
    )
    app.jinja_env.globals["csrf_token"] = csrf_token
    memory.forget()


def script_words() -> dict[str, str]:
    """What live.js says."""
    return {
        "d": _("%(count)s d"),
        "h": _("%(count)s h"),
        "min": _("%(count)s min"),
        "s": _("%(count)s s"),
        "now": _("now"),
        "ago": _("%(time)s ago"),
        "in": _("in %(time)s"),
        "fresh": _("updated just now"),
        "updated": _("updated %(time)s ago"),
        "paused": _("paused, updated %(time)s ago"),
        "pausing": _("The page is paused."),
        "going_on": _("The page refreshes itself again."),
        "gone": _("The server does not answer. What you see is from %(time)s; the page keeps trying."),
        "broken": _("The server could not answer. What you see is from %(time)s; the page keeps trying."),
        "out": _("You are signed out. What you see is from %(time)s."),
        "missing": _("What this page shows is not there any more. What you see is from %(time)s."),
        "back": _("The page is up to date again."),
    }


def csrf_token() -> str:
    return TOKEN if asked_by_itself() else str(generate_csrf())


def page(template: str, **context: object) -> BaseResponse:
    html = render_template(template, **context)
    response = make_response(html)
    response.set_etag(blake2b(PASSING.sub("", html).encode(), digest_size=12).hexdigest(), weak=True)
    return response if asked_by_itself() else response.make_conditional(request)


def answer_a_refresh() -> BaseResponse | None:
    """Stands before the views of the pages, behind the gate."""
    if not asked_by_itself():
        return None
    shared = memory.get(what_it_depends_on(), the_page)
    html = shared.get_data(as_text=True)
    response = make_response(html.replace(TOKEN, generate_csrf()) if TOKEN in html else html, shared.status_code)
    response.headers.extend((name, shared.headers[name]) for name in ("ETag", "Location") if name in shared.headers)
    return response.make_conditional(request)


def what_it_depends_on() -> tuple[object, ...]:
    actor = current_actor()
    return request.url, (actor.kind, actor.name, actor.role), language(), str(zone()), theme()


def the_page() -> Response:
    view = current_app.view_functions[request.endpoint or ""]
    return make_response(current_app.ensure_sync(view)(**(request.view_args or {})))
