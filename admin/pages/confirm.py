"""Confirmation page before a destructive action."""

from collections.abc import Sequence
from typing import NamedTuple

from flask import request
from flask.typing import ResponseReturnValue

from admin.pages import live_refresh


class Confirmation(NamedTuple):
    """`word`: text to type before the action is executed; None: a click is enough. `facts`: (label, value) pairs."""

    title: str
    statement: str
    button: str
    back: str
    back_button: str
    facts: Sequence[tuple[str, object]] = ()
    consequences: Sequence[str] = ()
    warning: str | None = None
    word: str | None = None
    page: str = ""

    @property
    def is_confirmed(self) -> bool:
        """True if the submitted form contains the word."""
        return self.word is None or request.form.get("word", "").strip() == self.word


def render_confirmation(question: Confirmation, *, wrong: bool = False) -> ResponseReturnValue:
    """Return the page; its form posts to the same URL. With `wrong`, the typed word did not match: status 422."""
    answer = live_refresh.render_page("confirm.html", question=question, wrong=wrong)
    answer.status_code = 422 if wrong else answer.status_code
    return answer
