"""Reading sessions."""

# Importing a module registers its pages on the blueprint.
from admin.pages.library import session_charts, sessions  # noqa: F401
