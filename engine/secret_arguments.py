"""The rule for secret arguments: which ones they are, and how a call is split into what is shown and what is sealed.

An argument is secret if its task names it in `secrets=`, or if its name looks like a secret: a parameter, also when it
is passed by position, or a key at any depth. None, true and false are no secrets.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from inspect import Parameter
from typing import Any, NamedTuple

import orjson

from engine.outcomes import Outcome
from engine.secret_texts import MASK, is_hiding, mask_json

#: Words that make a name secret. A plural counts too.
WORDS = frozenset(
    """pwd pw pass passcode secret token credential cred dsn cookie authorization auth bearer pin jwt otp totp cvv cvc
    apikey""".split()  # noqa: SIM905
)
#: Parts of a word that make a name secret: `dbpassword`, `accesstoken`.
PARTS = re.compile(r"passw|passphrase|credential|authorization|(token|secret|apikey)$")
#: Two words that make a name secret together.
PAIRS = {("connection", "string")} | {
    (word, "key") for word in ("api", "private", "access", "secret", "signing", "encryption", "master", "auth", "ssh")
}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")

#: Every secret name contains one of these.
STEMS = (b"pass", b"pw", b"secret", b"token", b"cred", b"dsn", b"cookie", b"auth", b"bearer", b"pin", b"jwt", b"otp",
         b"cvv", b"cvc", b"key", b"connection")  # fmt: skip
#: orjson rejects arguments that are nested deeper, or hold themselves.
MAX_DEPTH = 254

#: A position or a name, then keys and indexes.
Path = Sequence[str | int]


class Secret(NamedTuple):
    """A value taken out of a call, and its place: `[0]`, `["password"]`, `["options", "token"]`."""

    path: Path
    value: Any


class Call(NamedTuple):
    """Arguments with masks, and the values under the masks."""

    args: Sequence[object]
    kwargs: Mapping[str, object]
    secrets: list[Secret]


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Return true if the name has a word that means a secret: `db_password`, `apiKey`, not `pinned` or `compass`."""
    words = [word.lower() for word in WORD.findall(name)]
    singular = [word.removesuffix("s") for word in words]
    has_word = any(word in WORDS or PARTS.search(word) for word in (*words, *singular))
    return has_word or any(pair in PAIRS for pair in zip(words, singular[1:], strict=False))


class SecretParameters(NamedTuple):
    """The secret parameters of a task.

    `further`: the position from which values of `*args` are secret. `plain`: if `**kwargs` is secret, the only names
    that are not.
    """

    positions: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()
    further: int | None = None
    plain: frozenset[str] | None = None

    def has_position(self, position: int) -> bool:
        return position in self.positions or (self.further is not None and position >= self.further)

    def has_name(self, name: str) -> bool:
        return name in self.names or is_secret_name(name) or (self.plain is not None and name not in self.plain)


def secret_parameters(parameters: Iterable[Parameter], declared: Collection[str] = ()) -> SecretParameters:
    """Return the secret ones of a function's parameters. `declared`: names that are secret whatever they look like."""
    names = frozenset(declared)
    positions, plain = set(), set()
    further, has_secret_kwargs = None, False
    for position, parameter in enumerate(parameters):
        if not (parameter.name in names or is_secret_name(parameter.name)):
            plain.add(parameter.name)
        elif parameter.kind == Parameter.VAR_POSITIONAL:
            further = position
        elif parameter.kind == Parameter.VAR_KEYWORD:
            has_secret_kwargs = True
        else:
            positions.add(position)
    return SecretParameters(frozenset(positions), names, further, frozenset(plain) if has_secret_kwargs else None)


def mask_names(value: object) -> Any:
    """Return the value with a mask under every secret name, at any depth."""
    return take_out(value, (), [])


def split_call(args: Sequence[object], kwargs: Mapping[str, object], parameters: SecretParameters) -> Call:
    """Return the call with masks. The arguments themselves are not changed."""
    secrets: list[Secret] = []
    if not may_have_secrets(args, kwargs, parameters):
        return Call(args, kwargs, secrets)
    masked_args = [take_out(value, (at,), secrets, parameters.has_position(at)) for at, value in enumerate(args)]
    masked_kwargs = {
        name: take_out(value, (name,), secrets, parameters.has_name(name)) for name, value in kwargs.items()
    }
    return Call(tuple(masked_args), masked_kwargs, secrets) if secrets else Call(args, kwargs, secrets)


def may_have_secrets(args: Sequence[object], kwargs: Mapping[str, object], parameters: SecretParameters) -> bool:
    """Return false for a call that certainly has none. Large arguments are searched in their JSON, which is fast."""
    if is_hiding() or parameters.plain is not None or any(map(parameters.has_name, kwargs)):
        return True
    if any(map(parameters.has_position, range(len(args)))):
        return True
    try:
        text = orjson.dumps([args, kwargs], default=str).lower()
    except TypeError:
        return True
    return any(stem in text for stem in STEMS)


def take_out(value: object, path: tuple[str | int, ...], secrets: list[Secret], is_secret: bool = False) -> object:
    """Return the value with masks. The values under them are added to `secrets`.

    What repeats a secret of a running task is masked as well: its text, or the dictionary of which it is a key.
    """
    if is_secret and value is not None and not isinstance(value, bool):
        secrets.append(Secret(path, value))
        return MASK
    if is_hiding() and holds_hidden(value):
        secrets.append(Secret(path, value))
        return mask_json(value)
    if value is None or isinstance(value, str | int | float | Outcome) or len(path) > MAX_DEPTH:
        return value  # the error text of an outcome is masked already
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {
            key: take_out(inner, (*path, key), secrets, isinstance(key, str) and is_secret_name(key))
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [take_out(inner, (*path, at), secrets) for at, inner in enumerate(value)]
    return value


def holds_hidden(value: object) -> bool:
    """Return true for a text, a number or a key that repeats a secret of a running task."""
    parts = value if isinstance(value, dict) else [value]
    return any(mask_json(part) != part for part in parts if isinstance(part, str | int | float))
