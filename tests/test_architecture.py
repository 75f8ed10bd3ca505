"""The house: which room may import which, and that nothing of the web reaches a consumer."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Each may import itself and those to its left.
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
    """A page may have the name of its group: whoever imports both into one room loses the group."""
    hidden = [
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("engine", "reading", "admin")
        and "." in name
        and getattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], None) is not module
    ]
    assert "admin.pages.queues.queues" in sys.modules
    assert hidden == []
