"""`dewey watch`: check the alert rules every few seconds and send alerts."""

import logging
import multiprocessing
import signal
import sys
from datetime import timedelta
from threading import Event

import click

from admin.alerts import text
from admin.alerts.delivery import deliver_due
from admin.alerts.watcher import AlertWatcher, watch_loop
from admin.cli.output import Command, print_lines
from config import settings
from engine.log_format import formatter
from engine.models import now
from engine.monitor import alerts


@click.command("watch", cls=Command)
@click.option("--once", is_flag=True, help="Check once, send what is due, print the result and exit. For cron jobs.")
def watch_command(once: bool) -> None:
    """Check the alert rules and send alerts by webhook and mail until Ctrl-C. Several watchers may run at once."""
    set_up_logging()
    if once:
        watcher = AlertWatcher(lambda rule: timedelta(0), timedelta(0))
        watcher.check(now())
        sent_count = deliver_due(now())
        watcher.deregister()
        print_found(sent_count)
        return
    ended = Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: ended.set())
    watch_loop(AlertWatcher(), ended)


def print_found(sent_count: int) -> None:
    sentences = [text.alert_sentence(alert) for alert in alerts.open_alerts()]
    for line in sentences or ["No alert is open."]:
        print_lines(line)
    print_lines(f"Notices sent: {sent_count}")


def set_up_logging() -> None:
    """Write log lines to stderr in the program's format."""
    multiprocessing.current_process().name = "watch"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter())
    logging.root.handlers = [handler]
    logging.root.setLevel(settings.log_level)
    # At DEBUG this logger prints every statement with its values.
    logging.getLogger("peewee").setLevel(logging.INFO)
