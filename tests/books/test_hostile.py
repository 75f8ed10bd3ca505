"""Hostile files end with their own code, within limits of CPU time and memory, and read nothing outside."""

import json
import os
import resource
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from book_files import build_epub, build_fb2, document, read
from hostile_files import HOSTILE, MB

from reading.books.errors import BookError

ROOT = Path(__file__).parents[2]
CPU_SECONDS, MEMORY_MB = 5, 100
#: Reads books in a process of its own and prints codes, letters and memory above the idle process.
READER = """
import json, resource, sys
from pathlib import Path
from reading.books.book import read_book
from reading.books.errors import BookError
def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
idle = memory()
code, letters = None, 0
try:
    for chapter in read_book(Path(sys.argv[1])).chapters():
        letters += chapter.characters
except BookError as error:
    code = error.code
print(json.dumps([code, letters, memory() - idle]))
"""


def read_apart(path: Path) -> tuple[str | None, int, float]:
    """Return code, characters and megabytes."""
    done = subprocess.run([sys.executable, "-c", READER, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    code, characters, memory = json.loads(done.stdout)
    return code, characters, memory


def read_in_child(path: Path) -> tuple[str | None, int, float]:
    """Return the same from a fork of this process, which needs no imports. It is killed after CPU_SECONDS."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
            sys.argv[1:] = [str(path)]
            with open(writing, "w") as answer, redirect_stdout(answer):
                exec(READER, {})
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    assert text, f"the reader ended with {status}"
    code, characters, memory = json.loads(text)
    return code, characters, memory


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(tmp_path, name):
    build, expected = HOSTILE[name]
    code, characters, memory = read_in_child(build(tmp_path / "book.epub"))
    assert code == expected
    assert memory < MEMORY_MB
    assert characters > 0 or code


@pytest.mark.parametrize("kind", ["epub", "fb2"])
def test_memory_does_not_grow_with_the_book(tmp_path, kind):
    text = "Слово за словом, строка за строкой. " * 400

    def build(megabytes: int) -> Path:
        path = tmp_path / f"{megabytes}.{kind}"
        paragraphs = [f"<p>{text}</p>" for _ in range(megabytes * MB // len(text.encode()))]
        if kind == "epub":
            return build_epub(path, {f"c{at}.xhtml": document(part) for at, part in enumerate(paragraphs)})
        return build_fb2(path, "<body>" + "".join(f"<section>{part}</section>" for part in paragraphs) + "</body>")

    small, large = (read_apart(build(megabytes))[2] for megabytes in (2, 12))
    assert large < small * 1.2 + 6  # the interpreter's own noise


def test_nothing_outside_the_file_is_opened(tmp_path):
    (tmp_path / "secret").write_text("SECRET")
    doctype = f'<!DOCTYPE html [<!ENTITY x SYSTEM "{tmp_path}/secret">]>'
    traversal = '<item id="t" href="../../secret" media-type="application/xhtml+xml"/>'
    epub = build_epub(
        tmp_path / "b", {"c.xhtml": document("<p>text &x;</p>", doctype)}, items=traversal, spine=["t", "d0"]
    )
    opened: list[str] = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    _, [chapter] = read(epub)
    assert chapter.content == "text"
    assert {name for name in opened if name.startswith(str(tmp_path))} == {str(epub)}


def test_detail_names_the_place(tmp_path):
    build, _ = HOSTILE["200,000 levels"]
    with pytest.raises(BookError, match=r"^OEBPS/c\.xhtml: more than 10000 elements are nested\.$"):
        read(build(tmp_path / "b"))
