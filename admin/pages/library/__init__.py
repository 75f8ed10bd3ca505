"""Reading sessions."""

from admin.pages.library import session_charts, sessions

PAGES = (session_charts, sessions)
