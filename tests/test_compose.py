"""docker-compose.yml, Dockerfile and .env.example are compared with the program that they start."""

import ast
import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from consumers import KEY
from huey.consumer_options import OptionParserHandler
from installation import find_free_port
from waiting import wait_until

import tasks
from app import create_app
from config import QUEUES, ROOT, load

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
WORKERS = [f"worker-{queue}" for queue in QUEUES]
PROGRAM_SERVICES = ["migrate", "web", *WORKERS, "watch"]
SERVERS = ["redis", "postgres"]
SECRETS = {"SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD"}


def variables_read_by_config():
    """Return the variables of config.py: the first argument of each `read.…("NAME", …)`, and those of the queues."""
    calls = [node for node in ast.walk(ast.parse((ROOT / "config.py").read_text())) if isinstance(node, ast.Call)]
    readers = [
        call for call in calls if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "read"
    ]
    named = {call.args[0].value for call in readers if isinstance(call.args[0], ast.Constant)}
    return named | {f"WORKERS_{queue.upper()}" for queue in QUEUES} | {"SECRET_KEY"}


def strings(node):
    """Return every string in a part of the file."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        return [text for inner in node for text in strings(inner)]
    return [node] if isinstance(node, str) else []


def interpolate(text, environ):
    """Interpolate the text as compose does: `${NAME:-default}` and `${NAME:?message}`."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", lambda part: environ.get(part[1]) or part[2] or "", text)


def test_services_are_the_program_parts_and_its_two_servers():
    assert list(SERVICES) == [*PROGRAM_SERVICES, *SERVERS]


@pytest.mark.parametrize("name", PROGRAM_SERVICES)
def test_service_command_is_installed_by_the_requirements(name):
    program = SERVICES[name]["command"][0]
    package = {"flask": "Flask", "gunicorn": "gunicorn", "huey_consumer": "huey"}[program]
    assert re.search(rf"^{package}==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("queue", QUEUES)
def test_worker_service_serves_its_queue_with_valid_options(queue):
    command = [interpolate(part, {}) for part in SERVICES[f"worker-{queue}"]["command"]]
    options, paths = OptionParserHandler().get_option_parser().parse_args(command[1:])
    assert paths == [f"tasks.{queue}"] and getattr(tasks, queue).name
    assert options.worker_type == "process"


@pytest.mark.parametrize("queue", QUEUES)
def test_worker_healthcheck_checks_the_consumer_of_its_queue(queue):
    assert SERVICES[f"worker-{queue}"]["healthcheck"]["test"] == ["CMD", "python", "-m", "engine.alive", queue]
    assert (ROOT / "engine" / "alive.py").is_file()


@pytest.mark.parametrize("queue", QUEUES)
def test_worker_count_is_the_setting_with_the_program_default(queue, tmp_path):
    command = SERVICES[f"worker-{queue}"]["command"]
    name = f"WORKERS_{queue.upper()}"
    default = load({"DATA_DIR": str(tmp_path)}).workers[queue]
    assert interpolate(command[-1], {}) == str(default)
    assert interpolate(command[-1], {name: "7"}) == "7"


def test_migrate_service_runs_a_program_command():
    assert SERVICES["migrate"]["command"] == ["flask", "migrate"]
    assert "migrate" in create_app().cli.commands


def test_web_service_runs_the_image_command():
    image_command = re.search(r"^CMD (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert SERVICES["web"]["command"] == yaml.safe_load(image_command)
    assert Path(ROOT, SERVICES["web"]["command"][2]).is_file()


@pytest.mark.parametrize("name", PROGRAM_SERVICES)
def test_services_pass_every_program_variable_and_no_other(name):
    passed = set(SERVICES[name]["environment"])
    assert passed == variables_read_by_config() - {"DATA_DIR", "FLASK_DEBUG"}


def test_variables_keep_their_name_and_the_program_default():
    fixed = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "HOST", "PORT"}
    for name, value in SERVICES["web"]["environment"].items():
        assert name in fixed or value == f"${{{name}:-}}"


def test_secrets_have_no_default_and_are_in_the_example():
    used = {name: form for text in strings(COMPOSE) for name, form in re.findall(r"\$\{(\w+)([^}]*)\}", text)}
    assert {name for name, form in used.items() if form.startswith(":?")} == SECRETS
    for name, value in [pair for service in SERVICES.values() for pair in service["environment"].items()]:
        assert not re.search("SECRET|PASSWORD|AUTH", name) or re.fullmatch(r"\$\{\w+:(\?[^}]+|-)\}", value)
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert {name for name in example if not example[name]} >= SECRETS


def test_settings_from_the_example_are_accepted(tmp_path):
    made = dict.fromkeys(SECRETS, KEY)
    environ = {name: interpolate(value, made) for name, value in SERVICES["web"]["environment"].items()}
    settings = load({"DATA_DIR": str(tmp_path), **environ})
    assert not settings.embedded_broker and not settings.embedded_database
    assert settings.redis_url == f"redis://:{made['REDIS_PASSWORD']}@redis:6379/0"
    assert settings.database_url == f"postgresql://dewey:{made['POSTGRES_PASSWORD']}@postgres:5432/dewey"


def test_only_the_web_server_is_published_on_loopback():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"web"}
    assert SERVICES["web"]["ports"] == ["127.0.0.1:${PORT:-8000}:8000"]
    assert SERVICES["web"]["environment"]["PORT"] == "8000"


def test_worker_services_can_be_scaled():
    for name in WORKERS:
        assert not {"container_name", "ports", "hostname"} & set(SERVICES[name])


def test_web_server_and_workers_share_the_files_of_books():
    for name in ["web", *WORKERS]:
        assert SERVICES[name]["volumes"] == ["files:/app/data"]


def test_no_service_runs_as_root():
    users = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users and users[-1] not in ("root", "0")
    assert all("user" not in SERVICES[name] for name in PROGRAM_SERVICES)
    assert [SERVICES[name]["user"] for name in SERVERS] == SERVERS


@pytest.mark.parametrize("name", [name for name in [*PROGRAM_SERVICES, *SERVERS] if name != "migrate"])
def test_lasting_service_has_healthcheck_restart_and_stop_grace(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"] == "30s"


def test_migrations_run_once_before_our_services():
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ["web", *WORKERS, "watch"]:
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
        }


def test_services_are_healthy_on_real_servers_and_stop_on_request(fresh_postgresql, redis_url, tmp_path):
    port = find_free_port()
    settings = {"DATABASE_URL": fresh_postgresql, "REDIS_URL": redis_url, "HOST": "127.0.0.1", "PORT": str(port)}

    def run(name: str, command: list[str]) -> subprocess.Popen[bytes]:
        program, *arguments = [interpolate(part, {}).replace(":8000/", f":{port}/") for part in command]
        passed = {key: interpolate(value, {"SECRET_KEY": KEY}) for key, value in SERVICES[name]["environment"].items()}
        environ = {**os.environ, "DATA_DIR": str(tmp_path / "data"), **passed, **settings}
        return subprocess.Popen([f"{sys.prefix}/bin/{program}", *arguments], cwd=ROOT, env=environ, stderr=log)

    def healthy(name: str) -> bool:
        return run(name, SERVICES[name]["healthcheck"]["test"][1:]).wait() == 0

    with ExitStack() as stack:
        log = stack.enter_context(open(tmp_path / "log", "wb"))
        assert run("migrate", SERVICES["migrate"]["command"]).wait() == 0
        running = {name: run(name, SERVICES[name]["command"]) for name in ["web", *WORKERS, "watch"]}
        for process in running.values():
            stack.callback(process.kill)
        for name in running:
            wait_until(lambda name=name: healthy(name), within=30)
        for process in running.values():
            process.terminate()
        assert [process.wait(timeout=30) for process in running.values()] == [0, 0, 0, 0, 0]
        assert not healthy("worker-light") and not healthy("watch")
    assert not (tmp_path / "data").exists()


def test_persistent_data_is_in_named_volumes():
    assert set(COMPOSE["volumes"]) == {"files", *SERVERS}
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql/data"]


def test_redis_requires_a_password_and_persists_every_write():
    options = shlex.join(SERVICES["redis"]["command"][1:])
    assert "--requirepass '${REDIS_PASSWORD:?" in options
    assert "--appendonly yes --appendfsync always" in options
    assert "--maxmemory-policy noeviction" in options


def test_images_are_pinned():
    assert re.match(r"FROM python:3\.11\.\d+-slim-\w+\n", (ROOT / "Dockerfile").read_text())
    for name in SERVERS:
        assert re.search(r":\d+(\.\d+)?-alpine$", SERVICES[name]["image"])


def test_image_contains_no_secret_and_no_data():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env", ".env.*", "data", ".git", ".venv"} <= set(ignored)
