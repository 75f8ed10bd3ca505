"""Texts for the errors and warnings of books: one sentence on the cause, one on the next step."""

from flask_babel import lazy_gettext

CAUSES = {
    "not_a_book": lazy_gettext("The file is not a book."),
    "encrypted": lazy_gettext("The book is protected by DRM."),
    "truncated": lazy_gettext("The file is damaged or incomplete."),
    "zip_bomb": lazy_gettext("The file unpacks to far more than its size."),
    "entity_bomb": lazy_gettext("Entities in the file multiply its text."),
    "too_deep": lazy_gettext("The elements of the file are nested too deep."),
    "too_many_entries": lazy_gettext("The file lists too many entries."),
    "too_large": lazy_gettext("A part of the file is too large."),
    "empty": lazy_gettext("The book has no text."),
    "incomplete": lazy_gettext("Much of the text would be lost."),
    "unsupported": lazy_gettext("The format is not supported."),
    "cancelled": lazy_gettext("The processing was cancelled."),
    "worker_lost": lazy_gettext("The worker died several times while it processed the book."),
    "missing_file": lazy_gettext("The file of the book does not exist."),
}
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
WARNINGS = {
    "bad_contents": lazy_gettext("The table of contents is unreadable."),
    "broken_contents": lazy_gettext("Entries of the table of contents lead nowhere."),
    "external_entity": lazy_gettext("The file refers to other files. Nothing was read from there."),
    "lost_text": lazy_gettext("A part of the text was lost."),
    "missing_document": lazy_gettext("A document of the reading order is missing."),
    "missing_file": lazy_gettext("A file of the manifest is missing."),
    "no_container": lazy_gettext("The EPUB does not name its package document."),
    "no_spine": lazy_gettext("The EPUB has no reading order."),
    "not_shared": lazy_gettext("The results were not written into the reading app's tables."),
    "no_structure": lazy_gettext("A document could not be parsed. Its text was kept without structure."),
    "not_well_formed": lazy_gettext("The markup is not well-formed."),
    "repeated_document": lazy_gettext("A document is named twice. It was read once."),
    "several_books": lazy_gettext("The file holds several books. The first was read."),
    "undecodable": lazy_gettext("Some bytes do not belong to the encoding."),
    "unknown_entity": lazy_gettext("An entity is undefined."),
    "wrong_encoding": lazy_gettext("The declared encoding is wrong."),
}


def cause_of(code: str) -> str:
    return str(CAUSES.get(code, code))


def remedy_of(code: str) -> str:
    return str(REMEDIES.get(code, ""))


def warning_text(code: str) -> str:
    return str(WARNINGS.get(code, code))
