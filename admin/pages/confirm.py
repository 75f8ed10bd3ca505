"""The page that asks once more before something dangerous is done."""

from collections.abc import Sequence
from typing import NamedTuple

from flask import request
from flask.typing import ResponseReturnValue

from admin.pages import live_refresh


class Confirmation(NamedTuple):
    """`word`: what must be typed before it is done; None: a click is enough. `facts`: label and value, a line each."""

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
        """Whether the form that was sent has the word in it."""
        return self.word is None or request.form.get("word", "").strip() == self.word


def render_confirmation(question: Confirmation, *, wrong: bool = False) -> ResponseReturnValue:
    """The form is sent to the very address of this page. `wrong`: what was typed is not the word."""
    answer = live_refresh.render_page("confirm.html", question=question, wrong=wrong)
    answer.status_code = 422 if wrong else answer.status_code
    return answer
