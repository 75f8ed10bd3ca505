"""Language, time zone and theme of the console. They are stored in cookies, so they apply before sign-in.

The language is the chosen one, else LANGUAGE if it is set, else the first supported one of the browser. Programs and
the terminal get English.
"""

import re
from functools import cache
from io import BytesIO
from typing import Any

import pytz
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from flask import Flask, has_request_context, request
from flask_babel import Babel, Domain, get_locale

from admin.problems import wants_json
from config import LANGUAGES, ROOT, settings

THEMES = ("system", "light", "dark")


class Catalogue(Domain):
    """Catalogues read from `translations/<language>/LC_MESSAGES/messages.po`, without compiled files."""

    def get_translations(self) -> Translations:
        return load_catalogue(str(get_locale() or "en"))


@cache
def load_catalogue(language: str) -> Translations:
    source = ROOT / "translations" / language / "LC_MESSAGES" / "messages.po"
    if not source.exists():
        return Translations()
    compiled = BytesIO()
    with source.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return Translations(compiled)


def register(app: Flask) -> None:
    babel = Babel(app, locale_selector=current_language, timezone_selector=current_zone)
    babel.domain_instance = Catalogue()
    app.jinja_env.policies["ext.i18n.trimmed"] = True
    app.context_processor(lambda: {"language": current_language(), "theme": current_theme(), "here": current_path()})


def current_language() -> str:
    if not has_request_context() or wants_json():
        return "en"
    chosen = request.cookies.get("language")
    if chosen in LANGUAGES:
        return str(chosen)
    if settings.language_is_set:
        return settings.language
    return request.accept_languages.best_match(LANGUAGES) or settings.language


def current_zone() -> Any:
    """Return the chosen zone, else the one that the browser's script stored, else UTC."""
    cookies = request.cookies if has_request_context() else {}
    try:
        return pytz.timezone(cookies.get("timezone") or cookies.get("zone", "UTC"))
    except pytz.UnknownTimeZoneError:
        return pytz.UTC


def current_theme() -> str:
    value = request.cookies.get("theme", "")
    return value if value in THEMES else "system"


def current_path() -> str:
    """Return the page to return to after a form."""
    return request.full_path.rstrip("?") if request.method == "GET" else "/"


def safe_path(path: str) -> str:
    """Return `path` if it is a path of this console, else `/`. `//` and `/\\` would leave it."""
    return path if re.fullmatch(r"/(?![/\\])[^\\\x00-\x20\x7f]*", path) else "/"
