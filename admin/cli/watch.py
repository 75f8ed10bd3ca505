"""`flask watch`: looks every few seconds whether something is wrong, and sends alerts."""

import logging
import multiprocessing
import signal
import sys
from datetime import timedelta
from threading import Event

import click

from admin.alerts.delivery import deliver_due
from admin.alerts.watcher import AlertWatcher, watch_loop
from admin.cli.output import Command
from config import settings
from engine.log_format import formatter
from engine.models import now


@click.command("watch", cls=Command)
@click.option(
    "--once", is_flag=True, help="Look once and end, silently, for a cron job; `flask alerts list` tells what it saw."
)
def watch_command(once: bool) -> None:
    """Watch for trouble and alert by webhook and mail, until Ctrl-C. No worker is needed, and several may watch."""
    set_up_logging()
    if once:
        watcher = AlertWatcher(lambda rule: timedelta(0), timedelta(0))
        watcher.check(now())
        deliver_due(now())
        watcher.deregister()
        return
    ended = Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: ended.set())
    watch_loop(AlertWatcher(), ended)


def set_up_logging() -> None:
    multiprocessing.current_process().name = "watch"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter())
    logging.root.handlers = [handler]
    logging.root.setLevel(settings.log_level)
    # At DEBUG this logger prints every statement with its values.
    logging.getLogger("peewee").setLevel(logging.INFO)
