"""The limits that keep a hostile file from taking the worker's time and memory."""

MB = 1 << 20

#: Entries of a zip file, and bytes of its directory. A directory entry has 46 bytes and a name.
MAX_ENTRIES = 20_000
MAX_DIRECTORY = MAX_ENTRIES * 250

#: Bytes of all entries after unpacking.
MAX_UNPACKED = 512 * MB

#: Bytes of one document of an EPUB, of its package document and of a picture.
MAX_DOCUMENT = 16 * MB
MAX_PACKAGE = 4 * MB
MAX_COVER = 20 * MB

#: Unpacked bytes per packed byte of a large entry. Blank pages reach 463, so what fits into a document is exempt.
MAX_RATIO = 100

#: Open elements around a text. Honest books stay below 100.
MAX_DEPTH = 10_000

#: Characters that the entities of one document may add.
MAX_EXPANSION = 100_000

#: Characters of a chapter. A longer one is cut at a paragraph, so that memory stays flat.
MAX_CHAPTER = 1_000_000
