"""`dewey start`: the web server, every consumer and the alert watcher in one terminal."""

import errno
import os
import socket
import sys
from typing import NoReturn

import click

from admin.auth.identity import Actor
from admin.cli.output import Command, print_lines
from admin.operations.registry import execute
from config import ROOT, settings
from engine.database import database
from engine.migrations import MigrationFailed, migrate
from models import Operator, User, owns_reading_tables

FIRST_OPERATOR = "admin@example.org"

#: Nothing needs escaping: commands are found in PATH, folders by %(here)s.
SUPERVISOR = """\
[supervisord]
nodaemon = true
loglevel = warn
pidfile = %(here)s/supervisord.pid
nocleanup = true
minfds = 64
minprocs = 1

; One group, so that all programs stop at the same time.
[group:dewey]
programs = {names}
"""

#: SIGTERM goes to the program alone: a consumer stops its workers. SIGKILL goes to the program's process group.
#: Each worker leads its own group and ends with its consumer.
PROGRAM = """
[program:{name}]
command = {command}
autorestart = unexpected
exitcodes = 0
startretries = 1000000000
stopsignal = TERM
killasgroup = true
"""


@click.command("start", cls=Command)
def start() -> None:
    """Run the web server, every consumer and the alert watcher in this terminal until Ctrl-C."""
    check_port()
    try:
        migrate()
    except MigrationFailed as error:
        fail(str(error), code=1)
    with database.connection_context():
        print_banner(create_first_operator())
    exec_supervisor()


def check_port() -> None:
    """Exit with one line if the web server cannot listen. Binds the address as gunicorn does, then releases it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((settings.host, settings.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(f"port {settings.port} is in use. Set PORT to another one.")
        fail(f"HOST={settings.host!r} PORT={str(settings.port)!r} cannot be used: {error.strerror}")


def create_first_operator() -> str | None:
    """Create the first operator and return its password. None if an operator exists.

    An empty embedded database gets the sample library first. The operator comes last, so that an interrupted first
    start is repeated.
    """
    if Operator.select().exists():
        return None
    me = Actor("cli", "dewey start", "admin", "cli")
    if settings.embedded_database and owns_reading_tables() and not User.select().exists():
        execute(me, "library.demo")
    return str(execute(me, "operators.create", email=FIRST_OPERATOR, role="admin"))


def print_banner(password: str | None) -> None:
    print_lines("", f"  Dewey     {settings.local_url}")
    if password:
        print_lines(f"  Sign in   {FIRST_OPERATOR}", f"  Password  {password}   (shown once)")
    else:
        email = FIRST_OPERATOR if Operator.get_or_none(email=FIRST_OPERATOR) else "EMAIL"
        print_lines(f"  Lost your password?  .venv/bin/dewey operator password {email}")
    print_lines("", "  Press Ctrl-C to stop.", "")


def exec_supervisor() -> NoReturn:
    """Replace this process with the supervisor of all programs."""
    commands = program_commands()
    conf = settings.data_dir / "supervisord.conf"
    conf.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    conf.write_text(
        SUPERVISOR.format(names=",".join(commands))
        + "".join(PROGRAM.format(name=name, command=command) for name, command in commands.items())
    )
    os.chdir(ROOT)
    os.environ["PATH"] = os.pathsep.join([os.path.join(sys.prefix, "bin"), os.environ.get("PATH", os.defpath)])
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "admin.cli.supervisor", "-c", str(conf)])


def program_commands() -> dict[str, str]:
    """Return the command of each program by name: web, watch and a consumer for each queue with workers."""
    consumers = {
        f"worker-{queue}": f"huey_consumer tasks.{queue} -k process -w {count}"
        for queue, count in settings.workers.items()
        if count
    }
    # The watcher has time, and must not delay the first page.
    return {"web": "gunicorn -c gunicorn.conf.py app:create_app()", "watch": "nice flask watch", **consumers}


def fail(message: str, code: int = 2) -> NoReturn:
    print_lines(f"dewey: {message}", err=True)
    raise SystemExit(code)
