"""Auto-refresh of pages: `static/live.js` polls them, and they return 304 until something has changed.

Tabs that show the same page to the same user share one rendering for `CACHE_SECONDS`. Only polls are cached: a click
always gets a new rendering. live.js waits twice as long before its first poll, so it never shows an older state than
the click did.
"""

import re
from hashlib import blake2b

from flask import Flask, Response, current_app, make_response, render_template, request
from flask_babel import gettext as _
from flask_wtf.csrf import generate_csrf
from werkzeug.wrappers import Response as BaseResponse

from admin.auth.identity import current_actor, is_auto_refresh
from admin.cache import SharedCache
from admin.i18n import current_language, current_theme, current_zone

#: Cache lifetime in seconds. Together with the poll interval of live.js it must stay under two seconds.
CACHE_SECONDS = 0.6

#: Parts that differ between two renderings of the same state: the form token, the time of rendering, the text of a
#: running clock (not the instant it runs from).
TRANSIENT_PARAMETERS = re.compile(
    r'<input[^>]*name="csrf_token"[^>]*>|<time[^>]*data-tick="now"[^>]*>[^<]*|(?<=">)[^<]*(?=</time>)'
)

#: Placeholder in a shared rendering. Each session gets its own token in its place.
TOKEN_PLACEHOLDER = "the-token-of-this-session"

page_cache = SharedCache[Response](CACHE_SECONDS, room=200)


def register(app: Flask) -> None:
    app.context_processor(
        lambda: {"refreshing": is_auto_refresh(), "csrf_token": csrf_token, "script_words": script_messages}
    )
    app.jinja_env.globals["csrf_token"] = csrf_token
    page_cache.forget()


def script_messages() -> dict[str, str]:
    """Return the messages of live.js by key."""
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
        "pausing": _("Refreshing is paused."),
        "going_on": _("Refreshing resumed."),
        "gone": _("The server is unavailable. This page shows data from %(time)s and keeps retrying."),
        "broken": _("The server returned an error. This page shows data from %(time)s and keeps retrying."),
        "out": _("You are signed out. This page shows data from %(time)s."),
        "missing": _("The item on this page no longer exists. This page shows data from %(time)s."),
        "back": _("The page is up to date again."),
    }


def csrf_token() -> str:
    return TOKEN_PLACEHOLDER if is_auto_refresh() else str(generate_csrf())


def render_page(template: str, **context: object) -> BaseResponse:
    html = render_template(template, **context)
    response = make_response(html)
    response.set_etag(blake2b(TRANSIENT_PARAMETERS.sub("", html).encode(), digest_size=12).hexdigest(), weak=True)
    return response if is_auto_refresh() else response.make_conditional(request)


def answer_refresh() -> BaseResponse | None:
    """Return the shared rendering for a poll. Runs before every view, after the access check."""
    if not is_auto_refresh():
        return None
    shared = page_cache.get(cache_key(), render_current_page)
    html = shared.get_data(as_text=True)
    response = make_response(
        html.replace(TOKEN_PLACEHOLDER, generate_csrf()) if TOKEN_PLACEHOLDER in html else html, shared.status_code
    )
    response.headers.extend((name, shared.headers[name]) for name in ("ETag", "Location") if name in shared.headers)
    return response.make_conditional(request)


def cache_key() -> tuple[object, ...]:
    actor = current_actor()
    return request.url, (actor.kind, actor.name, actor.role), current_language(), str(current_zone()), current_theme()


def render_current_page() -> Response:
    view = current_app.view_functions[request.endpoint or ""]
    return make_response(current_app.ensure_sync(view)(**(request.view_args or {})))
