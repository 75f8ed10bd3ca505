"""Classes of words: places, people, weather, looks. A file per language lists dictionary forms and weights."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

#: The classes of `words` in ru.toml and en.toml, then those that a part of speech or an ending decides.
CLASSES = (
    *("place", "room", "person", "body", "weather", "time", "look", "scene", "inner", "modal", "talk"),
    *("quality", "action", "other"),
)
OTHER = CLASSES.index("other")

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Words:
    """The class of each dictionary form, and the weight of each class in a passage's score."""

    class_of: dict[str, int]
    weights: tuple[float, ...]
    bias: float


def load_words(language: str) -> Words:
    """Read the file of a language. A form that two classes list belongs to the first."""
    with open(FOLDER / f"{language}.toml", "rb") as file:
        content = tomllib.load(file)
    class_of: dict[str, int] = {}
    for name, forms in content["words"].items():
        for form in forms.split():
            class_of.setdefault(form, CLASSES.index(name))
    weights = tuple(content["weights"].get(name, 0.0) for name in CLASSES)
    return Words(class_of, weights, content["weights"]["bias"])
