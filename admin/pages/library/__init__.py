"""Reading sessions."""

# Each puts its pages on the blueprint by being imported.
from admin.pages.library import session_charts, sessions  # noqa: F401
