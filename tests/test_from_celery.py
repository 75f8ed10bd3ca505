"""docs/from-celery.md covers the old document completely, and its right column is executed."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fork_server
import pytest
import yaml
from consumers import KEY, ROOT, ConsumerProcess, consumer
from installation import Installation
from waiting import wait_until

from config import load

#: The lines on Flower's API are excluded. They are compared with Flower itself.
ENGLISH, RUSSIAN = (
    (ROOT / "docs" / file).read_text().partition(f"\n## {section}\n")[0]
    for file, section in (("from-celery.md", "Flower's API"), ("ru/from-celery.md", "API Flower"))
)
CODE = re.compile(r"`([^`]+)`")

#: Every command, setting and log line in the old document.
OLD_CODE = """
celery -A app.core.celery_app flower --port=5555
docker-compose exec celery-worker celery -A app.core.celery_app flower --port=5555
curl http://localhost:5555/api/task/info/a1b2c3d4-e5f6-7890-abcd-ef1234567890
curl http://localhost:5555/api/tasks
curl http://localhost:5555/api/workers
celery -A app.core.celery_app inspect active
celery -A app.core.celery_app inspect scheduled
celery -A app.core.celery_app inspect registered
celery -A app.core.celery_app inspect stats
celery -A app.core.celery_app status
celery -A app.core.celery_app purge
docker-compose logs -f celery-worker
docker-compose logs -f celery-beat
docker-compose logs celery-beat
tail -f logs/celery_worker.log
docker-compose ps | grep celery-beat
rm backend/celerybeat-schedule
docker-compose restart celery-beat
docker-compose restart celery-worker
docker-compose exec redis redis-cli
KEYS celery-task-meta-*
docker-compose up -d celery-worker celery-beat
docker-compose up -d --scale celery-worker=3
docker-compose stop celery-worker celery-beat
cleanup-stats?hours=24
/reading-sessions/cleanup"
/reading-sessions/cleanup-async"
apply_async()
get(timeout=30)
.delay()
task.id
apply_async(args=[24])
get(timeout=10)
broker=settings.REDIS_URL
backend=settings.REDIS_URL
include=
"schedule": 1800.0
"queue": "light"
"priority": 2
name="app.tasks.close_abandoned_sessions"
bind=True
max_retries=3
default_retry_delay=300
task_soft_time_limit=1800
task_time_limit=2100
SoftTimeLimitExceeded
CREATE INDEX idx_reading_sessions_cleanup
result_expires=3600
worker_concurrency=1
worker_max_tasks_per_child=50
worker_max_memory_per_child
worker_prefetch_multiplier=1
task_acks_late=True
task_reject_on_worker_lost=True
rate_limit='10/m'
crontab(hour=3, minute=0)
""".strip().splitlines()


def table_rows(text: str) -> list[tuple[str, str]]:
    """Return the two cells of every row of its tables."""
    cells = [
        re.split(r"(?<!\\) \| ", line.strip().strip("|").strip()) for line in text.splitlines() if line[:2] == "| "
    ]
    assert all(len(row) == 2 for row in cells), [row for row in cells if len(row) != 2]
    return [(left, right) for left, right in cells if left != "Celery"]


NEW_CODE = list(dict.fromkeys(code for _, right in table_rows(ENGLISH) for code in CODE.findall(right)))
KINDS = {
    "dewey": r"\.venv/bin/dewey ",
    "consumer": r"\.venv/bin/huey_consumer ",
    "curl": r"curl ",
    "docker": r"docker compose ",
    "make": r"make ",
    "setting": r"[A-Z_]+=",
    "decorator": r"@light\.",
    "call": r"(close_abandoned_sessions|get_cleanup_statistics)\(|from tasks import",
    "page": r"/",
}
#: Names, which are not executed.
NAMES = {
    "config.py", "tasks.py", "light", "task", "except Exception", "SoftTimeLimitExceeded",
    "engine.worker.consumer", "-w 1", "close_abandoned_sessions",
}  # fmt: skip


def select_code(kind: str) -> list[str]:
    return [code for code in NEW_CODE if re.match(KINDS[kind], code)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return an installation with the sample library, a web server and a consumer of `light`."""
    made = Installation(tmp_path_factory.mktemp("celery"), WORKERS_HEAVY="0", WORKERS_NORMAL="0")
    assert made.flask("migrate").returncode == 0
    assert made.flask("demo").returncode == 0
    with made.web(), made.consumer("light"):
        wait_until(lambda: made.flask("status").returncode == 0)
        yield made


@pytest.fixture(scope="module")
def run_id(installation: Installation) -> str:
    run_id = installation.flask("run-task", "get_cleanup_statistics").stdout.strip()
    installation.flask("run-task", "get_cleanup_statistics", "--wait")
    return run_id


@pytest.fixture(scope="module")
def bearer(installation: Installation) -> dict[str, str]:
    return installation.bearer("operator")


# --- content -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN], ids=["en", "ru"])
def test_old_document_is_covered_by_the_left_column(text: str) -> None:
    left = " ".join(cell.replace("\\|", "|") for cell, _ in table_rows(text))
    assert [code for code in OLD_CODE if code not in left] == []


def test_both_languages_have_the_same_code() -> None:
    assert len(table_rows(ENGLISH)) == len(table_rows(RUSSIAN)) > 45
    for (_, english), (_, russian) in zip(table_rows(ENGLISH), table_rows(RUSSIAN), strict=True):
        assert CODE.findall(english) == CODE.findall(russian)
    assert re.findall(r"```python\n(.*?)```", ENGLISH, re.S) == re.findall(r"```python\n(.*?)```", RUSSIAN, re.S)


def test_right_column_contains_only_tested_kinds() -> None:
    tested = [code for kind in KINDS for code in select_code(kind)]
    assert [code for code in NEW_CODE if code not in tested and code not in NAMES] == []
    assert all(select_code(kind) for kind in KINDS)


# --- execution -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", select_code("dewey"))
def test_each_dewey_command_is_done(command: str, installation: Installation, run_id: str) -> None:
    done = installation.flask(*shlex.split(command.replace("$RUN", run_id))[1:])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", select_code("consumer"))
def test_consumer_command_starts(command: str, installation: Installation, tmp_path: Path) -> None:
    written = re.search(r"-l (\S+)", command)
    words = shlex.split(command.replace(written[1], str(tmp_path / "log")) if written else command)[1:]
    running = ConsumerProcess(*words, environment=installation.environment, log=tmp_path / "log")
    running.logged("commands are available: tasks.")
    assert running.stop() == 0


@pytest.mark.parametrize("command", select_code("curl"))
def test_request_is_answered(command: str, installation: Installation, bearer: dict[str, str], run_id: str) -> None:
    words = shlex.split(command.replace("$RUN", run_id))
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    address = next(word for word in words if word.startswith("http://localhost:8000/"))
    answer = installation.ask(method, address.removeprefix("http://localhost:8000"), bearer if "-H" in words else None)
    assert answer.status == (202 if address.endswith("async") else 200)


@pytest.mark.parametrize("path", select_code("page"))
def test_page_exists(path: str, installation: Installation, bearer: dict[str, str], run_id: str) -> None:
    assert installation.ask("GET", path.replace("$RUN", run_id), bearer).status == 200


@pytest.mark.parametrize("command", select_code("docker"))
def test_docker_command_names_existing_services(command: str) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    verb, *words = shlex.split(command)[2:]
    assert verb in ("up", "logs", "restart", "stop", "ps")
    names = [word.partition("=")[0] for word in words if re.match(r"web|worker|watch|redis|postgres", word)]
    assert set(names) <= set(services) and (names or verb == "ps")


@pytest.mark.parametrize("command", select_code("make"))
def test_make_target_exists(command: str) -> None:
    subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("line", select_code("setting"))
def test_setting_is_accepted(line: str, tmp_path: Path) -> None:
    name, _, value = line.partition("=")
    settings = load({"DATA_DIR": str(tmp_path), "SECRET_KEY": KEY, name: value})
    workers = name.removeprefix("WORKERS_").lower()
    assert str(settings.workers.get(workers) or getattr(settings, name.lower())) == value


@pytest.mark.parametrize("line", select_code("decorator"))
def test_decorator_declares_a_task(line: str, installation: Installation) -> None:
    imports = "from tasks import light\nfrom engine.queues.crontab import crontab\n"
    code = f"{imports}{line}\ndef one(task=None):\n    return 1\n"
    python(code + "assert one.task_class.__name__ == 'one'", installation)


@pytest.mark.parametrize("line", select_code("call"))
def test_call_returns_its_documented_value(line: str, installation: Installation) -> None:
    if line.startswith("from "):
        python(line, installation)
    else:
        printed = python(f"from tasks import *; print({line})", installation)
        assert re.search(r"closed_count|total_closed|^[0-9a-f-]{36}$", printed)


def python(code: str, installation: Installation) -> str:
    done = fork_server.run_to_end(["-c", code], cwd=ROOT, env={**os.environ, **installation.environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_best_practices_example_works(tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", ENGLISH, re.S)
    (tmp_path / "practices.py").write_text(code)
    installation = Installation(tmp_path, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert installation.flask("migrate").returncode == 0
    with consumer("practices.light", environment=installation.environment, log=tmp_path / "log") as running:
        calling_code = "from practices import *\nfor call in ({calls}): print(call.get(blocking=True, timeout=25))"
        assert (
            python(calling_code.format(calls="my_task(3), sync_task(), rate_limited_task(),"), installation)
            == "3\ndone\nNone"
        )
        python("from practices import *; my_task(200); my_task(30)", installation)
        running.logged("Retrying task in 60s (attempt 1/3)")
        wait_until(lambda: running.log.count("Retrying task in 60s") >= 2)
