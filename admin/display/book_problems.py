"""Remedies for the errors of books: one sentence on the next step."""

from flask_babel import lazy_gettext

REMEDIES = {
    "not_a_book": lazy_gettext("Add an EPUB, FB2 or plain text file."),
    "encrypted": lazy_gettext("Add a copy without DRM."),
    "truncated": lazy_gettext("Copy or download the file again."),
    "zip_bomb": lazy_gettext("Do not use the file. Obtain the book from another source."),
    "entity_bomb": lazy_gettext("Do not use the file. Obtain the book from another source."),
    "too_deep": lazy_gettext("Convert the book to EPUB again, or obtain it from another source."),
    "too_many_entries": lazy_gettext("Convert the book to EPUB again, or obtain it from another source."),
    "too_large": lazy_gettext("Divide the text into several files and convert the book again."),
    "empty": lazy_gettext("A book of pictures needs text recognition first."),
    "incomplete": lazy_gettext("Convert the book to EPUB again, or obtain it from another source."),
    "unsupported": lazy_gettext("Convert the file to EPUB, FB2 or plain text."),
    "cancelled": lazy_gettext("Process the book again."),
    "worker_lost": lazy_gettext("See the worker's log, then process the book again."),
    "missing_file": lazy_gettext("Add the file again."),
}


def remedy_of(code: str) -> str:
    return str(REMEDIES.get(code, ""))
