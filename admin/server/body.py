"""The body of a request."""

from collections.abc import Callable
from threading import BoundedSemaphore

from gunicorn.http import Request
from gunicorn.http.unreader import Unreader

from admin import UPLOADS_AT_ONCE
from admin.server.pace import TooManyUploads

#: Largest piece of a body, in bytes.
PIECE = 64 << 10

uploads = BoundedSemaphore(UPLOADS_AT_ONCE)


class Body(Unreader):
    """The bytes of a request, for gunicorn's parser.

    The event loop adds the head, and the body if it is small. Reading a larger body waits for the client.
    """

    def __init__(self, head: bytes, receive: Callable[[int], bytes]) -> None:
        super().__init__()
        self.unread(head)
        self.receive = receive
        self.is_complete, self.is_upload = True, False

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return the next bytes from the client. Raises TooManyUploads and SlowClient."""
        if self.is_complete:
            return b""
        if not self.is_upload:
            self.is_upload = uploads.acquire(blocking=False)
        if not self.is_upload:
            raise TooManyUploads
        return self.receive(min(size_hint or PIECE, PIECE))

    def end(self) -> None:
        """Let another upload begin."""
        if self.is_upload:
            uploads.release()
        self.is_complete, self.is_upload = True, False


def body_length(request: Request) -> int | None:
    """Return the length in bytes. None if the body is chunked."""
    headers = dict(request.headers)
    return None if "TRANSFER-ENCODING" in headers else int(headers.get("CONTENT-LENGTH", 0))


def expects_continue(request: Request) -> bool:
    return dict(request.headers).get("EXPECT", "").lower() == "100-continue"
