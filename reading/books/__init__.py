"""The reader of books: EPUB, FB2 and plain text to chapters. It uses no queue, no database and no web library."""
