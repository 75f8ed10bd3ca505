"""Chapters of FictionBook files."""

import base64

import pytest
from book_files import PNG, build_fb2, build_zip, codes, lines, read

from reading.books.counting import count_letters
from reading.books.limits import MB

NESTED = """<body><title><p>Война</p><p>и мир</p></title><epigraph><p>эпиграф</p></epigraph>
<section id="p1"><title><p>Часть</p></title><p>текст части</p>
  <section><title><p>Глава 1</p></title><p>первая</p>
  <section><title><p>Сцена</p></title><p>внутри</p></section></section>
  <section><title><p>Глава 2</p></title><p>вторая<a l:href="#n1" type="note">[1]</a></p><empty-line/><poem><stanza>
  <v>строка</v><v>другая</v></stanza></poem></section></section>
<section><p>без названия</p></section></body>
<body name="notes"><title><p>Примечания</p></title><section id="n1"><title><p>1</p></title><p>сноска здесь</p></section>
</body>"""
RUSSIAN = "Все счастливые семьи похожи друг на друга. " * 20


def titles(chapters):
    return [(chapter.title, chapter.level) for chapter in chapters]


def test_sections_are_read_once_and_in_order(tmp_path):
    book, chapters = read(build_fb2(tmp_path / "b", NESTED))
    assert titles(chapters) == [
        ("Война и мир", 1),
        ("Часть", 1),
        ("Глава 1", 2),
        ("Глава 2", 2),
        ("Без названия", 1),
        ("Примечания", 1),
    ]
    assert [lines(chapter) for chapter in chapters] == [
        ["Война", "и мир", "эпиграф"],
        ["Часть", "текст части"],
        ["Глава 1", "первая", "Сцена", "внутри"],
        ["Глава 2", "вторая", "строка", "другая"],
        ["без названия"],
        ["Примечания", "1", "сноска здесь"],
    ]
    assert (book.format, book.encoding, book.language) == ("fb2", "utf-8", "ru")
    assert (book.title, book.author, book.kept_share) == ("Война и мир", "Лев Толстой", 1)
    assert book.source.raw_letters == sum(count_letters(chapter.content) for chapter in chapters)
    assert chapters[1].source_ref == "#p1"


def test_notes_are_a_last_service_chapter_without_words(tmp_path):
    notes = '<body name="notes"><section><p>сноска</p></section></body>'
    main = "<body><section><p>текст книги</p></section></body>"
    _, [chapter, last] = read(build_fb2(tmp_path / "b", notes + main))
    assert (chapter.words, chapter.is_service_page) == (2, False)
    assert (last.content, last.words, last.minutes, last.is_service_page) == ("сноска", 0, 0, True)


def test_body_without_sections_is_one_chapter(tmp_path):
    inner = "<p>раз</p>прямо<subtitle>два</subtitle><cite><cite><p>три</p></cite></cite>"
    body = f"<body><title><p>О &Program;</p></title>{inner}</body>"
    book, [chapter] = read(build_fb2(tmp_path / "b", body))
    assert lines(chapter) == ["О &Program;", "раз", "прямо", "два", "три"]
    assert codes(book) == {"unknown_entity"}


def test_title_page_is_a_service_page(tmp_path):
    body = "<body><title><p>Книга</p></title><section><title><p>Глава</p></title><p>текст</p></section></body>"
    _, chapters = read(build_fb2(tmp_path / "b", body))
    assert [chapter.is_service_page for chapter in chapters] == [True, False]


@pytest.mark.parametrize(
    "body",
    [
        "<body><section><title><p>раз<p>два</title><p>три <b>четыре</p></i></section><p>пять</body>",
        "<body><section><p>раз</b></b></b></p><p>два</p></section><section><p>три</p><empty-line><p>четыре пять</p>",
        "<body><section><p>раз два</p></section></body></FictionBook><body><p>три четыре пять</p></body>",
        "<body><section><p a=1 a=1>раз два < три <image href='x'/>четыре</p><p>пять</p>",
    ],
)
def test_file_that_is_not_well_formed_loses_nothing(tmp_path, body):
    book, chapters = read(build_fb2(tmp_path / "b", body))
    words = [word for chapter in chapters for word in chapter.content.split() if word.isalpha()]
    assert words == ["раз", "два", "три", "четыре", "пять"]
    assert "not_well_formed" in codes(book) and book.kept_share == 1


@pytest.mark.parametrize("encoding", ["windows-1251", "koi8-r", "utf-16", "utf-8-sig"])
def test_encodings(tmp_path, encoding):
    _, [chapter] = read(
        build_fb2(tmp_path / "b", f"<body><section><p>{RUSSIAN}</p></section></body>", encoding=encoding)
    )
    assert chapter.content == RUSSIAN.strip()


@pytest.mark.parametrize(("encoding", "declared"), [("utf-8", "windows-1251"), ("windows-1251", "utf-8")])
def test_declared_encoding_may_be_wrong(tmp_path, encoding, declared):
    body = f"<body><section><p>{RUSSIAN}</p></section></body>"
    book, [chapter] = read(build_fb2(tmp_path / "b", body, encoding=encoding, declared=declared))
    assert chapter.content == RUSSIAN.strip() and codes(book) == {"wrong_encoding"}


def test_broken_bytes_are_replaced_and_counted(tmp_path):
    path = build_fb2(tmp_path / "b", f"<body><section><p>{RUSSIAN}юXXжэ {RUSSIAN}</p></section></body>")
    path.write_bytes(path.read_bytes().replace(b"XX", b"\xea\xe6"))
    book, [chapter] = read(path)
    assert chapter.content.count("\ufffd") == 2
    assert chapter.content.replace("\ufffd", "") == f"{RUSSIAN}южэ {RUSSIAN}".strip()
    assert "2 bytes" in next(warning["detail"] for warning in book.warnings if warning["code"] == "undecodable")


@pytest.mark.parametrize("name", ["book.fb2", "Книга.FB2", "folder/a:b.fb2"])
def test_zipped_file_is_read_by_content(tmp_path, name):
    data = build_fb2(tmp_path / "b", NESTED).read_bytes()
    book, chapters = read(build_zip(tmp_path / "b.epub", {"read.me": "x", f"__MACOSX/._{name}": "x", name: data}))
    assert book.format == "fb2.zip" and len(chapters) == 6
    book, _ = read(build_zip(tmp_path / "two.zip", {name: data, "second.fb2": data}))
    assert codes(book) == {"several_books"}


def test_pictures_are_skipped_and_the_cover_is_found(tmp_path):
    binary = '<binary id="{}" content-type="image/png">\n{}\n</binary>'
    pictures = binary.format("big", "A" * MB) + binary.format("c.png", base64.b64encode(PNG).decode())
    info = '<coverpage><image l:href="#c.png"/></coverpage>'
    book, chapters = read(build_fb2(tmp_path / "b", NESTED + pictures, info=info))
    assert book.cover() == (PNG, "image/png") and len(chapters) == 6
    book, _ = read(build_fb2(tmp_path / "none", NESTED))
    assert book.cover() is None


def test_parts_of_a_file_are_read_across_the_borders_of_chunks(tmp_path):
    """A tag, a reference and a character that cross a border stay whole."""
    paragraphs = [f"<p>слово{at} &#1078;<b>й</b>&amp;ж</p>" for at in range(20_000)]
    _, chapters = read(build_fb2(tmp_path / "b", f"<body><section>{''.join(paragraphs)}</section></body>"))
    content = "\n".join(chapter.content for chapter in chapters)
    assert content.split() == [word for at in range(20_000) for word in (f"слово{at}", "жй&ж")]
