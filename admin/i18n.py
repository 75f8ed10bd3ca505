"""How a person wants to see the console: in which language, time zone and colours.

A browser carries its wishes in cookies, so they hold before the sign-in too.
The language is the one that was switched to; else that of the setting LANGUAGE, where somebody gave one; else the first
that the browser asks for and we speak. Programs are answered in English, and so is the terminal.
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

from admin.problems import for_program
from config import LANGUAGES, ROOT, settings

THEMES = ("system", "light", "dark")


class Words(Domain):
    """The catalogues as people edit them, `translations/<language>/LC_MESSAGES/messages.po`; nothing to compile."""

    def get_translations(self) -> Translations:
        return catalogue(str(get_locale() or "en"))


@cache
def catalogue(language: str) -> Translations:
    source = ROOT / "translations" / language / "LC_MESSAGES" / "messages.po"
    if not source.exists():
        return Translations()
    compiled = BytesIO()
    with source.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return Translations(compiled)


def register(app: Flask) -> None:
    babel = Babel(app, locale_selector=language, timezone_selector=zone)
    babel.domain_instance = Words()
    app.jinja_env.policies["ext.i18n.trimmed"] = True
    app.context_processor(lambda: {"language": language(), "theme": theme(), "here": current_path()})


def language() -> str:
    if not has_request_context() or for_program():
        return "en"
    chosen = request.cookies.get("language")
    if chosen in LANGUAGES:
        return str(chosen)
    if settings.language_is_set:
        return settings.language
    return request.accept_languages.best_match(LANGUAGES) or settings.language


def zone() -> Any:
    """The chosen one; else as the browser's script told it; UTC without one."""
    cookies = request.cookies if has_request_context() else {}
    try:
        return pytz.timezone(cookies.get("timezone") or cookies.get("zone", "UTC"))
    except pytz.UnknownTimeZoneError:
        return pytz.UTC


def theme() -> str:
    value = request.cookies.get("theme", "")
    return value if value in THEMES else "system"


def current_path() -> str:
    """The page to come back to."""
    return request.full_path.rstrip("?") if request.method == "GET" else "/"


def local_path(path: str) -> str:
    """`path` where it is one of this console: `//` and `/\\` would lead elsewhere."""
    return path if re.fullmatch(r"/(?![/\\])[^\\\x00-\x20\x7f]*", path) else "/"
