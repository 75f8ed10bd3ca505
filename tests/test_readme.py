"""Every command in the README and in CONTRIBUTING is executed as written, against a real installation."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from consumers import BIN, ROOT, ConsumerProcess
from installation import Installation, is_listening
from waiting import wait_until

TEXTS = [(ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")]
COMMANDS = [
    line for text in TEXTS for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return an installation with the sample library, a web server and a consumer of `light`."""
    made = Installation(tmp_path_factory.mktemp("readme"), WORKERS_HEAVY="0", WORKERS_NORMAL="0")
    assert made.flask("migrate").returncode == 0
    assert made.flask("demo").returncode == 0
    with made.web(), made.consumer("light"):
        wait_until(lambda: made.flask("status").returncode == 0)
        yield made


@pytest.fixture(scope="module")
def token(installation: Installation) -> str:
    return installation.flask("token", "create", "readme", "--role", "operator").stdout.splitlines()[-1]


def select_commands(program: str) -> list[str]:
    return [command for command in COMMANDS if re.match(program, command)]


@pytest.mark.parametrize("command", select_commands(r"make "))
def test_make_targets_exist_and_ci_runs_them(command: str) -> None:
    subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)
    assert "make check" in (ROOT / ".ci/run").read_text()
    assert "test" in re.search(r"^check:.*?(?=^\S)", (ROOT / "Makefile").read_text(), re.M | re.S)[0]  # type: ignore[index]


@pytest.mark.parametrize("command", select_commands(r"\.venv/bin/dewey "))
def test_each_dewey_command_is_done(command: str, installation: Installation) -> None:
    done = installation.flask(*shlex.split(command)[1:])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", select_commands("curl "))
def test_request_is_answered(command: str, installation: Installation, token: str) -> None:
    words = shlex.split(command.replace("$TOKEN", token))[1:]
    headers, method, url = {}, "GET", ""
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-X":
            method = words.pop(0)
        else:
            url = word
    assert url.startswith("http://localhost:8000/")
    answer = installation.ask(method, url.removeprefix("http://localhost:8000"), headers)
    assert answer.status == (202 if url.endswith("async") else 200)
    assert set(json.loads(answer.text)) in (
        {"closed_count", "execution_time_ms", "deadline", "error"},
        {"task_id", "status", "message"},
        {"runs", "next", "searched_to"},
        {"result"},
        {"total_closed", "total_active", "avg_duration_minutes", "no_progress_count", "period_hours", "timestamp"},
    )


@pytest.mark.parametrize("command", select_commands(r"\.venv/bin/huey_consumer "))
def test_consumer_command_starts(command: str, installation: Installation, tmp_path: Path) -> None:
    words = shlex.split(command)[1:]
    running = ConsumerProcess(*words, environment=installation.environment, log=tmp_path / "log")
    running.logged("Periodic tasks are")
    assert running.stop() == 0


@pytest.mark.parametrize("command", select_commands(r"\.venv/bin/gunicorn "))
def test_web_server_command_starts(command: str, tmp_path: Path) -> None:
    other = Installation(tmp_path)
    assert other.flask("migrate").returncode == 0
    words = [str(BIN / "gunicorn"), *shlex.split(command)[1:]]
    server = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **other.environment}, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(other.port))
        assert other.ask("GET", "/healthz").status == 200
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.parametrize("command", select_commands("python3 "))
def test_generated_key_is_long_enough(command: str) -> None:
    made = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout.strip()
    assert len(made) >= 32


@pytest.mark.parametrize("command", select_commands("docker compose "))
def test_docker_command_names_existing_services(command: str, installation: Installation) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    verb, *words = shlex.split(command)[2:]
    assert verb in ("up", "run", "logs", "restart")
    names = [word.partition("=")[0] for word in words if re.fullmatch(r"(web|worker|migrate|redis|postgres)\S*", word)]
    assert set(names) <= set(services)
    if "dewey" in words:
        flask_words = words[words.index("dewey") + 1 :]
        assert installation.flask(*flask_words).returncode == 0


def test_every_command_is_tested() -> None:
    tried = [r"make ", r"\.venv/bin/(dewey|huey_consumer|gunicorn) ", "curl ", "python3 ", "docker compose "]
    assert [command for command in COMMANDS if not any(re.match(pattern, command) for pattern in tried)] == []
    assert len(COMMANDS) > 20
