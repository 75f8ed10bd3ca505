"""Plain text: encodings, headings, paragraphs, language and counts."""

import pytest
from book_files import codes, lines, read

from reading.books.counting import count_letters, count_words, reading_minutes
from reading.books.language import declared_language, detect_language

RUSSIAN = """— Что, Пётр, не видать ещё? — спрашивал двадцатого мая, выходя без шапки на крылечко постоялого двора,
барин лет сорока с небольшим, в запылённом пальто и клетчатых панталонах, у своего слуги, молодого и щекастого малого
с беловатым пухом на подбородке и маленькими тусклыми глазёнками. «Никак нет-с», — отвечал он.

"""
ENGLISH = """“Call me Ishmael,” he said. Some years ago—never mind how long precisely—having little or no money in my
purse, and nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of
the world. It’s a way I have of driving off the spleen.

"""
ENCODINGS = [
    *[(RUSSIAN, encoding) for encoding in (
        "utf-8", "utf-8-sig", "windows-1251", "koi8-r", "cp866", "iso8859-5", "utf-16", "utf-16-le", "utf-16-be",
        "mac_cyrillic",
    )],
    *[(ENGLISH, encoding) for encoding in (
        "utf-8", "utf-8-sig", "windows-1252", "utf-16", "utf-16-le", "mac_roman", "latin-1",
    )],
]  # fmt: skip


@pytest.mark.parametrize("length", [200, 2000, 100_000])
@pytest.mark.parametrize(("text", "encoding"), ENCODINGS, ids=lambda value: value if len(value) < 20 else "")
def test_encodings(tmp_path, text, encoding, length):
    path = tmp_path / "b.txt"
    expected = (text * (length // len(text) + 1))[:length].encode(encoding, "ignore").decode(encoding)
    path.write_bytes(expected.encode(encoding))
    book, chapters = read(path)
    assert " ".join(" ".join(chapter.content for chapter in chapters).split()) == " ".join(expected.split())
    assert book.language == ("ru" if text is RUSSIAN else "en")
    assert codes(book) == set() and book.kept_share == 1


def write(path, *paragraphs):
    path.write_text("\n\n".join(paragraphs))
    return path


@pytest.mark.parametrize(
    "headings",
    [
        ["Глава I", "ГЛАВА ВТОРАЯ", "Глава 3. Дорога", "Глава двенадцатая"],
        ["ЧАСТЬ ПЕРВАЯ", "Эпилог", "Предисловие"],
        ["CHAPTER 1. Loomings.", "Chapter Two", "CHAPTER III The Counterpane", "EPILOGUE"],
        ["I", "II.", "XIV", "XLIX"],
    ],
)
def test_headings_begin_chapters(tmp_path, headings):
    paragraphs = [text for heading in headings for text in (heading, "Просто текст главы, который не заголовок.")]
    _, chapters = read(write(tmp_path / "b", *paragraphs))
    assert [chapter.title for chapter in chapters] == headings
    assert [lines(chapter)[0] for chapter in chapters] == headings


@pytest.mark.parametrize(
    "line",
    [
        "Chapter 3 of the book was long.",
        "Часть из них ушла домой.",
        "I saw it.",
        "Книга лежала на столе.",
        "Mild.",
        "Act now!",
    ],
)
def test_sentences_are_no_headings(tmp_path, line):
    _, [chapter] = read(write(tmp_path / "b", "Some text here.", line, "More text follows."))
    assert lines(chapter) == ["Some text here.", line, "More text follows."]


def test_part_and_chapter_together_are_one_title(tmp_path):
    _, chapters = read(write(tmp_path / "b", "Часть первая", "I", "Текст.", "II", "Ещё."))
    assert [(chapter.title, chapter.level) for chapter in chapters] == [("Часть первая. I", 1), ("II", 2)]


def test_line_below_a_number_is_its_subtitle(tmp_path):
    _, [chapter] = read(write(tmp_path / "b", "CHAPTER I", "Down the Rabbit-Hole", "Alice was tired of sitting."))
    assert chapter.title == "CHAPTER I. Down the Rabbit-Hole"
    assert lines(chapter)[1] == "Down the Rabbit-Hole"


def test_list_of_headings_is_a_service_page(tmp_path):
    headings = [f"CHAPTER {number}. Title" for number in range(1, 8)]
    text = [paragraph for heading in headings for paragraph in (heading, "The text of it.")]
    _, chapters = read(write(tmp_path / "b", "Contents", *headings, *text))
    assert [chapter.is_service_page for chapter in chapters] == [True, True, *[False] * 7]
    assert [chapter.title for chapter in chapters[2:]] == headings


def test_wrapped_lines_are_joined_and_verse_is_not(tmp_path):
    prose = "Everyone knows that it is a truth acknowledged, that a man in\npossession of a good fortune."
    verse = "Tyger Tyger, burning bright,\nIn the forests of the night;"
    _, [chapter] = read(write(tmp_path / "b", prose, verse))
    assert chapter.content == f"{prose.replace(chr(10), ' ')}\n\n{verse}"


def test_title_and_author_are_named_or_the_first_line(tmp_path):
    book, _ = read(write(tmp_path / "a", "Title: Moby Dick\nAuthor: Herman Melville", "Text."))
    assert (book.title, book.author) == ("Moby Dick", "Herman Melville")
    book, _ = read(write(tmp_path / "b", "КАПИТАНСКАЯ ДОЧКА", "Текст."))
    assert (book.title, book.author) == ("КАПИТАНСКАЯ ДОЧКА", None)
    book, _ = read(write(tmp_path / "c", "Night had come.", "Text."))
    assert book.title is None


def test_line_of_megabytes_is_kept(tmp_path):
    path = tmp_path / "b"
    path.write_text("слово " * 400_000)
    book, chapters = read(path)
    assert sum(chapter.words for chapter in chapters) == 400_000
    assert len(chapters) > 1 and book.kept_share == 1


def test_replacement_character_of_a_file_is_no_broken_byte(tmp_path):
    path = tmp_path / "book"
    path.write_text(RUSSIAN * 20 + "\n\nЗдесь потерян знак: \ufffd.", encoding="utf-8")
    assert codes(read(path)[0]) == set()
    path.write_bytes(path.read_bytes() + b"\xff.")
    assert codes(read(path)[0]) == {"undecodable"}


def test_russian_in_the_middle_of_ascii_decides_the_encoding(tmp_path):
    path = tmp_path / "b"
    path.write_bytes(("Plain ASCII licence. " * 20_000 + RUSSIAN * 20).encode("koi8-r", "ignore"))
    book, _ = read(path)
    assert book.encoding == "koi8-r"


@pytest.mark.parametrize(
    ("tag", "code"),
    [("en-US", "en"), ("rus", "ru"), ("RU", "ru"), ("und", None), ("", None), (None, None), ("x", None)],
)
def test_declared_language(tag, code):
    assert declared_language(tag) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (RUSSIAN, "ru"),
        (ENGLISH, "en"),
        ("Усі щасливі родини схожі одна на одну, кожна нещаслива родина нещаслива по-своєму і не так, як усі.", None),
        ("Всички щастливи семейства си приличат, всяко нещастно семейство е нещастно посвоему и не е като тях.", None),
        ("Toutes les familles heureuses se ressemblent, chaque famille malheureuse est malheureuse à sa façon.", None),
        ("1234", None),
    ],
)  # fmt: skip
def test_detected_language(text, code):
    assert detect_language(text) == code


@pytest.mark.parametrize(
    "text",
    ["", "a", "a b\nc\n\nd", " a  b ", "a\u00a0b", "a \u2009b", "a\n\n\nb\n", "a\x1fb", "слово — да", "a\tb " * 9000],
)
def test_words_are_those_between_white_space(text):
    assert count_words(text) == len(text.split())


def test_counts():
    assert count_letters("Ёж, ёж \u00a0\u00ad1 a!") == 5
    assert count_words("слово " * 50_000) == 50_000 and count_words(" one\ntwo ") == 2
    assert [reading_minutes(words, "ru", {"ru": 180, "en": 230}) for words in (0, 1, 180, 1800)] == [0, 1, 1, 10]
    assert reading_minutes(2300, "fr", {"ru": 180, "en": 230}) == 10
