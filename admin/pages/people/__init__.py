"""Operators, tokens, one's own account, the audit."""

# Each puts its pages on the blueprint by being imported.
from admin.pages.people import account, audit, operators, preferences, tokens  # noqa: F401
