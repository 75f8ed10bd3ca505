"""Clients that send or read slowly, or not at all. The web server stays available for all others."""

import io
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Semaphore

import psutil
import pytest
from browsers import Browser, bearer_headers
from databases import bound_to_library
from factories import create_run
from flask import Flask
from installation import Installation
from waiting import wait_until

from admin import BUFFERED_BODY
from admin.pages import downloads
from admin.server.pace import SlowClient
from engine.models import Run, now

HALF_HEAD = b"GET /login HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
HALF_BODY = b"POST /login HTTP/1.1\r\nHost: localhost\r\n" + FORM + b"Content-Length: 100\r\n\r\nemail="
#: Seconds for a half-sent request, a silent body and an unread response on the impatient server.
DEADLINE = 1.5


class Program(Installation):
    program = "upload_app:create_app()"

    def connect(self, *sent: bytes, buffer: int = 4096) -> socket.socket:
        """Return a connection that has sent these bytes. `buffer` bytes of a response arrive before it reads."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(20)
        client.connect(("127.0.0.1", self.port))
        for part in sent:
            client.sendall(part)
        return client

    def request(self, method: str, path: str, role: str = "", *lines: str) -> bytes:
        """Return the head of a request by a program with this role."""
        authorization = [f"Authorization: {self.tokens[role]}"] if role else []
        head = [f"{method} {path} HTTP/1.1", "Host: localhost", *authorization, *lines]
        return "\r\n".join([*head, "", ""]).encode()

    def upload(self, role: str, size: int, *lines: str) -> bytes:
        kind = "Content-Type: multipart/form-data"
        return self.request("POST", "/api/upload", role, kind, f"Content-Length: {size}", *lines)

    @property
    def log(self) -> str:
        return (self.folder / "web.log").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a database whose export has three megabytes."""
    folder = tmp_path_factory.mktemp("slow")
    with bound_to_library(f"sqlite:///{folder}/library.db"):
        one = create_run(result="x" * 16_000, ended_at=now()).__data__
        Run.insert_many({**one, "id": f"{number:032x}"} for number in range(200)).execute()
        Program.tokens = {role: bearer_headers(role)["Authorization"] for role in ("viewer", "operator")}
        yield folder


@contextmanager
def serving(folder: Path, name: str, **environment: str) -> Iterator[Program]:
    (folder / name).mkdir()
    path = {"PYTHONPATH": str(Path(__file__).parent), "DATABASE_URL": f"sqlite:///{folder}/library.db"}
    with Program(folder / name, **path, **environment).web() as program:
        wait_until(lambda: program.ask("GET", "/healthz").status == 200)
        yield program


@pytest.fixture(scope="module")
def patient(folder: Path) -> Iterator[Program]:
    """A web server whose deadlines do not end an attack."""
    with serving(folder, "patient", SECONDS_FOR_CLIENTS="300") as program:
        yield program


@pytest.fixture(scope="module")
def impatient(folder: Path) -> Iterator[Program]:
    """A web server with short deadlines."""
    with serving(folder, "impatient", SECONDS_FOR_CLIENTS=str(DEADLINE)) as program:
        yield program


def read_answer(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a response that ends with its connection."""
    with client, client.makefile("rb") as stream:
        head, _, body = stream.read().partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def is_closed(client: socket.socket) -> bool:
    """Return true if the server has ended the connection without a byte."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def health_seconds(program: Program) -> float:
    began = time.monotonic()
    assert program.ask("GET", "/healthz").status == 200
    return time.monotonic() - began


def test_hundreds_of_slow_clients_do_not_delay_others(patient: Program) -> None:
    export = patient.request("GET", "/runs.csv", "viewer")
    with ExitStack() as attack:
        clients = [attack.enter_context(patient.connect()) for _ in range(500)]
        clients += [attack.enter_context(patient.connect(half)) for half in (HALF_HEAD, HALF_BODY) * 100]
        unread = [export, patient.request("GET", "/static/app.css") * 40]
        clients += [attack.enter_context(patient.connect(request)) for request in unread * 25]
        wait_until(lambda: health_seconds(patient) < 1)
        assert patient.ask("GET", "/login").status == 200
        # Beyond the limit of connections the oldest ones make room.
        for _ in range(100):
            attack.enter_context(patient.connect())
        wait_until(lambda: is_closed(clients[0]))
        assert not is_closed(clients[499])
        wait_until(lambda: health_seconds(patient) < 1)
    wait_until(lambda: health_seconds(patient) < 1)


def drip(client: socket.socket, byte: bytes, every: float) -> None:
    """Send a byte at a time until the server responds."""
    client.settimeout(every)
    give_up_at = time.monotonic() + 10
    while True:
        assert time.monotonic() < give_up_at
        client.sendall(byte)
        try:
            client.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        client.settimeout(20)
        return


@pytest.mark.parametrize("start", [HALF_HEAD, HALF_BODY[:-6].replace(b"100", b"60000")], ids=["head", "body"])
def test_request_that_arrives_byte_by_byte_is_refused(impatient: Program, start: bytes) -> None:
    began = time.monotonic()
    client = impatient.connect(start)
    drip(client, b"x", every=0.1)
    assert DEADLINE * 0.6 < time.monotonic() - began < DEADLINE + 5
    status, headers, body = read_answer(client)
    assert (status, headers["Content-Type"]) == (408, "application/problem+json")
    assert json.loads(body)["status"] == 408


def test_silent_connection_is_closed(impatient: Program) -> None:
    with impatient.connect() as silent, impatient.connect(impatient.request("GET", "/healthz")) as kept:
        silent_began = time.monotonic()
        assert kept.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        kept.sendall(impatient.request("GET", "/login"))
        assert kept.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")  # the same connection
        assert silent.recv(1) == b""
        assert time.monotonic() - silent_began > DEADLINE * 0.6
        while kept.recv(65536):
            pass  # until the server ends this one too


def test_no_response_names_the_server_software(impatient: Program) -> None:
    for request in (impatient.request("GET", "/healthz", "", "Connection: close"), b"nonsense\r\n\r\n"):
        assert "Server" not in read_answer(impatient.connect(request))[1]


# --- exports -------------------------------------------------------------------------------------------------


def test_exports_are_refused_while_four_are_being_read(app: Flask) -> None:
    headers, begun, ended = bearer_headers("viewer"), Semaphore(0), Event()

    def read_export(path: str) -> int:
        with app.test_client().get(path, headers=headers) as export:
            begun.release()
            assert ended.wait(20)
            return export.status_code

    paths = ["/runs.csv", "/runs.json", "/audit.csv", "/runs.csv"]
    with ThreadPoolExecutor(4) as readers:
        running = [readers.submit(read_export, path) for path in paths]
        try:
            assert all(begun.acquire(timeout=20) for _ in paths)
            for path in paths[:3]:
                refused = app.test_client().get(path, headers=headers)
                assert (refused.status_code, refused.mimetype) == (503, "application/problem+json")
                assert int(refused.headers["Retry-After"]) > 0
        finally:
            ended.set()
        assert [export.result() for export in running] == [200] * 4
    assert [app.test_client().get(path, headers=headers, buffered=True).status_code for path in paths * 2] == [200] * 8


def test_export_ends_at_its_deadline(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "EXPORT_SECONDS", 0)
    with pytest.raises(SlowClient, match="an export may take 0 s"):
        operator.get("/runs.csv", buffered=True)


def test_unread_exports_end_and_leave_threads_for_others(impatient: Program) -> None:
    export = impatient.request("GET", "/runs.csv", "viewer", "Connection: close")
    cut = impatient.log.count("is cut off")
    with ExitStack() as attack:
        for _ in range(4):
            attack.enter_context(impatient.connect(export))
        wait_until(lambda: impatient.log.count("is cut off") == cut + 4)
        status, _, body = read_answer(impatient.connect(export, buffer=1 << 20))
    assert status == 200 and len(body) > 3_000_000
    assert "GET /runs.csv is cut off: fewer than" in impatient.log


def test_export_that_is_read_too_slowly_ends(impatient: Program) -> None:
    cut = impatient.log.count("is cut off")
    with impatient.connect(impatient.request("GET", "/runs.csv", "viewer")) as client:
        give_up_at = time.monotonic() + 20
        while impatient.log.count("is cut off") == cut:
            assert client.recv(1024) and time.monotonic() < give_up_at
            time.sleep(0.1)


# --- uploads -------------------------------------------------------------------------------------------------


def test_slow_but_steady_upload_succeeds(impatient: Program) -> None:
    """Send for longer than the deadline, faster than the minimum rate."""
    part, parts = b"u" * (16 << 10), 24
    client = impatient.connect(impatient.upload("operator", len(part) * parts, "Connection: close"))
    began = time.monotonic()
    for _ in range(parts):
        client.sendall(part)
        time.sleep(0.1)
    assert time.monotonic() - began > DEADLINE
    status, _, body = read_answer(client)
    assert (status, json.loads(body)) == (200, {"bytes": len(part) * parts})
    assert (impatient.folder / "data" / "upload").read_bytes() == part * parts


def test_large_upload_needs_little_memory(impatient: Program) -> None:
    (worker,) = psutil.Process(impatient.server.pid).children()

    def peak() -> int:
        """Return the largest resident size of the server in bytes."""
        status = Path(f"/proc/{worker.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    if not os.path.exists("/proc/self/status"):
        pytest.skip("needs /proc")
    part, before = os.urandom(1 << 20), peak()
    client = impatient.connect(impatient.upload("operator", 25 << 20, "Connection: close"))
    for _ in range(25):
        client.sendall(part)
    assert json.loads(read_answer(client)[2]) == {"bytes": 25 << 20}
    assert peak() - before < 10 << 20


REFUSED: dict[str, tuple[int, Callable[[Program], bytes]]] = {
    "anonymous": (401, lambda program: program.upload("", 20 << 20)),
    "low role": (403, lambda program: program.upload("viewer", 20 << 20)),
    "too large": (413, lambda program: program.upload("operator", 31 << 20)),
    "public form": (413, lambda program: program.request("POST", "/login", "", f"Content-Length: {BUFFERED_BODY + 1}")),
    "of unknown length": (411, lambda program: program.request("POST", "/login", "", "Transfer-Encoding: chunked")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_request_is_refused_before_its_body_is_read(patient: Program, case: str) -> None:
    status, request = REFUSED[case]
    client = patient.connect(request(patient).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    began = time.monotonic()
    assert read_answer(client)[0] == status  # no 100 before it, although no byte of the body was sent
    assert time.monotonic() - began < 8


class Unreadable(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise AssertionError("the body was read")


def test_low_role_form_is_refused_before_its_body_is_read(sign_in_as: Callable[[str], Browser]) -> None:
    form = {"CONTENT_TYPE": "multipart/form-data; boundary=x", "CONTENT_LENGTH": "1000", "wsgi.input": Unreadable()}
    assert sign_in_as("viewer").post("/sessions/cleanup", environ_overrides=form).status_code == 403


@pytest.mark.parametrize("size", [1000, 100_000])
def test_client_that_asks_first_may_send_its_body(impatient: Program, size: int) -> None:
    request = impatient.upload("operator", size, "Expect: 100-continue", "Connection: close")
    client = impatient.connect(request)
    invitation = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.recv(len(invitation)) == invitation
    client.sendall(b"u" * size)
    assert json.loads(read_answer(client)[2]) == {"bytes": size}


def test_stalled_uploads_end_and_leave_threads_for_others(impatient: Program) -> None:
    stalled = [impatient.connect(impatient.upload("operator", 1 << 20), b"u" * 100) for _ in range(20)]
    answers = [read_answer(client) for client in stalled]
    statuses = [status for status, _, _ in answers]
    assert statuses.count(408) == 4 and statuses.count(503) == 16
    assert all("Retry-After" in headers for status, headers, _ in answers if status == 503)
    client = impatient.connect(impatient.upload("operator", 100_000, "Connection: close"), b"u" * 100_000)
    assert read_answer(client)[0] == 200


# --- the end -------------------------------------------------------------------------------------------------


def test_half_sent_requests_do_not_delay_the_end(folder: Path) -> None:
    with serving(folder, "ending", SECONDS_FOR_CLIENTS=str(DEADLINE)) as program, ExitStack() as clients:
        for sent in ([], [HALF_HEAD], [program.upload("operator", 1 << 20)]):
            clients.enter_context(program.connect(*sent))
        began = time.monotonic()
        program.server.terminate()
        assert program.server.wait(20) == 0
        assert time.monotonic() - began < 9
