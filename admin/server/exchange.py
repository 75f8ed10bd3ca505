"""A request and its response, in a thread of the web server."""

from collections.abc import Callable
from typing import NamedTuple

from gunicorn.http import Request, wsgi
from gunicorn.workers.base import Worker

from admin.server.body import Body
from admin.server.pace import SlowClient
from admin.server.refusals import problem_of

#: Bytes of a response that are collected before the thread waits for the client. Pages and static files are smaller.
COLLECTED = 1 << 20


class Addresses(NamedTuple):
    """Host and port of both ends of a connection."""

    client: tuple[str, int]
    server: tuple[str, int]


class Response(wsgi.Response):
    """A response that does not name the server software."""

    def default_headers(self) -> list[str]:
        return [line for line in super().default_headers() if not line.startswith("Server:")]


class Exchange:
    """Runs the application for one request. It takes the place of gunicorn's socket."""

    def __init__(
        self, worker: Worker, request: Request, body: Body, addresses: Addresses, send: Callable[[bytes], None]
    ) -> None:
        """`send` sends a part of the response and waits for the client."""
        self.worker, self.request, self.body = worker, request, body
        self.addresses, self.send_and_wait = addresses, send
        self.pending, self.is_started, self.is_cut = bytearray(), False, False

    def run(self) -> bool:
        """Run the application. Return true if the connection stays open.

        The end of the response is left in `pending`.
        """
        try:
            return self.respond()
        except SlowClient as error:
            self.is_cut = True
            self.worker.log.warning("%s %s is cut off: %s", self.request.method, self.request.path, error)
        except ConnectionError:
            self.is_cut = True
        except Exception as error:
            self.worker.log.exception("Error handling request %s", self.request.uri)
            self.is_cut, self.pending = self.is_started, bytearray(problem_of(error))
        finally:
            self.body.end()
        return False

    def respond(self) -> bool:
        response, environ = wsgi.create(self.request, self, *self.addresses, self.worker.cfg, Response)
        environ["wsgi.multithread"] = True
        if not self.worker.alive or not self.body.is_complete:
            response.force_close()
        parts = self.worker.wsgi(environ, response.start_response)
        try:
            for part in parts:
                response.write(part)
            response.close()
        finally:
            if hasattr(parts, "close"):
                parts.close()
        return not response.should_close()

    # --- methods of a socket ---------------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Discard `100 Continue`. The connection sends it when the body is read, which a refusal avoids."""
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Add a part of the response. Wait for the client first if too much is pending."""
        if len(self.pending) >= COLLECTED:
            self.is_started = True
            self.send_and_wait(self.take_pending())
        self.pending += data

    def take_pending(self) -> bytes:
        data, self.pending = bytes(self.pending), bytearray()
        return data
