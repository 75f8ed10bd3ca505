"""Two tasks with one name end every program that imports them, with one line that names both modules."""

import os
import shutil
import sys
from pathlib import Path

import fork_server
import pytest

from config import ROOT
from engine.queues.queue import Queue
from engine.queues.registry import DuplicateName, share_names

JOBS = """
from tasks import {queue}

@{queue}.task()
def only_here_{module}(): pass

@{queue}.task()
def nightly(): return "{module}"
"""
LINE = "dewey: two tasks are named nightly, in blog.jobs and shop.jobs. Rename one, or set its name=\n"
PROGRAMS = {
    "consumer": [f"{sys.prefix}/bin/huey_consumer", "tasks.light", "-k", "process", "-w", "1"],
    "web": [f"{sys.prefix}/bin/gunicorn", "-c", "gunicorn.conf.py", "app:create_app()"],
    "start": ["-m", "flask", "start"],
    "command": ["-m", "flask", "status"],
    "watch": ["-m", "flask", "watch"],
}


@pytest.fixture(params=["light", "heavy"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a copy of the program with jobs in two modules, the second in this queue."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "data", "tests", "docs"))
    for module, queue in (("shop", "light"), ("blog", request.param)):
        (tree / module).mkdir()
        (tree / module / "jobs.py").write_text(JOBS.format(module=module, queue=queue))
    with open(tree / "tasks.py", "a") as file:
        file.write("\nimport shop.jobs, blog.jobs  # noqa\n")
    return tree


@pytest.mark.parametrize("program", PROGRAMS)
def test_two_tasks_of_the_same_name_stop_every_program(installation: Path, program: str) -> None:
    environment = {**os.environ, "DATA_DIR": str(installation / "data"), "PYTHONPATH": ""}
    ended = fork_server.run_to_end(PROGRAMS[program], cwd=installation, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", LINE)


def nightly() -> None: ...


def test_task_name_is_free_after_unregistering(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = Queue("first"), Queue("second")
    share_names([first, second])
    task = first.task()(nightly)
    with pytest.raises(DuplicateName):  # the same function: a name would have two queues
        second.task()(nightly)
    with pytest.raises(DuplicateName):
        first.task(name="nightly")(lambda: None)
    with pytest.raises(ValueError, match="same identifier"):  # Huey's message for a module that is executed again
        first.task()(nightly)
    assert capsys.readouterr().err.count("two tasks are named nightly, in test_duplicate_names. ") == 2
    task.unregister()
    second.task()(nightly)


def test_queues_of_different_programs_share_no_names() -> None:
    assert Queue("one").task()(nightly).task_class.__name__ == Queue("two").task()(nightly).task_class.__name__
