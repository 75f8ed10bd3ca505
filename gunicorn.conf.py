"""Configuration of the web server: `gunicorn -c gunicorn.conf.py 'app:create_app()'` from the project's root.

The parent process reads the settings and checks the tasks. An error then ends gunicorn with exit code 2 and one line.
In a worker process gunicorn would restart it for ever.
"""

import logging
import os
import resource
import threading

from gunicorn import glogging
from gunicorn.config import Config
from gunicorn.workers.base import Worker

from admin import EXPORTS_AT_ONCE, UPLOADS_AT_ONCE, WEB_THREADS
from admin.server.worker import WebWorker
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


# The application alone reads forwarded headers: see TRUSTED_PROXIES.
forwarded_allow_ips = ""

#: An address may contain a search of 500 letters of any alphabet.
limit_request_line = 8190

bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"

# One process: its memory counts requests that wait for a result and, without Redis, failed sign-ins. The threads mostly
# wait for the database and the broker.
workers = 1
worker_class = WebWorker
threads = WEB_THREADS + EXPORTS_AT_ONCE + UPLOADS_AT_ONCE

# Beyond this number the oldest connection without a running request is closed. Databases, the broker and files need the
# other descriptors.
worker_connections = max(64, min(800, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200))

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
