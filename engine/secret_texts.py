"""Texts that repeat secret arguments: errors, log lines, progress and results of a run.

`hide_secrets` names the secrets while a run executes. Until its end, every text of this process that is stored or
logged has a mask in their place.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"

#: Shorter secrets are not searched for: their characters are everywhere in a traceback.
MIN_LENGTH = 4
#: Words and lines of a secret from this length on are secrets themselves.
MIN_PART = 8

#: The texts to mask, longest first, by block of `hide_secrets`. Threads of a process share it.
_hidden: dict[object, list[str]] = {}


@contextmanager
def hide_secrets(values: Iterable[object]) -> Iterator[None]:
    """Mask these values in the texts of this process while the block runs."""
    texts = {form for value in values for text in leaf_texts(value) for form in written_forms(text)}
    block = object()
    _hidden[block] = sorted(texts, key=len, reverse=True)
    try:
        yield
    finally:
        del _hidden[block]


def mask_text(text: str) -> str:
    """Return the text with masks. Without a secret in it, it is returned itself."""
    if _hidden:
        for secrets in tuple(_hidden.values()):
            for secret in secrets:
                if secret in text:
                    text = text.replace(secret, MASK)
    return text


def mask_json(value: Any) -> Any:
    """Return a JSON value with masks in its texts, keys and numbers."""
    match value:
        case dict():
            return {mask_text(key): mask_json(inner) for key, inner in value.items()}
        case list():
            return [mask_json(inner) for inner in value]
        case str():
            return mask_text(value)
        case int() | float() if mask_text(str(value)) == MASK:
            return MASK
    return value


def is_hiding() -> bool:
    return bool(_hidden)


def leaf_texts(value: object) -> Iterator[str]:
    """Yield the texts and numbers in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from leaf_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaf_texts(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def written_forms(secret: str) -> set[str]:
    """Return the secret and its parts: as they are, and written once or twice by Python, as JSON or in an address."""
    parts = {part for part in (secret, secret.strip(), *secret_parts(secret)) if len(part) >= MIN_LENGTH}
    for _ in range(2):  # the message of an exception may contain `repr(secret)`, and its traceback `repr(message)`
        parts |= {write(part) for write in WRITERS for part in parts}
    return parts


WRITERS: tuple[Callable[[str], str], ...] = (
    lambda text: repr(text)[1:-1],
    lambda text: repr(f"\"'{text}")[4:-1],  # beside both kinds of quotes
    lambda text: repr(text.encode())[2:-1],
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    quote,
    quote_plus,
)


def secret_parts(secret: str) -> Iterator[str]:
    """Yield long words of a secret, such as the token after `Bearer`, and the password in an address."""
    yield from (word for word in secret.split() if len(word) >= MIN_PART)
    try:
        password = urlsplit(secret).password or ""
    except ValueError:  # not an address
        return
    yield from (password, unquote(password))
