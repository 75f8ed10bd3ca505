"""Operators, tokens, one's own account, the audit."""
