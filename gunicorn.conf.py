"""Configuration of the web server: `gunicorn -c gunicorn.conf.py 'app:create_app()'` from the project's root.

The parent process reads the settings and checks the tasks. An error then ends gunicorn with exit code 2 and one line.
In a worker process gunicorn would restart it for ever.
"""

import json
import logging
import os
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn import glogging, util
from gunicorn.config import Config
from gunicorn.http import errors
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker

from admin import WEB_THREADS
from config import settings
from engine.log_format import formatter


def reject_duplicate_task_names() -> None:
    """Exit if the module `tasks` exits. A child imports it, so that SIGHUP still loads changed code."""
    if not (child := os.fork()):
        try:
            import tasks  # noqa: F401
        except SystemExit as exit:
            os._exit(int(exit.code or 0))
        finally:
            os._exit(0)  # a worker reports any other error
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(code)


reject_duplicate_task_names()


class Lines(glogging.Logger):
    """Log lines of gunicorn and the program on stderr, in the format of the other processes."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        handler = logging.StreamHandler()
        handler.setFormatter(formatter())
        handler.addFilter(name_web)
        logging.root.handlers = [handler]
        logging.root.setLevel(settings.log_level)
        # At DEBUG this logger prints every statement with its values, password hashes included.
        logging.getLogger("peewee").setLevel(logging.INFO)
        self.error_log.handlers, self.error_log.propagate = [], True


def name_web(record: logging.LogRecord) -> bool:
    """Set the process name `web` in lines of every thread."""
    record.processName, record.threadName = "web", threading.main_thread().name
    return True


class WebWorker(ThreadWorker):
    """Answer a malformed request with a problem document. gunicorn would send HTML."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        status, detail = refusal(exc)
        if is_of_the_client(exc):
            self.log.warning("Invalid request from ip=%s: %s", addr[0] if addr else "", exc)
        else:
            self.log.exception("Error handling request %s", getattr(req, "uri", "(no URI read)"))
        with suppress(OSError):  # the client may have closed the connection
            util.write_nonblock(client, problem(status, detail))


#: Status and sentence by exception. Other malformed requests get 400 with gunicorn's sentence.
REFUSALS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    errors.ConfigurationProblem: (HTTPStatus.INTERNAL_SERVER_ERROR, "%s"),
    errors.InvalidRequestLine: (HTTPStatus.BAD_REQUEST, "Invalid Request Line '%s'"),
    errors.InvalidRequestMethod: (HTTPStatus.BAD_REQUEST, "Invalid Method '%s'"),
    errors.InvalidHTTPVersion: (HTTPStatus.BAD_REQUEST, "Invalid HTTP Version '%s'"),
    errors.InvalidProxyLine: (HTTPStatus.BAD_REQUEST, "'%s'"),
    errors.ForbiddenProxyRequest: (HTTPStatus.FORBIDDEN, "%s"),
    errors.LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "%s"),
    errors.ExpectationFailed: (HTTPStatus.EXPECTATION_FAILED, "%s"),
    errors.LimitRequestHeaders: (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Error parsing headers: '%s'"),
    errors.UnsupportedTransferCoding: (HTTPStatus.NOT_IMPLEMENTED, "%s"),
    errors.ParseException: (HTTPStatus.BAD_REQUEST, "%s"),
}


def is_of_the_client(error: Exception) -> bool:
    of_the_program = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)
    return isinstance(error, errors.ParseException) and not isinstance(error, of_the_program)


def refusal(error: Exception) -> tuple[HTTPStatus, str]:
    """Return status and detail of the answer. A bug shows no detail."""
    if not is_of_the_client(error):
        return HTTPStatus.INTERNAL_SERVER_ERROR, ""
    status, sentence = next(answer for kind, answer in REFUSALS.items() if isinstance(error, kind))
    return status, sentence % error


def problem(status: HTTPStatus, detail: str) -> bytes:
    """Return the bytes of a response. gunicorn has no public function for one without a request."""
    title = status.phrase
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail or title})
    head = f"HTTP/1.1 {status:d} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1")


# The application alone reads forwarded headers: see TRUSTED_PROXIES.
forwarded_allow_ips = ""

#: An address may contain a search of 500 letters of any alphabet.
limit_request_line = 8190

bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"

# One process: its memory counts requests that wait for a result and, without Redis, failed sign-ins. The threads mostly
# wait for the database and the broker.
workers = 1
worker_class = WebWorker
threads = WEB_THREADS

# The application is loaded after the fork, because a database connection must not cross one.
preload_app = False

# Less than the supervisor's time before SIGKILL.
graceful_timeout = 7


def post_worker_init(worker: Worker) -> None:
    """Start counting requests in the serving process."""
    from admin.api import request_metrics  # the parent loads no application code

    request_metrics.start_flushing(worker.wsgi)


# No control socket: a file that accepts commands would need protection.
control_socket_disable = True

logger_class = Lines
loglevel = settings.log_level.lower()
# Open pages refresh every few seconds. Their lines would bury those about tasks.
accesslog = None
