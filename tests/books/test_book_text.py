"""The text of documents: exact strings for markup, and the cases in which parsers lose text."""

import pytest
from book_files import build_epub, codes, document, lines, read

from reading.books.findings import Findings
from reading.books.html_text import DocumentReader
from reading.books.markup import count_raw_letters, strip_tags

SNIPPETS = [
    ("<p><b>ве</b><i>рил</i> он</p>", ["верил он"]),
    ("<p>one</p><p>two</p>", ["one", "two"]),
    ("<div>one<div>two</div>three</div>", ["one", "two", "three"]),
    ("<p>one<br/>two</p>", ["one", "two"]),
    ("<p>  a \n  b\t c </p>", ["a b c"]),
    ("<p>a&nbsp;b &mdash; c&shy;d &hellip;</p>", ["a\u00a0b — cd …"]),
    ("<p>&#8212; &#x2014; &#0; &lt;b&gt; &amp;amp;</p>", ["— — <b> &amp;"]),
    ("<p>AT&T and R&D; a & b</p>", ["AT&T and R&D; a & b"]),
    ("<p>su\u00adper\u00ad</p>", ["super"]),
    ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>", ["漢"]),
    ('<p hidden="hidden">gone</p><p>stays</p>', ["stays"]),
    ('<p style="color:red; display : none">gone</p><p>stays</p>', ["stays"]),
    ("<script>var a = '<p>gone</p>';</script><style>p {}</style><p>stays</p>", ["stays"]),
    ('<p>word<a epub:type="noteref" href="#n">1</a>.</p><aside epub:type="footnote">note</aside><p>end</p>', 0),
    ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", ["a b", "c"]),
    ("<ul><li>a</li><li>b</li></ul>", ["a", "b"]),
    ("<p>x<sup>2</sup> y<small>z</small></p>", ["x2 yz"]),
    ("<p>a<!-- gone -->b<?gone?></p>", ["ab"]),
    ("<p><![CDATA[a < b & c]]></p>", ["a < b & c"]),
    ("<p>H<sub>2</sub>O <math><mi>x</mi><annotation>gone</annotation></math></p>", ["H2O x"]),
    ("<p>a\x00b\x08c</p>", ["abc"]),
    ("<h1>Title</h1>text<p>more</p>", ["Title", "text", "more"]),
]  # fmt: skip
SNIPPETS[13] = (str(SNIPPETS[13][0]), ["word.", "end", "note"])


@pytest.mark.parametrize(("body", "expected"), SNIPPETS, ids=lambda value: str(value)[:40])
def test_text_of_markup(tmp_path, body, expected):
    book, [chapter] = read(build_epub(tmp_path / "b", {"c.xhtml": document(body)}))
    assert lines(chapter) == expected
    assert book.kept_share == 1


def test_text_that_is_hidden_as_a_whole_is_the_text(tmp_path):
    body = '<div style="display:none"><p>All of the chapter.</p></div>'
    _, [chapter] = read(build_epub(tmp_path / "b", {"c.xhtml": document(body)}))
    assert chapter.content == "All of the chapter."


def test_footnotes_are_kept_at_the_end_and_are_no_words(tmp_path):
    body = '<p>one two</p><section epub:type="footnotes"><p>three four five</p></section><p>six</p>'
    book, [chapter] = read(build_epub(tmp_path / "b", {"c.xhtml": document(body)}))
    assert lines(chapter) == ["one two", "six", "three four five"]
    assert chapter.words == 3 and book.kept_share == 1


@pytest.mark.parametrize("depth", [255, 300, 5000])
def test_deeply_nested_text_is_kept(tmp_path, depth):
    body = "<span>" * depth + "inner text" + "</span>" * depth
    book, [chapter] = read(build_epub(tmp_path / "b", {"c.xhtml": document(body)}))
    assert chapter.content == "inner text" and book.kept_share == 1


def test_paragraph_over_ten_megabytes_is_kept(tmp_path):
    words = 1_100_000
    book, chapters = read(build_epub(tmp_path / "b", {"c.xhtml": document("<p>" + "wordy nine " * words + "</p>")}))
    assert sum(chapter.words for chapter in chapters) == 2 * words
    assert max(chapter.characters for chapter in chapters) < 1_100_000
    assert book.kept_share == 1


@pytest.mark.parametrize(
    "markup",
    [
        "<html><body><p>one<br>two<p>three <b>four</p><p>five</i> six</body></html>",
        "<html><body><p>one</p><p>two</p></body></html><p>three four five six</p>",
        '<html><body><p class=x>one</p><p class="a" class="b">two <foo:bar>three</foo:bar></p>four five six</body>',
        "<p>one</p><p>two</p> three four <title/> five <script/> six",
        "one two <p>three 1 < 2 four</p> <i>five <b>six</i>",
    ],
)
def test_markup_that_is_not_well_formed_loses_nothing(tmp_path, markup):
    _, [chapter] = read(build_epub(tmp_path / "b", {"c.xhtml": markup}))
    words = [word for word in chapter.content.split() if word.isalpha()]
    assert words == ["one", "two", "three", "four", "five", "six"]


def test_text_that_no_parser_delivers_is_kept_without_structure():
    findings = Findings()
    data = ("<html><body><script><p>" + "lost words " * 100 + "</p></body></html>").encode()
    text = DocumentReader(findings).read(data, "c.xhtml", ())
    assert "lost words" in " ".join(text.blocks)
    assert text.letters() >= 0.98 * text.raw_letters
    assert [warning["code"] for warning in findings.warnings()] == ["no_structure"]


def test_own_entities_are_expanded_and_outer_ones_are_not_read(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    doctype = f'<!DOCTYPE html [<!ENTITY own "its text"><!ENTITY out SYSTEM "file://{secret}">]>'
    epub = build_epub(tmp_path / "b", {"c.xhtml": document("<p>a &own; b &out; c</p>", doctype)})
    book, [chapter] = read(epub)
    assert chapter.content == "a its text b c"
    assert codes(book) == {"external_entity"}


def test_undefined_entity_keeps_its_name(tmp_path):
    book, [chapter] = read(build_epub(tmp_path / "b", {"c.xhtml": document("<p>version &FBReaderVersion; now</p>")}))
    assert chapter.content == "version &FBReaderVersion; now"
    assert codes(book) == {"unknown_entity"}


@pytest.mark.parametrize(
    ("encoding", "declared", "warned"),
    [("utf-8", "windows-1251", True), ("windows-1251", "utf-8", True), ("windows-1251", "windows-1251", False)],
)
def test_declared_encoding_may_be_wrong(tmp_path, encoding, declared, warned):
    russian = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 5
    markup = f'<?xml version="1.0" encoding="{declared}"?><html><body><p>{russian}</p></body></html>'
    book, [chapter] = read(build_epub(tmp_path / "b", {"c.xhtml": markup.encode(encoding)}))
    assert chapter.content == russian.strip()
    assert ("wrong_encoding" in codes(book)) == warned


def test_raw_letters_are_those_outside_tags():
    data = b"<head><title>no</title></head><p class='no'>yes &amp; yes</p><script>no</script><!-- no --><style/>yes"
    assert count_raw_letters(data) == 9
    assert strip_tags(b"<script>never closed").split() == [b"never", b"closed"]
