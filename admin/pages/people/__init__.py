"""Users, tokens, the user's account, the audit log."""

# Importing a module registers its pages on the blueprint.
from admin.pages.people import account, audit, operators, preferences, tokens  # noqa: F401
