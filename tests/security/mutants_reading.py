"""The controls against hostile books, each taken out."""

from mutation import Mutant

MUTANTS = [
    Mutant(
        "an external entity is not read",
        "book_text outer_ones",
        instead=(("reading/books/markup.py", "if value is None:", "if value is None and name == '':"),),
    ),
    Mutant(
        "entities of entities are refused",
        "hostile hostile_file and laughs",
        instead=(("reading/books/markup.py", "for other in OWN_REFERENCE.findall(value)", "for other in ()"),),
    ),
    Mutant(
        "entities add few characters",
        "hostile quadratic",
        "reading/books/markup.py",
        "MAX_EXPANSION = 1 << 40",
    ),
    Mutant(
        "elements are nested within a limit",
        "hostile hostile_file and levels",
        "reading/books/blocks.py",
        "MAX_DEPTH = 1 << 40",
    ),
    Mutant(
        "a zip file has a limited number of entries",
        "hostile many_entries or directory",
        "reading/books/archive.py",
        "MAX_ENTRIES = MAX_DIRECTORY = 1 << 40",
    ),
    Mutant(
        "the entries of a zip file unpack within a limit",
        "hostile bomb and entries",
        "reading/books/archive.py",
        "MAX_UNPACKED = 1 << 40",
    ),
    Mutant(
        "a document unpacks within a limit",
        "hostile bomb and document",
        "reading/books/archive.py",
        "check_size = lambda entry, limit: None",
    ),
    Mutant(
        "a document with DRM is refused",
        "epub encrypted_chapter",
        "reading/books/epub_package.py",
        "check_encryption = lambda *arguments: None",
    ),
    Mutant(
        "a book that loses its text fails",
        "losses incomplete",
        "reading/books/book.py",
        "FAIL_BELOW = WARN_BELOW = 0",
    ),
]
