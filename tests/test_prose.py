"""The rules of docs/style.md that a machine can check. This file is excluded, because it quotes the words."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from babel.messages.extract import extract

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "translations"))

from gather import JINJA, KEYWORDS  # noqa: E402

WORDS = re.compile(
    r"\b(told|tells|whom|whoever|anew|mended|heed(s|ed|ing)?|nobody|somebody"
    r"|let(s|ting)?\s+go\s+of|goes\s+on\s+with|signs?\s+of\s+life)\b",
    re.IGNORECASE,
)
OPENERS = re.compile(r"(What|Who|Whether|Of|Where|One|As|That|In)(?![\w-])")
BEGINS_WITH_IT = re.compile(r"\s*It\s+[a-z]")
MAX_WORDS = 25

#: The style guide quotes the words too.
EXCLUDED = {"tests/test_prose.py", "docs/style.md"}
TEXTS = ("*.md", "docs/**/*.md", "docs/*.yml", "docs/*.json", "templates/**/*.html", "static/*.js", "static/*.css")
SETTINGS = ("Makefile", "Dockerfile", "docker-compose.yml", ".env.example", ".ci/run", "pyproject.toml", "bin/*")
SOURCES = ("*.py", *(f"{folder}/**/*.py" for folder in ("admin", "benchmarks", "engine", "migrations", "reading")))
MORE_SOURCES = ("tests/**/*.py", "tests/*.c", "translations/*.py", "engine/broker/lua/**/*.lua")

#: File → faults that are left.
# fmt: off
ALLOWED: dict[str, int] = {}
# fmt: on


class Fault(NamedTuple):
    line: int
    rule: str
    text: str


def test_files_follow_the_style() -> None:
    faults = {name: find_faults(ROOT / name) for name in source_files()}
    beyond = {name: found for name, found in faults.items() if len(found) > ALLOWED.get(name, 0)}
    assert not beyond, "\n" + "\n".join(
        f"{name}:{fault.line}: {fault.rule}: {fault.text}" for name, found in beyond.items() for fault in found
    )
    assert not {name for name in ALLOWED if len(faults.get(name, [])) < ALLOWED[name]}, "lower the numbers of ALLOWED"


def test_readme_sentences_are_short() -> None:
    lengths = {text: len(text.split()) for text in sentences((ROOT / "README.md").read_text())}
    assert len(lengths) > 20
    assert [text for text, length in lengths.items() if length > MAX_WORDS] == []


def source_files() -> list[str]:
    patterns = (*TEXTS, *SETTINGS, *SOURCES, *MORE_SOURCES)
    names = {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}
    assert len(names) > 500
    return sorted(names - EXCLUDED)


def find_faults(path: Path) -> list[Fault]:
    text = path.read_text()
    readers = {".py": python_faults, ".html": template_faults, ".css": css_faults}
    return sorted(readers.get(path.suffix, word_faults)(text))


def word_faults(text: str, line: int = 1) -> Iterator[Fault]:
    for match in WORDS.finditer(text):
        yield Fault(line + text.count("\n", 0, match.start()), match[0], line_around(text, match.start()))


def line_around(text: str, place: int) -> str:
    return text[text.rfind("\n", 0, place) + 1 :].split("\n")[0].strip()[:100]


def python_faults(source: str) -> Iterator[Fault]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            if opener := OPENERS.match(docstring):
                yield Fault(node.body[0].lineno, f"docstring begins with {opener[0]}", docstring.split("\n")[0])
    for line, text in string_literals(tree):
        yield from word_faults(text, line)
        if BEGINS_WITH_IT.match(text):
            yield Fault(line, "message begins with It", text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from word_faults(token.string, token.start[0])


def template_faults(source: str) -> Iterator[Fault]:
    yield from word_faults(source)
    for line, ids, _, _ in extract("jinja2", io.BytesIO(source.encode()), KEYWORDS, options=JINJA):
        for text in ids if isinstance(ids, tuple) else (ids,):
            if BEGINS_WITH_IT.match(text or ""):
                yield Fault(line, "message begins with It", text)


def css_faults(source: str) -> Iterator[Fault]:
    for comment in re.finditer(r"/\*.*?\*/", source, re.DOTALL):
        yield from word_faults(comment[0], 1 + source.count("\n", 0, comment.start()))


def string_literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each string, implicit concatenations as one and f-strings with {} for values."""
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield node.lineno, node.value


def sentences(markdown: str) -> list[str]:
    """Return the sentences, list items and table cells, without code blocks."""
    prose = re.sub(r"```.*?```", "\n", markdown, flags=re.DOTALL)
    ends = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\||^\s*(?:[*-]|\d+\.)\s", re.MULTILINE)
    return [text for text in ends.split(prose) if text and text.strip()]


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ('"""What a run costs."""', "docstring begins with What"),
        ('def run():\n    """One run."""', "docstring begins with One"),
        ('print("The broker " "tells it.")', "tells"),
        ('print(f"{name} is let go " f"of.")', "let go of"),
        ('print(f"A sign of {name}", f"{name}: nobody")', "nobody"),
        ('print("It is back in its queue.")', "message begins with It"),
        ('print(f"It takes {number}.")', "message begins with It"),
        ("total = 1  # told once", "told"),
        ('"""Return it.\n\nA sign of\nlife."""', "sign of\nlife"),
    ],
)
def test_faults_of_python_are_found(source: str, rule: str) -> None:
    assert [fault.rule for fault in python_faults(source)] == [rule]


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ('<p>{{ _("Nobody.") }}</p>', "Nobody"),
        ('<p class="told"></p>', "told"),
        ("{# A macro for\n#}\n{% trans %}\n  It is resolved.\n{% endtrans %}", "message begins with It"),
        ('<p>{{ ngettext("It runs %(n)s task", "%(n)s tasks", 2) }}</p>', "message begins with It"),
    ],
)
def test_faults_of_templates_are_found(source: str, rule: str) -> None:
    assert [fault.rule for fault in template_faults(source)] == [rule]


def test_only_comments_of_css_are_checked() -> None:
    source = ".told > * {}\n\n/* As\n told. */\n.nobody {}"
    assert [(fault.line, fault.rule) for fault in css_faults(source)] == [(4, "told")]


def test_plain_python_has_no_faults() -> None:
    source = '"""Return it.\n\nIn-memory."""\nprint("Item 3", f"{it} goes on", "Its id", "retold")  # one reason'
    assert list(python_faults(source)) == []


def test_sentences_end_at_full_stops_items_and_cells() -> None:
    text = "One: two.\nThree\nfour\n\n* five\n1. six\n| seven | eight |\n```sh\nmake run\n```\n"
    parts = [" ".join(part.split()) for part in sentences(text)]
    assert parts == ["One: two.", "Three four", "five", "six", "seven", "eight"]
