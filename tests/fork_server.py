"""Start Python programs as forks of a process that has imported their libraries, because imports take most of their
time.

Each fork has separate arguments, environment, files and signals. Its parent is the server. The project's modules are
not imported before the fork, because they read the settings.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType, ModuleType
from typing import IO, Any

import psutil

LIBRARIES = """
    argon2 asyncio babel.dates babel.messages.mofile babel.support concurrent.futures cron_descriptor
    cryptography.hazmat.primitives.ciphers.aead csv ctypes dotenv email.message flask.cli flask_babel
    limits flask_login flask_wtf getpass gunicorn.app.wsgiapp gunicorn.workers.base hiredis
    huey.bin.huey_consumer huey.storage itsdangerous jinja2.ext limits.storage multiprocessing.pool orjson
    peewee playhouse.db_url playhouse.migrations playhouse.pool prometheus_client
    prometheus_client.openmetrics.exposition psycopg2 psycopg2.extras redis sqlite3 smtplib statistics
    urllib.request werkzeug.serving wtforms
"""
LONGEST_REQUEST = 1 << 20


class ForkedProcess:
    """A process started by the server, with the part of Popen's interface that tests use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = server().request({"exit_code_of": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises TimeoutExpired after `timeout` seconds."""
        began = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    program: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: IO[Any] | None = None,
    stdout: IO[Any],
    stderr: IO[Any],
    start_new_session: bool = False,
) -> ForkedProcess:
    """Start `path arguments…`, `-m module arguments…` or `-c code arguments…`, as Popen does with Python before it."""
    request = {"program": list(program), "cwd": str(cwd), "env": dict(env), "new_session": start_new_session}
    with open(os.devnull) as nothing:
        files = [(file or nothing).fileno() for file in (stdin, stdout, stderr)]
        return ForkedProcess(server().request(request, files))


def run_to_end(
    program: Sequence[str], *, cwd: Path, env: Mapping[str, str], typed: str = "", timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """Run a program with `typed` as its input, as `start` does. Raises TimeoutExpired after `timeout` seconds."""
    with TemporaryFile("w+") as keys, TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        keys.write(typed)
        keys.seek(0)
        code = start(program, cwd=cwd, env=env, stdin=keys, stdout=output, stderr=errors).wait(timeout)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(list(program), code, output.read(), errors.read())


class Server:
    def __init__(self) -> None:
        self.connection, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lock = threading.Lock()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with other:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno())],
                cwd=Path(__file__).parent.parent,
                env=environment,
                pass_fds=[other.fileno()],
            )

    def request(self, request: Mapping[str, Any], files: Sequence[int] = ()) -> Any:
        with self.lock:
            socket.send_fds(self.connection, [json.dumps(request).encode()], files)
            return json.loads(self.connection.recv(LONGEST_REQUEST))

    def stop(self) -> None:
        self.connection.close()
        self.process.wait()


@cache
def server() -> Server:
    """Return the server of this process, started at the first call."""
    running = Server()
    atexit.register(running.stop)
    return running


# --- server --------------------------------------------------------------------------------------------------


def serve(connection: socket.socket) -> dict[str, Any]:
    """Start processes until the connection closes. In each child, return the request that started it."""
    exit_codes: dict[int, int] = {}

    def reap(_number: int, _frame: FrameType | None) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                exit_codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])

    signal.signal(signal.SIGCHLD, reap)
    while True:
        data, files, _flags, _address = socket.recv_fds(connection, LONGEST_REQUEST, 3)
        if not data:
            for process in psutil.Process().children():  # The tests have been killed.
                process.kill()
            sys.exit()
        request = json.loads(data)
        if "exit_code_of" in request:
            answer = exit_codes.pop(request["exit_code_of"], None)
        elif answer := os.fork():
            for file in files:
                os.close(file)
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            return dict(request)
        connection.send(json.dumps(answer).encode())


def run(program: Sequence[str]) -> None:
    """Run a program in this process as the interpreter would."""
    if program[0] == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = [program[1], *program[2:]]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    elif program[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *program[2:]]
        module = sys.modules["__main__"] = ModuleType("__main__")
        exec(program[1], module.__dict__)
    else:
        sys.path.insert(0, str(Path(program[0]).parent))
        sys.argv = list(program)
        runpy.run_path(program[0], run_name="__main__")


def change_folder(folder: str) -> None:
    """Change the working folder. Gunicorn is imported again, because it serves the folder of its import."""
    if not os.path.samefile(folder, os.getcwd()):
        for name in [name for name in sys.modules if name.partition(".")[0] == "gunicorn"]:
            del sys.modules[name]
    os.chdir(folder)


def main() -> None:
    del sys.path[0]  # the folder of this file
    for name in LIBRARIES.split():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        request = serve(connection)
    if request["new_session"]:
        os.setsid()
    change_folder(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:0] = filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))
    run(request["program"])


if __name__ == "__main__":
    main()
