"""One request and its response, in a thread of the web server."""

from typing import TYPE_CHECKING

from gunicorn.http import Request, wsgi

from admin.server.body import Body
from admin.server.pace import Pace, SlowClient
from admin.server.refusals import problem_of

if TYPE_CHECKING:
    from admin.server.connection import Connection

#: Bytes of a response that are collected before the thread waits for the client. Pages and static files are smaller.
COLLECTED = 1 << 20


class Response(wsgi.Response):
    """A response that does not name the server software."""

    def default_headers(self) -> list[str]:
        return [line for line in super().default_headers() if not line.startswith("Server:")]


class Exchange:
    """Runs the application for one request. It takes the place of gunicorn's socket."""

    def __init__(self, connection: "Connection", request: Request, body: Body) -> None:
        self.connection, self.worker = connection, connection.worker
        self.request, self.body = request, body
        self.pending, self.is_started, self.is_cut = bytearray(), False, False
        self.pace = Pace()

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
        peer, address = self.connection.peer, self.connection.address
        response, environ = wsgi.create(self.request, self, peer, address, self.worker.cfg, Response)
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
            self.connection.run_in_loop(self.connection.send(self.take_pending(), self.pace))
        self.pending += data

    def take_pending(self) -> bytes:
        data, self.pending = bytes(self.pending), bytearray()
        return data
