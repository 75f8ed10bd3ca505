"""Operators, tokens, one's own account, the audit."""

from admin.pages.people import account, audit, operators, preferences, tokens

PAGES = (account, audit, operators, preferences, tokens)
