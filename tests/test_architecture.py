"""The rooms: the imports that each may have, and consumers without web code."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Each room may import itself and those to its left.
ROOMS = ("config", "engine", "models", "reading", "tasks", "admin", "app")
FILES = [ROOT / f"{room}.py" for room in ROOMS if (ROOT / f"{room}.py").exists()]
FILES += [file for room in ("engine", "reading", "admin") for file in sorted((ROOT / room).rglob("*.py"))]


def imported_modules(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_one_way(file: Path) -> None:
    names, room = imported_modules(file), room_of(file)
    assert not names & set(ROOMS[ROOMS.index(room) + 1 :])
    web = {name for name in names if name.startswith("flask") or name in ("werkzeug", "jinja2", "markupsafe")}
    assert not web or room in ("admin", "app")
    assert "huey" not in names or room in ("engine", "tasks")
    assert not (room == "engine" and names & {"models", "reading"})


#: Names with an underscore that their library documents as public.
DOCUMENTED = {"_asdict", "_fields", "_make", "_replace", "_meta", "_exit", "_get_current_object"}

#: Private names that are used, each with the missing public interface. `admin` needs none.
PRIVATE_USES = {
    # Huey has no public way to list its tasks, send a signal, or replace how its consumer creates processes.
    "_registry", "_periodic_tasks", "_emit", "_signal", "_pipeline_results", "_timeout_handler",
    "_requeue_task", "_check_chord", "_check_revoked", "_task_key", "_get_timestamp", "_tasks_in_flight",
    "_create_worker", "_create_scheduler", "_set_signal_handlers", "_handle_signal", "_signum",
    "_huey", "_name", "_ttl",  # of its lock
    "_sock",  # redis: the timeout of a socket that is connected already
}  # fmt: skip


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_uses(tree: ast.Module) -> set[str]:
    """Return the private names that a file uses and does not define."""
    used, defined = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.Attribute):
            is_own = isinstance(node.ctx, ast.Store) and ast.unparse(node.value) in ("self", "cls")
            (defined if is_own else used).add(node.attr)
    return {name for name in used - defined - DOCUMENTED if is_private(name)}


def patched(tree: ast.Module) -> set[str]:
    """Return the attributes of imported objects that are assigned to, except those of `flask.g` and `flask.request`."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {(alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names} - {
        "g",
        "request",
    }
    stores = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return {ast.unparse(node) for node in stores if isinstance(node.value, ast.Name) and node.value.id in names}


@pytest.mark.parametrize("file", [*FILES, ROOT / "gunicorn.conf.py"], ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_reaches_into_a_library(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert private_uses(tree) <= (PRIVATE_USES if room_of(file) == "engine" else set())
    assert patched(tree) == set()


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from redis import _compat", {"_compat"}),
        ("import redis\nredis.client._sock.close()", {"_sock"}),
        ("class A:\n    def f(self):\n        return self._own, self._theirs\n    def _own(self): ...", {"_theirs"}),
        ("class A:\n    def __init__(self):\n        self._own = 1\n        self.x = self._own", set()),
        ("def f(connection):\n    connection._sock = None", {"_sock"}),
    ],
)
def test_a_private_name_of_a_library_is_seen(code: str, names: set[str]) -> None:
    assert private_uses(ast.parse(code)) == names


def test_a_patched_library_is_seen() -> None:
    assert patched(ast.parse("from gunicorn import util\nutil.write_error = print")) == {"util.write_error"}


def test_consumer_imports_no_web_module(tmp_path: Path) -> None:
    web = ("flask", "werkzeug", "admin")
    code = f"import sys, tasks; print([one for one in sys.modules if one.partition('.')[0] in {web}])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_no_file_has_an_empty_name() -> None:
    empty_names = {"utils", "helpers", "common", "base", "misc", "services"}
    assert [file for file in FILES if file.stem in empty_names] == []


def test_no_name_hides_a_module() -> None:
    """If a page is named like its group, a module that imports both loses the group."""
    hidden = [
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("engine", "reading", "admin")
        and "." in name
        and getattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], None) is not module
    ]
    assert "admin.pages.queues.queues" in sys.modules
    assert hidden == []
