"""The task of docs/tasks.md is declared, enqueued in each way on that page, and monitored."""

import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import fork_server
import pytest
from consumers import BIN, ROOT
from installation import find_free_port
from waiting import wait_until

TEXT = (ROOT / "docs/tasks.md").read_text()
DECLARATION, PYTHON_CALL = re.findall(r"```python\n(.*?)```", TEXT, re.S)
RUN_COMMAND, REQUEST, *INSPECTIONS = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()
]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "data", "tests", "docs", "benchmarks")


class Copy:
    """The program with one more task, and the commands that run with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder / "dewey", find_free_port()
        shutil.copytree(ROOT, self.folder, ignore=LEFT_OUT)
        with open(self.folder / "tasks.py", "a") as tasks:
            tasks.write("\n\n" + DECLARATION)
        own = {"PORT": str(self.port), "DATA_DIR": str(folder / "data"), "WORKERS_HEAVY": "0", "WORKERS_LIGHT": "0"}
        self.environment = os.environ | own

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        return fork_server.run_to_end(words, cwd=self.folder, env=self.environment)

    def flask(self, *words: str) -> str:
        done = self.python("-m", "flask", *words)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def is_served(self) -> bool:
        return self.python("-m", "flask", "status").returncode == 0

    @contextmanager
    def program(self, *words: str) -> Iterator[None]:
        """Run a program for the length of a block."""
        with open(self.folder / "log", "ab") as log:
            process = fork_server.start(
                [str(BIN / words[0]), *words[1:]], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )
        yield
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    made = Copy(tmp_path_factory.mktemp("own"))
    made.flask("migrate")
    with ExitStack() as stack:
        for words in (
            ("gunicorn", "-c", "gunicorn.conf.py", "app:create_app()"),
            ("huey_consumer", "tasks.normal", "-k", "process"),
        ):
            stack.enter_context(made.program(*words))
        wait_until(made.is_served, 60)
        yield made


def test_documented_command_runs_the_task(copy: Copy) -> None:
    assert json.loads(copy.flask(*shlex.split(RUN_COMMAND)[1:])) == "7-640.png"


def test_documented_request_runs_the_task(copy: Copy) -> None:
    token = copy.flask("token", "create", "docs", "--role", "operator").splitlines()[-1]
    words = shlex.split(REQUEST.replace("$TOKEN", token).replace(":8000", f":{copy.port}"))
    url, body = words[3], words[words.index("-d") + 1]
    headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as answer:
        run_id = json.load(answer)["result"]["run_id"]
    assert wait_until(lambda: "7-320.png" in copy.flask("runs", "show", run_id))


def test_documented_python_call_runs_the_task(copy: Copy) -> None:
    done = copy.python("-c", PYTHON_CALL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", INSPECTIONS)
def test_documented_inspection_command_succeeds(copy: Copy, command: str) -> None:
    copy.flask(*shlex.split(command)[1:])
