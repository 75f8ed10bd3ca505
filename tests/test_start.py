"""`flask start`: real programs under the real supervisor, killed and stopped."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import fork_server
import psutil
import psycopg2
import pytest
from argon2 import PasswordHasher
from consumers import KEY
from installation import find_free_port
from waiting import wait_until

from config import QUEUES, ROOT

FLASK = ["-m", "flask"]
WEB = "gunicorn"
TOGETHER = 10  # seconds in which everything must end


class RunningDewey:
    """A running `flask start` and its output."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.data_dir, self.port = folder / "data", find_free_port()
        self.output = folder / f"output-{self.port}"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *FLASK, "start"],
                cwd=ROOT,
                env=environment(self.data_dir, self.port, **environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        self.supervisor = psutil.Process(self.process.pid)
        self.seen = {self.supervisor}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def program(self, word: str) -> psutil.Process | None:
        """Return the supervisor's child whose command has this word, or None."""
        for child in self.supervisor.children():
            try:
                if any(word in part for part in child.cmdline()):
                    return child
            except psutil.Error:
                continue
        return None

    def wait_until_settled(self, *words: str) -> None:
        """Wait until the web server responds and each program has lived long enough to count as started."""
        for word in words or (WEB, *(f"tasks.{queue}" for queue in QUEUES)):
            wait_until(lambda word=word: (it := self.program(word)) and time.time() - it.create_time() > 1.5, within=30)
        wait_until(self.answers, within=30)

    def everything(self) -> set[psutil.Process]:
        """Return every process that ever belonged to it."""
        if self.supervisor.is_running():
            self.seen.update(self.supervisor.children(recursive=True))
        return self.seen

    def end(self, how: signal.Signals) -> float:
        """Send the signal to the supervisor alone. Return the seconds until all its processes have ended."""
        processes, began = self.everything(), time.monotonic()
        self.process.send_signal(how)
        wait_until(lambda: not any(map(is_running, processes)), within=TOGETHER + 5)
        return time.monotonic() - began


def is_running(process: psutil.Process) -> bool:
    """Return true if the process runs. A zombie that init has not reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment(data_dir: Path, port: int, **options: str) -> dict[str, str]:
    return {**os.environ, "DATA_DIR": str(data_dir), "HOST": "127.0.0.1", "PORT": str(port), **options}


def run_to_end(command, **environ) -> subprocess.CompletedProcess[str]:
    """Run a program that is expected to end by itself."""
    return fork_server.run_to_end(command, cwd=ROOT, env={**os.environ, **environ})


@pytest.fixture
def start(tmp_path):
    running = []

    def start_one(**environ: str) -> RunningDewey:
        running.append(RunningDewey(tmp_path, environ))
        return running[-1]

    yield start_one
    for dewey in running:
        dewey.everything()
        dewey.process.terminate()
        psutil.wait_procs(dewey.seen, timeout=TOGETHER)
        for process in filter(is_running, dewey.seen):
            process.kill()
        dewey.process.wait()


def test_first_start_loads_the_sample_and_prints_the_sign_in_once(start):
    dewey = start()
    dewey.wait_until_settled()
    assert dewey.printed.count(dewey.url) >= 1
    email, password = re.search(r"Sign in +(\S+)\n +Password +(\S+)", dewey.printed).groups()
    assert dewey.printed.count(password) == 1
    with sqlite3.connect(dewey.data_dir / "dewey.db") as database:
        [(stored_email, role, password_hash)] = database.execute(
            "SELECT email, role, password_hash FROM dewey_operators"
        )
        [(sessions,)] = database.execute("SELECT count(*) FROM reading_sessions")
    assert (stored_email, role) == (email, "admin")
    assert PasswordHasher().verify(password_hash, password)
    assert sessions > 1000


def test_start_on_redis_and_postgresql_loads_no_sample(start, fresh_postgresql, redis_url):
    dewey = start(DATABASE_URL=fresh_postgresql, REDIS_URL=redis_url, SECRET_KEY=KEY)
    dewey.wait_until_settled()
    assert "Password  " in dewey.printed
    with psycopg2.connect(fresh_postgresql) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM dewey_operators), (SELECT count(*) FROM users)")
        assert cursor.fetchone() == (1, 0)
    assert not (dewey.data_dir / "dewey.db").exists() and not (dewey.data_dir / "queue.db").exists()


def test_json_log_format_applies_to_every_program(start):
    dewey = start(LOG_FORMAT="json")
    dewey.wait_until_settled()
    dewey.end(signal.SIGINT)
    banner, _, lines = dewey.printed.partition("Ctrl-C to stop.\n\n")
    assert dewey.url in banner
    assert {json.loads(line)["process"] for line in lines.splitlines()} >= {"web", "supervisor", "MainProcess"}


@pytest.mark.alone
def test_second_start_is_quick_keeps_data_and_prints_no_password(start):
    first = start()
    first.wait_until_settled()
    first.end(signal.SIGINT)
    with sqlite3.connect(first.data_dir / "dewey.db") as database:
        database.execute("DELETE FROM reading_sessions")
        people = database.execute("SELECT * FROM dewey_operators").fetchall()
    began = time.monotonic()
    second = start()
    wait_until(second.answers, within=30)
    assert time.monotonic() - began < 5
    assert second.url in second.printed and "Password  " not in second.printed
    assert "dewey operator password admin@example.org" in second.printed
    with sqlite3.connect(second.data_dir / "dewey.db") as database:
        assert database.execute("SELECT count(*) FROM reading_sessions").fetchone() == (0,)
        assert database.execute("SELECT * FROM dewey_operators").fetchall() == people


@pytest.mark.alone
def test_killed_consumer_returns_within_seconds_without_web_downtime(start):
    dewey = start()
    dewey.wait_until_settled()
    web, consumer = dewey.program(WEB), dewey.program("tasks.light")
    answers, back = [], threading.Event()

    def keep_asking() -> None:
        while not back.is_set():
            answers.append(dewey.answers())

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        consumer.kill()
        wait_until(lambda: (new := dewey.program("tasks.light")) and new.pid != consumer.pid, within=5)
    finally:
        back.set()
        asking.join()
    assert answers and all(answers)
    assert dewey.program(WEB) == web
    assert "exited: worker-light (terminated by SIGKILL; not expected)" in dewey.printed


@pytest.mark.alone
def test_killed_web_server_returns_within_seconds(start):
    dewey = start()
    dewey.wait_until_settled()
    web = dewey.program(WEB)
    web.kill()
    wait_until(lambda: (new := dewey.program(WEB)) and new != web and dewey.answers(), within=10)


def test_stopped_consumer_stays_stopped(start):
    dewey = start()
    dewey.wait_until_settled()
    stopped, killed = dewey.program("tasks.heavy"), dewey.program("tasks.light")
    stopped.terminate()
    psutil.wait_procs([stopped], timeout=TOGETHER)
    killed.kill()
    # When the killed child is back, the supervisor has checked every child once more.
    wait_until(lambda: (new := dewey.program("tasks.light")) and new != killed)
    assert dewey.program("tasks.heavy") is None
    assert dewey.answers()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.alone
def test_signal_stops_every_process_within_10_seconds(start, how):
    dewey = start()
    dewey.wait_until_settled()
    assert dewey.end(how) < TOGETHER
    assert dewey.process.wait() == 0
    assert "Traceback" not in dewey.printed


@pytest.mark.alone
def test_hanging_consumer_is_stopped_within_10_seconds(start):
    dewey = start()
    dewey.wait_until_settled()
    dewey.program("tasks.normal").suspend()
    assert dewey.end(signal.SIGINT) < TOGETHER


@pytest.mark.alone
def test_killed_supervisor_leaves_no_process_behind(start):
    dewey = start()
    dewey.wait_until_settled()
    assert dewey.end(signal.SIGKILL) < TOGETHER


def test_queue_without_workers_has_no_consumer(start):
    dewey = start(WORKERS_HEAVY="0", WORKERS_NORMAL="0", WORKERS_LIGHT="1")
    dewey.wait_until_settled(WEB, "tasks.light")
    assert len(dewey.supervisor.children()) == 3
    assert dewey.program("watch")
    assert dewey.program("tasks.light").cmdline()[-2:] == ["-w", "1"]


def test_worker_healthcheck_distinguishes_served_from_unserved_queues(start):
    dewey = start(WORKERS_HEAVY="0", WORKERS_NORMAL="0", WORKERS_LIGHT="1")
    dewey.wait_until_settled(WEB, "tasks.light")

    def health_of(queue: str) -> subprocess.CompletedProcess[str]:
        return run_to_end(["-m", "engine.alive", queue], DATA_DIR=str(dewey.data_dir))

    assert health_of("light").returncode == 0
    unserved = health_of("heavy")
    assert unserved.returncode == 1 and "no live consumer of heavy" in unserved.stderr
    consumer = dewey.program("tasks.light")
    consumer.terminate()
    psutil.wait_procs([consumer], timeout=TOGETHER)
    assert health_of("light").returncode == 1


def test_port_in_use_is_reported_in_one_line_and_changes_nothing(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = run_to_end([*FLASK, "start"], **environment(tmp_path / "data", port))
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr == f"dewey: port {port} is in use. Set PORT to another one.\n"
    assert not (tmp_path / "data" / "dewey.db").exists()


def test_address_of_another_machine_is_reported_in_one_line(tmp_path):
    refused = run_to_end([*FLASK, "start"], **environment(tmp_path / "data", 8000, HOST="192.0.2.1"))
    assert refused.returncode == 2
    assert refused.stderr.startswith("dewey: HOST='192.0.2.1' PORT='8000' cannot be used: ")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        [*FLASK, "start"],
        [*FLASK, "migrate"],
        [*FLASK, "watch"],
        [f"{sys.prefix}/bin/huey_consumer", "tasks.light", "-k", "process", "-w", "2"],
        [f"{sys.prefix}/bin/gunicorn", "-c", "gunicorn.conf.py", "app:create_app()"],
    ],
    ids=["start", "migrate", "watch", "consumer", "web"],
)
def test_invalid_setting_stops_every_program_with_one_line(command, tmp_path):
    refused = run_to_end(command, **environment(tmp_path / "data", 8000, LEASE_SECONDS="soon"))
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr == "dewey: LEASE_SECONDS='soon' must be a whole number from 2 to 3600\n"
