"""Real Flower and a real Celery worker in a separate environment, as the reference for Dewey's Flower API.

The worker's tasks have the same names and outcomes as Dewey's.
"""

import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from venv import EnvBuilder

from installation import Answer, find_free_port, is_listening, send_request
from waiting import wait_until

#: Installed once, in an environment separate from Dewey's.
CACHE_FOLDER = Path.home() / ".cache" / "dewey" / "flower-2.2"
REQUIREMENTS = ["flower==2.2.*", "celery[redis]==5.7.*"]

PROGRAM = """
import os
from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(task_send_sent_event=True, task_default_queue="light", task_track_started=True)


@app.task
def get_cleanup_statistics(hours=24):
    if hours > 168:
        raise ValueError(f"hours must be a whole number from 1 to 168, not {hours}")
    return {"period_hours": hours}


@app.task
def cleanup_old_task_results():
    return {"results": 0, "runs": 0, "workers": 0}


@app.task
def close_abandoned_sessions():
    return {}
"""


class CannotInstall(Exception):
    """The package registry did not provide Flower."""


def install() -> None:
    if (CACHE_FOLDER / "installed").exists():
        return
    EnvBuilder(with_pip=True, clear=True, symlinks=True).create(CACHE_FOLDER)
    command = [str(CACHE_FOLDER / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotInstall((done.stderr.strip().splitlines() or ["pip failed without output"])[-1])
    (CACHE_FOLDER / "installed").touch()


class FlowerServer:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: str | None = None) -> Answer:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body and body.encode(), method=method)
        return send_request(urllib.request.build_opener(), request)


@contextmanager
def run_flower(redis_url: str, folder: Path) -> Iterator[FlowerServer]:
    """Run Flower for the length of a block, once it responds and lists its worker."""
    (folder / "tasks.py").write_text(PROGRAM)
    port = find_free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "BROKER": redis_url.replace("unix://", "redis+socket://"),
        "FLOWER_UNAUTHENTICATED_API": "true",
        # Celery refuses to run workers as root.
        "C_FORCE_ROOT": "1",
    }
    commands = [
        ["worker", "-E", "--concurrency", "1", "--loglevel", "INFO"],
        ["flower", f"--port={port}", "--address=127.0.0.1"],
    ]
    processes = []
    try:
        for words in commands:
            with (folder / f"{words[0]}.log").open("wb") as log:
                command = [str(CACHE_FOLDER / "bin" / "celery"), "-A", "tasks", *words]
                processes.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log))
        server = FlowerServer(port)
        wait_until(lambda: is_listening(port), 60)
        wait_until(lambda: "active_queues" in server.ask("GET", "/api/workers?refresh=1").text, 60)
        yield server
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
