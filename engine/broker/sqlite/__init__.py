"""The broker on one SQLite file."""
