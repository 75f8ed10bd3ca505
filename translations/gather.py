"""Collect every text that is marked for translation into the catalogues: `make words`.

A new text gets an empty msgstr, to be translated by hand. A text that is no longer used is removed.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parent.parent

#: `counted` takes the two plural forms first. The first argument of an engine error is its message.
KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "lazy_gettext": None,
    "lazy_pgettext": ((1, "c"), 2),
    **dict.fromkeys(("counted", "ngettext_capped"), (1, 2)),
    **dict.fromkeys(("InvalidArguments", "InvalidState", "NoLiveWorker", "Paused", "UnknownTask")),
}
JINJA = {"trimmed": "true", "trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}


def gathered() -> Catalog:
    catalog = Catalog(project="Dewey", charset="utf-8")
    for path, method, options in sources():
        for _line, message, _comments, context in extract_from_file(method, path, KEYWORDS, options=options):
            catalog.add(message, locations=[(str(path.relative_to(ROOT)), None)], context=context)
    return catalog


def sources() -> Iterator[tuple[Path, str, dict[str, str]]]:
    for folder in ("admin", "engine"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, "python", {}
    for path in sorted((ROOT / "templates").rglob("*.html")):
        yield path, "jinja2", JINJA


def catalogues() -> list[Path]:
    return sorted((ROOT / "translations").glob("*/LC_MESSAGES/messages.po"))


def main() -> int:
    template, missing = gathered(), 0
    for path in catalogues():
        with path.open("rb") as file:
            catalog = read_po(file, locale=path.parent.parent.name)
        catalog.update(template, no_fuzzy_matching=True)
        catalog.creation_date = catalog.revision_date  # so that a run without changes leaves the file unchanged
        with path.open("wb") as file:
            write_po(file, catalog, width=0, sort_output=True, ignore_obsolete=True, include_lineno=False)
        empty = [message for message in catalog if message.id and not is_translated(message)]
        missing += len(empty)
        print(f"{path.relative_to(ROOT)}: {len(catalog):,} texts, {len(empty):,} to translate")
    return 1 if missing else 0


def is_translated(message: Message) -> bool:
    forms = message.string if message.pluralizable else (message.string,)
    return bool(forms) and all(forms) and not message.fuzzy


if __name__ == "__main__":
    sys.exit(main())
