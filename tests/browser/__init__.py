"""A package, so that what its conftest opens for all of its tests is closed after them."""
