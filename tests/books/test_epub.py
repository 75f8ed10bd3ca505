"""Chapters of EPUB files: reading order, contents, malformed packages."""

import zipfile

import pytest
from book_files import CONTAINER, PNG, build_epub, build_zip, codes, document, lines, read

from reading.books.book import read_book
from reading.books.errors import BookError
from reading.books.limits import MAX_CHAPTER

THREE = {f"c{at}.xhtml": document(f"<p>Text {at}.</p>") for at in range(3)}
NCX = """<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{}</navMap></ncx>"""
NCX_ITEM = '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'


def point(title, href, inner=""):
    return f'<navPoint><navLabel><text>{title}</text></navLabel><content src="{href}"/>{inner}</navPoint>'


def entry(title, href, inner=""):
    return f'<li><a href="{href}">{title}</a>{f"<ol>{inner}</ol>" if inner else ""}</li>'


def titles(chapters):
    return [(chapter.title, chapter.level) for chapter in chapters]


def test_chapters_follow_the_reading_order_and_have_the_titles_of_the_contents(tmp_path):
    contents = entry("Part", "c2.xhtml", entry("Inner", "c0.xhtml"))
    book, chapters = read(build_epub(tmp_path / "b", THREE, contents=contents, spine=["d2", "d0", "d1"]))
    assert titles(chapters) == [("Part", 1), ("Inner", 2), ("Untitled", 1)]
    assert [chapter.content for chapter in chapters] == ["Text 2.", "Text 0.", "Text 1."]
    assert [chapter.number for chapter in chapters] == [1, 2, 3]
    assert (book.format, book.title, book.author, book.language) == ("epub", "A book", "Anna", "en")


def test_chapters_are_cut_at_the_anchors_of_two_levels(tmp_path):
    body = """<h1>Book</h1><p>Before.</p><h2 id="a">A</h2><p>1</p><h3 id="b">B</h3><p>2</p>
        <h4 id="deep">Deep</h4><p>3 <a id="c"/>middle</p><p>4</p>"""
    contents = entry("A", "c.xhtml#a", entry("B", "c.xhtml#b", entry("Deep", "c.xhtml#deep"))) + entry("C", "c.xhtml#c")
    book, chapters = read(build_epub(tmp_path / "b", {"c.xhtml": document(body)}, contents=contents))
    assert titles(chapters) == [("Book", 1), ("A", 1), ("B", 2), ("C", 1)]
    expected = [["Book", "Before."], ["A", "1"], ["B", "2", "Deep"], ["3 middle", "4"]]
    assert [lines(chapter) for chapter in chapters] == expected
    assert [chapter.source_ref for chapter in chapters][1] == "OEBPS/c.xhtml#a"
    assert book.kept_share == 1


def test_heading_before_the_first_anchor_belongs_to_it(tmp_path):
    body = '<h1>Book</h1><h2 id="a">A</h2><p>1</p><h2 id="b">B</h2><p>2</p>'
    contents = entry("A", "c.xhtml#a") + entry("B", "c.xhtml#b")
    _, chapters = read(build_epub(tmp_path / "b", {"c.xhtml": document(body)}, contents=contents))
    assert [lines(chapter) for chapter in chapters] == [["Book", "A", "1"], ["B", "2"]]


def test_lone_or_unknown_anchor_does_not_cut(tmp_path):
    documents = {"a.xhtml": document('<p>1</p><p id="x">2</p>'), "b.xhtml": document("<p>3</p>")}
    contents = entry("A", "a.xhtml#x") + entry("B", "b.xhtml#nowhere")
    _, chapters = read(build_epub(tmp_path / "b", documents, contents=contents))
    assert titles(chapters) == [("A", 1), ("B", 1)]
    assert lines(chapters[0]) == ["1", "2"]


def test_entries_without_a_link_are_no_level(tmp_path):
    contents = f"<li><span>Author</span><ol>{entry('Story', 'c0.xhtml')}</ol></li>"
    _, chapters = read(build_epub(tmp_path / "b", THREE, contents=contents))
    assert titles(chapters)[0] == ("Story", 1)


def test_contents_with_wrong_folders_find_documents_by_file_name(tmp_path):
    documents = {"text/a.xhtml": document("<p>1</p>"), "x/b.xhtml": document("<p>2</p>"), "y/b.xhtml": "<p>3</p>"}
    contents = entry("A", "a.xhtml") + entry("B", "b.xhtml")
    book, chapters = read(build_epub(tmp_path / "b", documents, contents=contents))
    assert titles(chapters) == [("A", 1), ("Untitled", 1), ("Untitled", 1)]
    assert codes(book) == {"broken_contents"}


def test_title_is_the_highest_heading(tmp_path):
    body = "<h3>Navigation</h3><p>1</p><h1>Title</h1><p>2</p>"
    _, [chapter] = read(build_epub(tmp_path / "b", {"c.xhtml": document(body)}, contents=entry("", "c.xhtml")))
    assert chapter.title == "Title"


def test_ncx_gives_the_contents_without_a_navigation_document(tmp_path):
    ncx = NCX.format(point("One", "c0.xhtml", point("Two", "c1.xhtml")) + point("Lost", "C:/c9.xhtml"))
    epub = build_epub(tmp_path / "b", THREE, items=NCX_ITEM, more={"OEBPS/toc.ncx": ncx})
    book, chapters = read(epub)
    assert titles(chapters) == [("One", 1), ("Two", 2), ("Untitled", 1)]
    assert codes(book) == {"broken_contents"}


@pytest.mark.parametrize("ncx", ["", "<ncx><navMap><navPoint>", "no XML at all"])
def test_broken_ncx_costs_titles_and_no_text(tmp_path, ncx):
    documents = {"c.xhtml": document("<h1>One</h1><p>1</p><h1>Two</h1><p>2</p>")}
    _, chapters = read(build_epub(tmp_path / "b", documents, items=NCX_ITEM, more={"OEBPS/toc.ncx": ncx}))
    assert titles(chapters) == [("One", 1), ("Two", 1)]


def test_long_document_is_cut_at_its_headings(tmp_path):
    body = "".join(f"<h1>Title {at}</h1><p>{'word ' * 3000}</p>" for at in range(20))
    _, chapters = read(build_epub(tmp_path / "b", {"c.xhtml": document(body)}, contents=entry("All", "c.xhtml")))
    assert len(chapters) == 20
    assert max(chapter.characters for chapter in chapters) < MAX_CHAPTER


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("c%201.xhtml", "c 1.xhtml"),
        ("%D0%B3%D0%BB.xhtml", "гл.xhtml"),
        ("c.xhtml#part", "c.xhtml"),
        ("C.XHTML", "c.xhtml"),
        ("../OEBPS/./c.xhtml", "c.xhtml"),
        ("text\\c.xhtml", "text/c.xhtml"),
        ("/OEBPS/c.xhtml", "../OEBPS/c.xhtml"),
        ("100%25.xhtml", "100%.xhtml"),
        ("c%21.xhtml", "c%21.xhtml"),
    ],
)
def test_odd_references_find_their_entry(tmp_path, href, name):
    item = f'<item id="x" href="{href}" media-type="application/xhtml+xml"/>'
    entry_name = "OEBPS/c.xhtml" if name.startswith("..") else f"OEBPS/{name}"
    more = {entry_name: document("<p>Found.</p>")}
    _, [chapter] = read(build_epub(tmp_path / "b", {}, items=item, spine=["x"], more=more))
    assert chapter.content == "Found."


def test_missing_and_repeated_documents_are_warned(tmp_path):
    items = (
        '<item id="gone" href="gone.xhtml" media-type="application/xhtml+xml"/><item id="png" href="gone.png"'
        ' media-type="image/png"/><item id="d0" href="c1.xhtml" media-type="application/xhtml+xml"/>'
    )
    spine = ["d0", "gone", "unknown", "d0", *["d1"] * 50]
    book, chapters = read(build_epub(tmp_path / "b", THREE, items=items, spine=spine))
    assert [chapter.content for chapter in chapters] == ["Text 0.", "Text 1."]
    assert codes(book) == {"missing_document", "repeated_document", "missing_file"}


def test_same_document_under_many_fragments_is_read_once(tmp_path):
    items = "".join(f'<item id="f{at}" href="c0.xhtml#o{at}" media-type="application/xhtml+xml"/>' for at in range(20))
    _, chapters = read(build_epub(tmp_path / "b", THREE, items=items, spine=[f"f{at}" for at in range(20)]))
    assert [chapter.content for chapter in chapters] == ["Text 0."]


def test_service_pages_are_found_by_title_landmark_and_place(tmp_path):
    documents = {
        "toc.xhtml": document("<h1>Содержание</h1><p>Chapter one</p>"),
        "legal.xhtml": document('<section epub:type="copyright-page"><p>All rights reserved.</p></section>'),
        "guide.xhtml": document("<p>By the guide.</p>"),
        "aside.xhtml": document("<p>Not linear.</p>"),
        "c.xhtml": document("<h1>Notes from the underground</h1><p>notes contents copyright</p>"),
    }
    spine_items = '<itemref idref="d3" linear="no"/><itemref idref="d4"/>'
    guide = '<reference type="copyright-page" href="guide.xhtml"/>'
    epub = build_epub(tmp_path / "b", documents, spine=["d0", "d1", "d2"], spine_items=spine_items, guide=guide)
    _, chapters = read(epub)
    assert [chapter.is_service_page for chapter in chapters] == [True, True, True, True, False]


@pytest.mark.parametrize("kind", ["no mimetype", "no container", "doctype", "two packages"])
def test_odd_packages_are_read(tmp_path, kind):
    epub = build_epub(tmp_path / "b", THREE, doctype='<!DOCTYPE package SYSTEM "x.dtd">' if kind == "doctype" else "")
    with zipfile.ZipFile(epub) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    if kind == "no mimetype":
        del files["mimetype"]
    elif kind == "no container":
        del files["META-INF/container.xml"]
    elif kind == "two packages":
        container = CONTAINER.format("OEBPS/book.opf").replace(
            "</rootfiles>", '<rootfile full-path="OEBPS/c0.xhtml"/></rootfiles>'
        )
        files["META-INF/container.xml"] = container.encode()
    book, chapters = read(build_zip(tmp_path / "again", files))
    assert len(chapters) == 3
    assert codes(book) == {"no container": {"no_container"}, "two packages": {"several_books"}}.get(kind, set())


def test_cover_is_returned(tmp_path):
    item = '<item id="pic" href="pic.png" properties="cover-image" media-type="image/png"/>'
    book, _ = read(build_epub(tmp_path / "b", THREE, items=item, more={"OEBPS/pic.png": PNG}))
    assert book.cover() == (PNG, "image/png")
    book, _ = read(build_epub(tmp_path / "none", THREE))
    assert book.cover() is None


def encryption(method, reference):
    return (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:enc="http://www.w3.org/2001/04/xmlenc#">'
        f'<enc:EncryptedData><enc:EncryptionMethod Algorithm="{method}"/><enc:CipherData><enc:CipherReference '
        f'URI="{reference}"/></enc:CipherData></enc:EncryptedData></encryption>'
    )


@pytest.mark.parametrize(
    ("method", "reference"),
    [
        ("http://www.idpf.org/2008/embedding", "OEBPS/font.otf"),
        ("http://ns.adobe.com/pdf/enc#RC", "OEBPS/font.otf"),
        ("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "OEBPS/picture.jpg"),
    ],
)
def test_encrypted_fonts_are_no_drm(tmp_path, method, reference):
    more = {"META-INF/encryption.xml": encryption(method, reference)}
    _, chapters = read(build_epub(tmp_path / "b", THREE, more=more))
    assert len(chapters) == 3


def test_encrypted_chapter_fails(tmp_path):
    more = {"META-INF/encryption.xml": encryption("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "OEBPS/c1.xhtml")}
    with pytest.raises(BookError, match=r"OEBPS/c1\.xhtml is encrypted") as refused:
        read_book(build_epub(tmp_path / "b", THREE, more=more))
    assert refused.value.code == "encrypted"


def test_title_pages_join_the_next_chapter_in_a_book_of_too_many_documents(tmp_path):
    documents = {"part.xhtml": document("<h1>Part</h1>"), **{f"c{at}.xhtml": f"<p>{at}</p>" for at in range(2000)}}
    _, chapters = read(build_epub(tmp_path / "b", documents))
    assert len(chapters) == 2000
    assert lines(chapters[0]) == ["Part", "0"]
