"""Remove one mechanism after the other from a copy of the program and verify that its tests fail.

A mutant is Python code that is appended to a module, or replaces existing code. The lists are in
`tests/faults/mutants.py` and `tests/security/mutants_*.py`.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

#: Parts of a storage, and the class of each in both brokers.
PARTS = {"messages": "Messages", "deliveries": "Deliveries", "ticks": "Ticks"}


class Mutant(NamedTuple):
    mechanism: str
    test: str  # test file, and the pytest selection in it
    module: str = ""  # a module, or a part of both storages
    code: str = ""  # `Part` is replaced by its class
    instead: tuple[tuple[str, str, str], ...] = ()  # files, existing code, replacement


def main(mutants: list[Mutant], words: list[str]) -> int:
    """Test each mutant whose name contains one of the words. Print one line each. Return 1 if one is alive."""
    alive = 0
    chosen = [mutant for mutant in mutants if not words or any(word in mutant.mechanism for word in words)]
    if not chosen:
        print(f"no mutant has a name with one of: {' '.join(words)}")
        return 1
    for mutant in chosen:
        with tempfile.TemporaryDirectory(prefix="dewey-mutant-") as folder:
            tree = Path(folder) / "tree"
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "data"))
            mutate(tree, mutant)
            outcome = tested(tree, mutant.test)
        caught = "passed" not in outcome and "error" not in outcome and "failed" in outcome
        alive += not caught
        print(f"{'caught' if caught else 'ALIVE '} | {mutant.mechanism} | test_{mutant.test} | {outcome}", flush=True)
    return bool(alive)


def mutate(tree: Path, mutant: Mutant) -> None:
    for file, old, new in mutant.instead:
        text = (tree / file).read_text()
        assert old in text, f"{file} does not contain: {old}"
        (tree / file).write_text(text.replace(old, new))
    for module, name in classes_of(mutant.module).items():
        header = "\n\nimport time\n" if name else "\n\n"
        with open(tree / module, "a") as file:
            file.write(header + re.sub(r"\bPart\b", name, mutant.code) + "\n")


def classes_of(module: str) -> dict[str, str]:
    """Return the modules and classes that the code names."""
    if module in PARTS:
        return {f"engine/broker/{broker}/{module}.py": broker.title() + PARTS[module] for broker in ("redis", "sqlite")}
    return {module: ""} if module else {}


def tested(tree: Path, test: str) -> str:
    """Run the tests. Return the last line of pytest's output."""
    file, _, selection = test.partition(" ")
    path = next(path for path in (tree / "tests").glob("**/test_*.py") if path.stem == f"test_{file}")
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(path), "-k", selection]
    done = subprocess.run([sys.executable, *command], cwd=tree, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]
