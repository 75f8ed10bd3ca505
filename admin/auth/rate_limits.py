"""Limits of requests and of wrong passwords."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from flask import request
from flask_babel import gettext as _
from limits import RateLimitItem, parse
from limits.strategies import MovingWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

from admin.auth.identity import Actor, is_auto_refresh, secret_digest
from admin.auth.limit_storage import open_storage
from admin.auth.passwords import verify_password
from config import settings

WRONG_PASSWORDS_PER_ADDRESS = parse("20 per 5 minutes")
WRONG_PASSWORDS_PER_ACCOUNT = parse("10 per 5 minutes")

limiter = MovingWindowRateLimiter(open_storage(settings.redis_url))


class Window(NamedTuple):
    """A limit and what it applies to. Keys are digests, so that Redis holds no e-mail addresses."""

    limit: RateLimitItem
    key: str

    def hit(self) -> bool:
        """Count one more. Returns false if there are too many."""
        return limiter.hit(self.limit, self.key)

    def remaining(self) -> int:
        return limiter.get_window_stats(self.limit, self.key).remaining

    def exceeded(self, message: str) -> TooManyRequests:
        reset_at = limiter.get_window_stats(self.limit, self.key).reset_time
        return TooManyRequests(message, retry_after=max(1, int(reset_at - time.time()) + 1))


# --- requests ------------------------------------------------------------------------------------------------


def count_request(actor: Actor) -> None:
    """Raise TooManyRequests if this user or token sent more than API_RATE. A page's own refreshes do not count."""
    if actor.kind == "operator" and request.blueprint == "pages" and is_auto_refresh():
        return
    window = Window(parse(settings.api_rate), secret_digest(f"{actor.kind} {actor.name}"))
    if not window.hit():
        raise window.exceeded(_("Too many requests of one user or token. Wait and try again."))


# --- passwords -----------------------------------------------------------------------------------------------

#: Windows of passwords that are being checked.
checking: Counter[Window] = Counter()
checking_lock = threading.Lock()


def verify_limited(email: str, password: str, stored: str | None) -> bool:
    """Return true for the right password, as `verify_password`. Raises TooManyRequests after many wrong ones."""
    windows = (
        Window(WRONG_PASSWORDS_PER_ADDRESS, secret_digest(f"address {request.remote_addr}")),
        Window(WRONG_PASSWORDS_PER_ACCOUNT, secret_digest(f"account {email}")),
    )
    with reserved(windows):
        is_right = verify_password(password, stored)
        for window in () if is_right else windows:
            window.hit()
        return is_right


@contextmanager
def reserved(windows: tuple[Window, ...]) -> Iterator[None]:
    """Count a password as wrong while it is checked, so that many at once are no more than one after the other."""
    with checking_lock:
        for window in windows:
            if checking[window] >= window.remaining():
                raise window.exceeded(_("Too many failed sign-ins. Wait a few minutes and try again."))
        checking.update(windows)
    try:
        yield
    finally:
        with checking_lock:
            checking.subtract(windows)
            for window in windows:
                if not checking[window]:
                    del checking[window]
