"""A book that loses text is warned about or fails. No loss is silent.

A style sheet inside a body is the one place whose text counts and reaches no chapter.
"""

import pytest
from book_files import build_fb2, codes, read

from reading.books.book import read_book
from reading.books.errors import BookError


def build(path, kept, lost):
    return build_fb2(path, f"<body><p>{'a' * kept}</p><stylesheet>{'b' * lost}</stylesheet></body>")


@pytest.mark.parametrize(("kept", "warned"), [(1000, False), (985, False), (975, True), (805, True)])
def test_loss_is_warned_about(tmp_path, kept, warned):
    book, [chapter] = read(build(tmp_path / "b", kept, 1000 - kept))
    assert chapter.characters == kept and book.kept_share == kept / 1000
    assert ("lost_text" in codes(book)) == warned


def test_incomplete_book_fails(tmp_path):
    book = read_book(build(tmp_path / "b", 795, 205))
    with pytest.raises(BookError, match=r"79\.5% of the letters .* \(795 of 1000\)") as refused:
        list(book.chapters())
    assert refused.value.code == "incomplete" and book.kept_share == 0.795


def test_description_without_an_end_is_no_silent_loss(tmp_path):
    path = build_fb2(tmp_path / "b", "<body><p>all of the book</p></body>")
    path.write_bytes(path.read_bytes().replace(b"</description>", b""))
    with pytest.raises(BookError) as refused:
        read(path)
    assert refused.value.code == "incomplete"


def test_picture_without_an_end_swallows_no_text(tmp_path):
    _, [chapter] = read(build_fb2(tmp_path / "b", '<binary id="a">AAAA<body><p>all of the book</p></body>'))
    assert chapter.content == "all of the book"
