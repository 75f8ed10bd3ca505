"""Counts of a text: letters, words, minutes."""

from collections.abc import Mapping

#: Bytes of UTF-8 that are no letter: ASCII without letters, and the second and later bytes of a character.
NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha()) + bytes(range(0x80, 0xC0))
#: Invisible characters: soft hyphen, no-break space, byte-order mark.
INVISIBLE = ("\u00ad".encode(), "\u00a0".encode(), "\ufeff".encode())

PIECE = 100_000
DEFAULT_LANGUAGE = "en"
#: Reading speed by language. Other languages are read at the speed of the default one.
WORDS_PER_MINUTE: Mapping[str, int] = {"ru": 180, "en": 230}


def count_letters(text: str) -> int:
    """Return the number of ASCII letters and of characters beyond ASCII."""
    return count_letters_of_bytes(text.encode("utf-8", "replace"))


def count_letters_of_bytes(data: bytes) -> int:
    """Count the letters of UTF-8 bytes. A thousand times as fast as a test of each character."""
    for character in INVISIBLE:
        data = data.replace(character, b"")
    return len(data.translate(None, NO_LETTERS))


def count_words(text: str) -> int:
    """Return the number of words between white space. A long text is counted in pieces, without a list of all words."""
    pieces = (text[start : start + PIECE] for start in range(0, len(text), PIECE))
    divided = sum(not text[at - 1].isspace() and not text[at].isspace() for at in range(PIECE, len(text), PIECE))
    return sum(len(piece.split()) for piece in pieces) - divided


def reading_minutes(words: int, language: str | None, words_per_minute: Mapping[str, int]) -> int:
    """Return whole minutes, at least 1 for any word."""
    speed = words_per_minute.get(language or DEFAULT_LANGUAGE) or words_per_minute[DEFAULT_LANGUAGE]
    return max(1, round(words / speed)) if words else 0
