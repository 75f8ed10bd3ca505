"""Damaged books end in chapters or in a named error: never in a crash, never in success without text.

`FUZZ_CASES` is the number of cases: 100, and 2,000 in `make fuzz`.
"""

import os
import random
import tempfile
import time
from pathlib import Path
from typing import get_args

import pytest
from book_files import build_epub, build_fb2, build_zip, document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reading.books.book import read_book
from reading.books.errors import BookError, Code

CASES = int(os.environ.get("FUZZ_CASES", "100"))
SECONDS = 5
TEXT = "<h1>Глава</h1><p>Было <b>холодно</b> и&nbsp;тихо &#1042;.</p><ul><li>one</li></ul>"
FRAGMENTS = st.sampled_from(
    ["<p>", "</p>", "<b>", "</i>", "<section>", "</section>", "<title>", "<br/>", "<div hidden=''>", "<!--", "-->", "&",
     "&nbsp;", "&#0;", "&x;", "<![CDATA[", "]]>", "<script>", "</script>", "<p a='", '"', ">", "<", "\0", "слово ",
     "word ", "\u00ad", "<a id='x'/>", "<body>", "</body>", "<binary id='i'>", "</binary>", "<?x", "<!DOCTYPE x [",
     "<!ENTITY x 'y'>", "</FictionBook>", "<ruby>", "<rt>", "\ud7ff", "😀", "Глава I\n\n", "\r", "\t"]
)  # fmt: skip


def check_outcome(path: Path) -> str:
    """Read a file. Return the error's code, or `read`."""
    started = time.process_time()
    try:
        book = read_book(path)
        chapters = list(book.chapters())
        book.cover()
        assert any(character.isalnum() for chapter in chapters for character in chapter.content)
        assert [chapter.number for chapter in chapters] == list(range(1, len(chapters) + 1))
        assert all(chapter.title and "\0" not in chapter.content for chapter in chapters)
        assert book.kept_share is not None and book.kept_share >= 0.8
        outcome = "read"
    except BookError as error:
        assert error.code in get_args(Code) and error.detail
        outcome = error.code
    assert time.process_time() - started < SECONDS
    return outcome


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """Give the bytes of one small book of each format."""
    folder = tmp_path_factory.mktemp("books")
    contents = '<li><a href="c.xhtml#x">One</a></li><li><a href="d.xhtml">Two</a></li>'
    epub = build_epub(folder / "epub", {"c.xhtml": document(TEXT), "d.xhtml": document(TEXT)}, contents=contents)
    fiction = build_fb2(folder / "fb2", f"<body><section>{TEXT}</section></body><binary id='c'>AAAA</binary>")
    zipped = build_zip(folder / "zip", {"b.fb2": fiction.read_bytes()})
    text = folder / "txt"
    text.write_bytes(("Глава I\n\nБыло холодно.\n" * 20).encode("koi8-r"))
    return [path.read_bytes() for path in (epub, fiction, zipped, text)]


def test_flipped_and_cut_bytes(books, tmp_path):
    chance = random.Random(17)
    outcomes = set()
    for _ in range(CASES // 2):
        data = bytearray(chance.choice(books))
        for _ in range(chance.choice((1, 3, 30))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        path = tmp_path / "book"
        path.write_bytes(data)
        outcomes.add(check_outcome(path))
    assert "read" in outcomes and len(outcomes) > 1


@settings(max_examples=CASES // 2, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.lists(FRAGMENTS, max_size=40).map("".join), st.sampled_from(["epub", "fb2", "package", "txt"]))
def test_generated_markup(text, kind):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "book"
        if kind == "epub":
            build_epub(path, {"c.xhtml": document(text).encode("utf-8", "replace"), "d.xhtml": text.encode()})
        elif kind == "fb2":
            path.write_bytes(f"<FictionBook>{text}<body>{text}</body></FictionBook>".encode())
        elif kind == "package":
            build_epub(path, {"c.xhtml": document("<p>text</p>")}, contents=text, metadata=text, guide=text)
        else:
            path.write_bytes(text.encode())
        check_outcome(path)
