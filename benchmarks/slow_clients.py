"""The web server under slow clients, beside gunicorn's gthread and waitress with the same application.

    .venv/bin/python benchmarks/slow_clients.py [ours gthread waitress]

Prints requests per second of `/healthz` and `/login` with four clients, the resident memory, and how long `/healthz`
takes while 500 idle, 200 half-sent and 50 unread connections are held. waitress must be importable (PYTHONPATH).
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import psutil

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PORT = 18650
SECONDS = 4.0
GIVE_UP_SECONDS = 20.0

GTHREAD = """
from gunicorn.workers.gthread import ThreadWorker
exec(open("gunicorn.conf.py").read())
worker_class, worker_connections, threads = ThreadWorker, 1000, 24
"""
WAITRESS = f"""
import waitress
from app import create_app
waitress.serve(create_app(), listen="127.0.0.1:{PORT}", threads=24, connection_limit=1000, asyncore_use_poll=True,
               channel_timeout=10, cleanup_interval=2, ident=None, max_request_body_size=1 << 20)
"""

FORM = b"Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
ATTACKS = {
    "idle": [b""] * 500,
    "half a head": [b"GET /login HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] * 200,
    "half a body": [b"POST /login HTTP/1.1\r\n" + FORM + b"Content-Length: 100\r\n\r\nemail="] * 200,
    "unread": [b"GET /static/app.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100] * 50,
}
ATTACKS["all"] = ATTACKS["idle"] + ATTACKS["half a head"][:100] + ATTACKS["half a body"][:100] + ATTACKS["unread"]


def main(names: list[str]) -> None:
    rows = []
    for name in names or ["ours", "gthread", "waitress"]:
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"DATA_DIR": folder, "PORT": str(PORT), "LOG_LEVEL": "ERROR"}
            subprocess.run([BIN / "flask", "migrate"], cwd=ROOT, env=environment, check=True, capture_output=True)
            conf = Path(folder, "gthread.conf.py")
            conf.write_text(GTHREAD)
            rows.append({"server": name, **measure(command(name, conf), environment)})
            print(json.dumps(rows[-1]), flush=True)


def command(name: str, conf: Path) -> list[str]:
    if name == "waitress":
        return [sys.executable, "-c", WAITRESS]
    return [str(BIN / "gunicorn"), "-c", "gunicorn.conf.py" if name == "ours" else str(conf), "app:create_app()"]


def measure(command: list[str], environment: dict[str, str]) -> dict[str, object]:
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        while health_seconds() >= GIVE_UP_SECONDS:
            time.sleep(0.1)
        result: dict[str, object] = {path: rate(path, server.pid) for path in ("/healthz", "/login")}
        result["memory at rest"] = memory(server.pid)
        for name, requests in ATTACKS.items():
            with ExitStack() as held:
                for request in requests:
                    held.enter_context(connect(request))
                time.sleep(0.5)
                result[name] = round(median(health_seconds() for _ in range(3)), 2)
            while health_seconds() > 1:
                time.sleep(0.2)
        return {**result, "memory after": memory(server.pid)}
    finally:
        server.terminate()
        server.wait()


def rate(path: str, pid: int, clients: int = 4) -> dict[str, float]:
    """Return requests per second over connections that are kept alive, and the server's CPU time for each."""

    def count(until: float) -> int:
        connection, done = http.client.HTTPConnection("127.0.0.1", PORT), 0
        while time.monotonic() < until:
            connection.request("GET", path)
            connection.getresponse().read()
            done += 1
        return done

    cpu, until = cpu_seconds(pid), time.monotonic() + SECONDS
    with ThreadPoolExecutor(clients) as pool:
        requests = sum(pool.map(count, [until] * clients))
    cpu_ms = (cpu_seconds(pid) - cpu) * 1000 / requests
    return {"requests per second": round(requests / SECONDS), "CPU ms": round(cpu_ms, 2)}


def cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children()))


def memory(pid: int) -> str:
    process = psutil.Process(pid)
    largest = max(one.memory_info().rss for one in (process, *process.children()))
    return f"{largest >> 20} MB"


def connect(sent: bytes) -> socket.socket:
    """Return a connection that has sent these bytes and takes few bytes of a response."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(GIVE_UP_SECONDS)
    client.connect(("127.0.0.1", PORT))
    client.sendall(sent)
    return client


def health_seconds() -> float:
    """Return how long `/healthz` takes. `GIVE_UP_SECONDS` if it does not respond."""
    began = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=GIVE_UP_SECONDS) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if client.recv(65536).startswith(b"HTTP/1.1 200"):
                return time.monotonic() - began
    except OSError:
        pass
    return GIVE_UP_SECONDS


if __name__ == "__main__":
    main(sys.argv[1:])
