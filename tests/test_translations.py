"""Every text of the console is translated into every language, completely and correctly."""

import ast
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po
from browsers import Browser
from factories import create_attempt, create_closed_session, create_consumer, create_run, create_session
from flask import Flask
from jinja2 import Environment, nodes

from admin.problems import ConflictError, ForbiddenError, InvalidInput
from config import LANGUAGES
from engine.models import now
from engine.search.pagination import COUNT_LIMIT

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "translations"))

from gather import catalogues, gathered, is_translated  # noqa: E402

TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
PROGRAMS = sorted((ROOT / "admin").rglob("*.py"))
PLACEHOLDERS = re.compile(r"%\((\w+)\)s")
BREAKABLE_UNIT = re.compile(r"(?:\d|%\(\w+\)s) (?:(?:мс|с|мин|ч|д|Б|КБ|МБ|ГБ|ТБ)\b|%(?!\())")

#: Texts that are the same in every language: names of programs, formats and units.
NAMES = {
    "Dewey",
    "English",
    "CSV",
    "JSON",
    "UTC",
    "Enter",
    "Esc",
    "SQLite",
    "Redis",
    "Valkey",
    "PostgreSQL",
    "Worker-1",
    "openapi.json",
}

#: Attributes with visible or spoken text.
TEXT_ATTRIBUTES = {"title", "aria-label", "placeholder", "alt", "aria-description"}

#: Modules that serve programs or the terminal, in English.
IN_ENGLISH = {
    "admin/api/cleanup.py",
    "admin/cli/commands.py",
    "admin/cli/start.py",
    "admin/cli/steering.py",
    "admin/cli/supervisor.py",
    "admin/cli/output.py",
}


def relative_path(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- catalogues ----------------------------------------------------------------------------------------------


def messages(path: Path) -> list[Message]:
    with path.open("rb") as file:
        return [message for message in read_po(file, locale=path.parent.parent.name) if message.id]


def as_tuple(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def test_every_language_but_english_has_a_catalogue() -> None:
    assert {path.parent.parent.name for path in catalogues()} == set(LANGUAGES) - {"en"}


@pytest.mark.parametrize("path", catalogues(), ids=lambda path: path.parent.parent.name)
def test_catalogues_are_complete_without_obsolete_messages(path: Path) -> None:
    translated = {(message.context, message.id) for message in messages(path) if is_translated(message)}
    used = {(message.context, message.id) for message in gathered() if message.id}
    assert used - translated == set(), "run `make words` and fill in the empty translations"
    assert translated - used == set(), "run `make words`"


@pytest.mark.parametrize("path", catalogues(), ids=lambda path: path.parent.parent.name)
def test_translation_has_the_placeholders_and_tags_of_its_source(path: Path) -> None:
    for message in messages(path):
        sources = as_tuple(message.id)
        forms = as_tuple(message.string)
        allowed = [sorted(PLACEHOLDERS.findall(source)) for source in sources]
        for form in forms:
            placeholders = sorted(PLACEHOLDERS.findall(form))
            assert placeholders == allowed[-1] or (message.pluralizable and placeholders in allowed), form
            if PLACEHOLDERS.search(form):
                form % dict.fromkeys(placeholders, 1)
            assert re.findall(r"</?\w+", form) == re.findall(r"</?\w+", sources[-1]), form


def test_russian_has_three_plural_forms(app: Flask) -> None:
    forms = {1: "Закрыть 1 сессию", 3: "Закрыть 3 сессии", 11: "Закрыть 11 сессий", 21: "Закрыть 21 сессию"}
    forms[COUNT_LIMIT + 1] = "Закрыть 10\u00a0000+ сессий"
    template = app.jinja_env.from_string("{{ ngettext('Close %(num)s session', 'Close %(num)s sessions', n) }}")
    with app.test_request_context(headers={"Cookie": "language=ru"}):
        assert {number: template.render(n=number) for number in forms} == forms


def test_russian_unit_never_breaks_from_its_number() -> None:
    (path,) = catalogues()
    forms = [form for message in messages(path) for form in as_tuple(message.string)]
    assert BREAKABLE_UNIT.search("через 5 мин") and BREAKABLE_UNIT.search("%(share)s %%")
    assert [form for form in forms if BREAKABLE_UNIT.search(form)] == []


# --- templates -----------------------------------------------------------------------------------------------


class TextCollector(HTMLParser):
    """The visible and spoken texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside.append(tag)
        self.texts += [value or "" for name, value in attrs if name in TEXT_ATTRIBUTES]

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"code", "script", "style", "pre"} & set(self.inside):
            self.texts.append(data)


def skeleton(node: nodes.Node) -> Iterator[str]:
    """Return a template's literal text, with every branch and without values."""
    match node:
        case nodes.TemplateData():
            yield node.data
        case nodes.Output():
            for part in node.nodes:
                yield from skeleton(part) if isinstance(part, nodes.TemplateData) else literals(part)
        case nodes.AssignBlock():
            body = "".join(text for child in node.body for text in skeleton(child))
            yield f"<i {body}>" if re.match(r'\s*[\w-]+="', body) else body  # some hold attributes
        case nodes.Expr():
            return
        case _:
            for child in node.iter_child_nodes():
                yield from skeleton(child)


def literals(node: nodes.Expr) -> Iterator[str]:
    """Return the untranslated texts that an expression may evaluate to."""
    match node:
        case nodes.Const() if isinstance(node.value, str):
            yield f" {node.value} "
        case nodes.CondExpr():
            for branch in (node.expr1, node.expr2):
                if branch is not None:
                    yield from literals(branch)
        case nodes.Or() | nodes.And():
            yield from literals(node.right)
        case nodes.Filter() if node.node is not None:
            yield from literals(node.node)
        case nodes.Concat():
            for part in node.nodes:
                yield from literals(part)


def find_unmarked(source: str) -> list[str]:
    environment = Environment(extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)
    environment.newstyle_gettext = True  # type: ignore[attr-defined]
    collector = TextCollector()
    collector.feed("".join(skeleton(environment.parse(source))))
    words = (re.sub(r"https?://\S+|\w+@\S+|&\w+;", " ", text).split() for text in collector.texts)
    return [
        word
        for text in words
        for word in text
        if re.search("[A-Za-zА-Яа-я]{2}", word) and word.strip(":,.·()") not in NAMES
    ]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_contain_only_marked_text(path: Path) -> None:
    assert find_unmarked(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('<p>{{ _("Close") }} <b>Open</b></p>', ["Open"]),
        ('<a title="{{ _(\'x\') }} now" href="/words/elsewhere">', ["now"]),
        ('<p>{{ "many" if n else _("none") }}</p>', ["many"]),
        ('<p class="{{ "a" if n else "b" }}">{% trans %}Of <code>it</code>{% endtrans %} <code>make</code></p>', []),
        ('<p>{% if a %}{{ name or "someone" }}{% endif %}</p>', ["someone"]),
    ],
)
def test_unmarked_text_is_detected(source: str, expected: list[str]) -> None:
    assert find_unmarked(source) == expected


# --- programs ------------------------------------------------------------------------------------------------

MESSAGE_FUNCTIONS = {
    *(error.__name__ for error in (InvalidInput, ConflictError, ForbiddenError)),
    "NotFound",
    "flash",
    "abort",
    "ServiceUnavailable",
    "Unauthorized",
}


@pytest.mark.parametrize(
    "path", [path for path in PROGRAMS if relative_path(path) not in IN_ENGLISH], ids=lambda path: path.name
)
def test_programs_show_only_marked_text(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MESSAGE_FUNCTIONS:
            for value in node.args:
                text = value.value if isinstance(value, ast.Constant) else ""
                assert not isinstance(value, ast.JoinedStr), ast.unparse(node)
                assert not (isinstance(text, str) and " " in text), ast.unparse(node)


# --- pages ---------------------------------------------------------------------------------------------------


def test_russian_pages_contain_no_english(app: Flask, operator: Browser) -> None:
    create_consumer("light")
    create_session(minutes_ago=150)
    create_closed_session(ended_at=now())
    run = create_run("process_book", "failed", error="BadZipFile: no", run_ms=12.5)
    create_attempt(run, 1, "failed", error="BadZipFile: no", traceback="Traceback\nBadZipFile: no")
    operator.set_cookie("language", "ru")
    english = {text for message in gathered() if message.id for text in as_tuple(message.id) if len(text.split()) > 1}
    pages = {rule.rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and not rule.arguments}
    pages -= {"/metrics"} | {page for page in pages if page.startswith(("/api", "/health", "/ready"))}
    for page in sorted(pages | {f"/runs/{run.id}", "/sessions?state=closed", "/no-such-page"}):
        answer, collector = operator.get(page, follow_redirects=True, buffered=True), TextCollector()
        if answer.mimetype != "text/html":
            continue
        collector.feed(answer.text)
        shown = {" ".join(text.split()) for text in collector.texts}
        assert shown & english == set(), page
        assert any(re.search("[А-Яа-я]", text) for text in shown), page
