"""The language of a book, as a two-letter code."""

import re

#: Three-letter codes and names that books declare.
DECLARED = {
    "rus": "ru", "eng": "en", "ukr": "uk", "bel": "be", "bul": "bg", "deu": "de", "ger": "de", "fra": "fr",
    "fre": "fr", "spa": "es", "ita": "it", "por": "pt", "pol": "pl", "nld": "nl", "dut": "nl", "ces": "cs",
    "cze": "cs", "zho": "zh", "chi": "zh", "jpn": "ja", "kor": "ko", "ara": "ar", "heb": "he", "hin": "hi",
    "san": "sa", "lat": "la", "tur": "tr", "russian": "ru", "english": "en", "русский": "ru", "английский": "en",
}  # fmt: skip

#: Words without which no page of the language is written.
FUNCTION_WORDS = {
    "ru": frozenset(re.findall(r"\w+", "и в не на что он с как это его но она они из за то был к у же бы по так все")),
    "en": frozenset(re.findall(r"\w+", "the and of to in that was he it with his is for as had on at but be not they")),
}
#: Share of the words of a page that are function words of its language.
LEAST_SHARE = 0.06
#: Russian has ы. Bulgarian, Serbian and Ukrainian do not; Belarusian also has і and ў.
RUSSIAN, NOT_RUSSIAN = re.compile("ы"), re.compile("[іїєґўјљњђћџ]")
WORD = re.compile(r"[^\W\d_]+")
SAMPLE = 20_000


def declared_language(tag: str | None) -> str | None:
    """Return the code of a declared tag such as `en-US` or `rus`. None if it is missing or undetermined."""
    name = re.split(r"[-_]", (tag or "").strip().lower())[0]
    if name in DECLARED:
        return DECLARED[name]
    return name if re.fullmatch(r"[a-z]{2}", name) else None


def detect_language(text: str) -> str | None:
    """Return `ru` or `en` by the share of function words. None for any other language."""
    text = text[:SAMPLE].lower()
    words = WORD.findall(text)
    shares = {code: sum(word in known for word in words) / max(len(words), 1) for code, known in FUNCTION_WORDS.items()}
    code = max(shares, key=lambda code: shares[code])
    if shares[code] < LEAST_SHARE or (code == "ru" and not is_russian(text)):
        return None
    return code


def is_russian(text: str) -> bool:
    return len(RUSSIAN.findall(text)) > len(NOT_RUSSIAN.findall(text))
