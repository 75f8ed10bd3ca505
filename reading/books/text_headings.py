"""Headings of plain text, in Russian and English."""

import re

NUMBER = r"(?:[ivxlcdm]+|\d{1,4})"
RUSSIAN_NUMBER = r"(?:перв|втор|трет|четв[её]рт|пят|шест|седьм|восьм|девят|десят|одиннадцат|двенадцат|последн)\w*"
ENGLISH_NUMBER = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:the )?(?:\w+th|first|second|third|last))"
)
NUMERAL = rf"(?:{NUMBER}|{RUSSIAN_NUMBER}|{ENGLISH_NUMBER})"
TITLE = r"(?:[.:)—–-]+\s*\S.*|\s+(?-i:[A-ZА-ЯЁ«“\"(]).*)?[.:]?"
PARTS = "часть|книга|том|действие|акт|part|book|volume|act"
CHAPTERS = "глава|сцена|явление|песнь|письмо|chapter|scene|canto|stave|letter"
ALONE = "эпилог|пролог|предисловие|послесловие|заключение|epilogue|prologue|preface|foreword|afterword"
ROMAN = r"(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\.?"

#: Level by form of a heading. A Roman number alone is a chapter.
FORMS = (
    (re.compile(rf"(?:{PARTS})\s+{NUMERAL}{TITLE}", re.IGNORECASE), 1),
    (re.compile(rf"(?:{CHAPTERS})\s+{NUMERAL}{TITLE}", re.IGNORECASE), 2),
    (re.compile(rf"(?:{ALONE})[.:]?", re.IGNORECASE), 1),
    (re.compile(ROMAN), 2),
)
BARE = re.compile(rf"(?:(?:{PARTS}|{CHAPTERS})\s+)?{NUMERAL}\.?", re.IGNORECASE)
LONGEST_HEADING = 150
LONGEST_BARE = 40
LONGEST_SUBTITLE = 60
SENTENCE_ENDS = (".", ",", ";", ":", "!", "?", "…")


def heading_level(paragraph: str) -> int:
    """Return 1 for a part, 2 for a chapter, 0 for any other paragraph."""
    if len(paragraph) > LONGEST_HEADING or "\n" in paragraph:
        return 0
    return next((level for form, level in FORMS if form.fullmatch(paragraph)), 0)


def is_bare_heading(paragraph: str) -> bool:
    """Return true for a heading that is only a number, with or without `Chapter`."""
    return len(paragraph) <= LONGEST_BARE and heading_level(paragraph) > 0 and BARE.fullmatch(paragraph) is not None


def is_subtitle(paragraph: str) -> bool:
    """Return true for a line that may be the title of a numbered chapter."""
    if len(paragraph) > LONGEST_SUBTITLE or "\n" in paragraph or paragraph.endswith(SENTENCE_ENDS):
        return False
    return paragraph[0].isupper()
