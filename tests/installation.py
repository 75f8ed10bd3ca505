"""The whole program as an operator runs it: settings in the environment, `flask` commands, a web server, consumers.

`Installation` starts each command as a process, which takes a second. `InProcess` runs commands in the process of the
tests.
"""

import json
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import fork_server
from browsers import fresh_program
from consumers import BIN, ROOT, ConsumerProcess, consumer, share_with_consumers
from waiting import wait_until

import tasks


class Answer(NamedTuple):
    status: int
    headers: Message
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Installation:
    """A set of settings, and the commands and servers that run with them."""

    program = "app:create_app()"

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port = find_free_port()
        self.environment = {"DATA_DIR": str(folder / "data"), "PORT": str(self.port), **environment}

    def flask(self, *command: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment, **environment}
        return fork_server.run_to_end(["-m", "flask", *command], cwd=ROOT, env=environment, typed=typed)

    @property
    def apart(self) -> "Installation":
        """Return the same settings, with each command in a separate process."""
        return Installation(self.folder, **self.environment)

    def bearer(self, role: str) -> dict[str, str]:
        """Return the headers of an API client with a new token of this role."""
        made = self.flask("token", "create", f"a {role} program", "--role", role)
        return {"Authorization": f"Bearer {made.stdout.splitlines()[-1]}"}

    def consumer(self, queue: str) -> AbstractContextManager[ConsumerProcess]:
        return consumer(f"tasks.{queue}", environment=self.environment, log=self.folder / f"{queue}.log")

    @contextmanager
    def web(self) -> Iterator["Installation"]:
        """Run the web server for the length of a block, once it responds."""
        with open(self.folder / "web.log", "ab") as log:
            self.server = fork_server.start(
                [str(BIN / "gunicorn"), "-c", "gunicorn.conf.py", self.program],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(lambda: self.server.poll() is not None or is_listening(self.port))
            assert self.server.poll() is None, (self.folder / "web.log").read_text()
            yield self
        finally:
            self.server.terminate()
            self.server.wait(20)

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the response to a request. Redirects are not followed."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return send_request(
            urllib.request.build_opener(NoRedirect),
            urllib.request.Request(url, None, dict(headers or {}), method=method),
        )


class InProcess(Installation):
    """An installation whose commands run in the process of the tests, with the database and queues of the consumers."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder, **environment)
        self.runner = fresh_program().test_cli_runner()

    def flask(self, *command: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        assert not environment, "settings cannot change in this process. Use `apart`."
        ended = self.runner.invoke(args=command, input=typed, catch_exceptions=False)
        return subprocess.CompletedProcess(command, ended.exit_code, ended.stdout, ended.stderr)


@contextmanager
def in_process(folder: Path, redis_url: str = "", database_url: str = "") -> Iterator[InProcess]:
    """Bind the queues and the database of this process to those of consumers, in `folder` if there is no URL."""
    with ExitStack() as stack:
        for queue in tasks.queues.values():
            environment = stack.enter_context(share_with_consumers(queue, folder, redis_url, database_url))
        yield InProcess(folder, **environment)


class Browser:
    """A client that keeps cookies and sends forms with their CSRF token."""

    def __init__(self, installation: Installation) -> None:
        self.url = f"http://127.0.0.1:{installation.port}"
        self.opener = urllib.request.build_opener(NoRedirect, urllib.request.HTTPCookieProcessor())

    def sign_in(self, email: str, password: str) -> Answer:
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.open("/login").text)
        assert token, "no form on the page"
        return self.open("/login", csrf_token=token[1], email=email, password=password)

    def open(self, path: str, **form: str) -> Answer:
        return send_request(
            self.opener, urllib.request.Request(f"{self.url}{path}", urlencode(form).encode() if form else None)
        )


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *redirect: Any) -> None:
        """Return redirects as responses instead of following them."""


def send_request(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> Answer:
    try:
        with opener.open(request, timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode())


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
