"""A package, so that the browser of its conftest is closed after its last test."""
