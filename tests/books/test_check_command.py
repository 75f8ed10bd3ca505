"""`dewey books check` prints one object and stores nothing."""

import json

from book_files import build_epub, document

from app import create_app

KEYS = ["format", "encoding", "language", "title", "author", "chapters", "words", "kept_share", "warnings", "error"]


def invoke(*arguments):
    return create_app().test_cli_runner().invoke(args=["books", "check", *map(str, arguments)])


def test_book_as_json(tmp_path):
    path = build_epub(tmp_path / "b", {"c.xhtml": document("<h1>One</h1><p>two three</p>")})
    result = invoke(path, "--json")
    report = json.loads(result.output)
    assert result.exit_code == 0 and list(report) == KEYS
    assert report["chapters"] == [{"number": 1, "title": "One", "level": 1, "characters": 14, "words": 3}]
    assert (report["words"], report["kept_share"], report["error"]) == (3, 1, None)
    content = json.loads(invoke(path, "--json", "--content").output)["chapters"][0]["content"]
    assert content == "One\n\ntwo three"


def test_book_that_would_fail(tmp_path):
    path = tmp_path / "b.epub"
    path.write_bytes(b"PK\x03\x04 no more")
    result = invoke(path, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and list(report) == KEYS
    assert report["error"]["code"] == "truncated" and report["chapters"] == []
    assert "Copy or download the file again." in invoke(path).output


def test_file_that_does_not_exist_is_wrong_usage(tmp_path):
    assert invoke(tmp_path / "none").exit_code == 2
