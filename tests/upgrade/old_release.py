"""The release before this one: its files, and an environment made from its own requirements.

Both are cached outside the project, because an installation takes a minute.
"""

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

from consumers import ROOT

COMMIT = "86ec2c3"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dewey-tests"


class CannotInstall(Exception):
    """The reason why this machine cannot run the old release."""


class OldRelease(NamedTuple):
    tree: Path
    python: Path

    def start(self, *program: str, environment: dict[str, str], log: Path) -> subprocess.Popen[str]:
        """Start a Python program of the old release. Its input and output are pipes."""
        path = os.pathsep.join(map(str, (self.tree, Path(__file__).parent)))
        with open(log, "ab") as file:
            return subprocess.Popen(
                [self.python, *program],
                cwd=self.tree,
                env={**os.environ, **environment, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )


def install_old_release() -> OldRelease:
    """Return the old release, installed by the first caller on this machine. Raises CannotInstall."""
    archive = git("archive", "--format=tar", COMMIT)
    requirements = git("show", f"{COMMIT}:requirements.txt")
    name = hashlib.sha256(b"\n".join((COMMIT.encode(), requirements, sys.version.encode()))).hexdigest()[:16]
    folder = CACHE / name
    release = OldRelease(folder / "tree", folder / "venv" / "bin" / "python")
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                # Python 3.11.3 and older have no filters. The archive is our own.
                tar.extractall(release.tree, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(release.python)]
            run(*pip, "install", "--quiet", "-r", str(release.tree / "requirements.txt"))
            (folder / "complete").touch()
    return release


def has_commit() -> bool:
    """False in a shallow clone, and in a copy without `.git`."""
    try:
        return bool(git("cat-file", "-t", COMMIT))
    except CannotInstall:
        return False


def git(*words: str) -> bytes:
    """Return the output of git. A shallow clone and a copy without `.git` lack the commit."""
    return run("git", "-C", str(ROOT), *words)


def run(*command: str) -> bytes:
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout
    except FileNotFoundError as error:
        raise CannotInstall(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise CannotInstall(f"{' '.join(command[:4])}: {error.stderr.decode(errors='replace')[-300:]}") from error
