"""The Workers page: the list of consumers, the page of one, and its commands."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from browsers import Browser
from budget import measure_cost
from databases import bind_database
from factories import create_consumer
from installation import Installation
from waiting import wait_until

import tasks
from admin.pages.queues.workers import parse_threads
from engine.models import Consumer, now
from engine.monitor import consumers
from engine.monitor import consumers as consumer_status
from engine.queues import remote_control
from engine.queues.remote_control import Command, Stack
from engine.worker import stack_dump
from models import AuditEntry

LATE, LOST = timedelta(seconds=15), timedelta(minutes=2)


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def consumer_text(html: str, consumer: Consumer) -> str:
    match = re.search(rf'<(tbody|tr) id="worker-{re.escape(consumer.id)}">.*?</\1>', html, re.DOTALL)
    return plain_text(match[0]) if match else ""


def running_job(task: str, number: int = 1, seconds_ago: int = 12) -> dict[str, str]:
    since = (now() - timedelta(seconds=seconds_ago)).isoformat()
    return {"worker": f"Worker-{number}", "run_id": f"{task}-id", "task": task, "since": since}


def slot(number: int, megabytes: int = 38, cpu_percent: float = 2.4) -> dict[str, object]:
    return {
        "worker": f"Worker-{number}",
        "pid": 4000 + number,
        "rss_bytes": megabytes << 20,
        "cpu_percent": cpu_percent,
    }


# --- the list ------------------------------------------------------------------------------------------------


def test_consumers_show_what_their_workers_do_and_use(any_db_operator: Browser) -> None:
    at = now()
    busy = create_consumer(
        "heavy", worker_count=3, rss_bytes=190 << 20, cpu_percent=104.4, processed=1204, failed=3, pid=4000,
        started_at=at - timedelta(hours=3), running=[running_job("process_book", 2)],
        slots=[slot(1), slot(2, 71, 99.6), slot(3)],
    )  # fmt: skip
    quiet = create_consumer("light", quiet_at=at)
    late = create_consumer("normal", beat_at=at - LATE)
    html = any_db_operator.get("/workers").text
    text = consumer_text(html, busy)
    assert text.startswith("heavy app-1 · 4000 live 190 MB 104% 1,204 3 failed 3 h")
    assert re.search(r"process_book Worker-2 \d\d s 71 MB 100%", text)
    assert text.endswith("2 workers idle")
    assert 'href="/runs/process_book-id"' in html
    assert "quiet" in consumer_text(html, quiet)
    assert re.search(r"late last heartbeat \d\d s ago", consumer_text(html, late))


def test_lost_consumer_is_listed_until_replaced(operator: Browser) -> None:
    at = now()
    started = at - timedelta(hours=1)
    lost = create_consumer(
        "light", started_at=started, beat_at=at - LOST, running=[running_job("nap")], rss_bytes=9 << 20
    )
    html = operator.get("/workers").text
    assert consumer_text(html, lost).startswith(f"light app-1 · {lost.pid} lost last heartbeat 2 min ago – –")
    assert "Stopped and lost" not in html
    elsewhere = create_consumer("light", host="app-2", started_at=at - LOST)
    older = create_consumer("light", started_at=started - timedelta(hours=1))
    assert consumer_status.find_replacements([lost, elsewhere, older], at) == {}
    heir = create_consumer("light", started_at=at - LOST)
    html = operator.get("/workers").text
    assert consumer_text(html, lost).startswith(f"light app-1 · {lost.pid} died replaced by another consumer")
    assert html.index("Stopped and lost") < html.index(f'id="worker-{lost.id}"')
    assert f'href="/workers/{heir.id}"' in operator.get(f"/workers/{lost.id}").text


def test_newcomers_replace_dead_consumers_first() -> None:
    def consumer(name: str, started: int, heard: int, stopped: bool = False) -> Consumer:
        at = [now() - timedelta(minutes=minutes) for minutes in (started, heard)]
        gone = at[1] if stopped else None
        return Consumer(id=name, host="h", queue="q", started_at=at[0], beat_at=at[1], stopped_at=gone)

    stopped, first, second = (
        consumer("stopped", 60, 30, stopped=True),
        consumer("first", 60, 20),
        consumer("second", 60, 10),
    )
    replacements = consumer_status.find_replacements([stopped, second, first, consumer("new", 9, 0)], now())
    assert {gone: heir.id for gone, heir in replacements.items()} == {"first": "new"}
    replacements = consumer_status.find_replacements(
        [stopped, second, first, consumer("a", 19, 0), consumer("b", 9, 0), consumer("c", 8, 0)], now()
    )
    assert {gone: heir.id for gone, heir in replacements.items()} == {"first": "a", "second": "b", "stopped": "c"}


def test_stopped_consumer_is_listed_as_gone(operator: Browser) -> None:
    stopped = create_consumer("light", stopped_at=now(), processed=41)
    html = operator.get("/workers").text
    assert "No consumer is running" in html
    for command in ("make run", *(f"huey_consumer tasks.{queue} -k process -w " for queue in tasks.queues)):
        assert f"<code>{command}" in html
    assert consumer_text(html, stopped).startswith(f"light app-1 · {stopped.pid} stopped 41")


def test_different_code_versions_are_reported(operator: Browser) -> None:
    create_consumer("light", code_version="2.4.0")
    create_consumer("heavy", code_version="2.4.0", beat_at=now() - LOST)
    assert "different versions" not in operator.get("/workers").text
    create_consumer("heavy", code_version="2.4.1")
    assert "different code versions: 2.4.0, 2.4.1" in operator.get("/workers").text


def test_consumer_of_a_removed_queue_is_listed(operator: Browser) -> None:
    forgotten = create_consumer("images")
    assert consumer_text(operator.get("/workers").text, forgotten).startswith("images")
    assert operator.get(f"/workers/{forgotten.id}").status_code == 200


def test_list_cost_does_not_grow_with_consumers(operator: Browser) -> None:
    create_consumer("light", running=[running_job("nap")])
    before = measure_cost(operator, "/workers")
    for queue in tasks.queues:
        for _ in range(40):
            create_consumer(queue, worker_count=64, running=[running_job("nap", number) for number in range(1, 9)])
    assert measure_cost(operator, "/workers") == before
    shown, url = set(), "/workers"
    while url:
        html = operator.get(url).text
        shown |= set(re.findall(r'<tbody id="worker-([^"]+)">', html))
        further = re.search(r'href="([^"]+)" rel="next"', html)
        url = further[1] if further else ""
    assert len(shown) == 121
    assert "more workers busy" in html


# --- one consumer --------------------------------------------------------------------------------------------


def test_consumer_page_shows_its_whole_record(sign_in_as: Callable[[str], Browser]) -> None:
    consumer = create_consumer(
        "light",
        pid=4711,
        code_version="2.4.1-4fc424b",
        running=[running_job("nap", 1)],
        slots=[slot(1, 71, 99.6), slot(2)],
        processed=1204,
        failed=3,
        rss_bytes=190 << 20,
        cpu_percent=5,
    )
    viewer = sign_in_as("viewer")
    assert measure_cost(viewer, f"/workers/{consumer.id}")
    text = plain_text(viewer.get(f"/workers/{consumer.id}").text)
    for words in (
        "Worker-1 4001 nap nap-id",
        "71 MB 100% Worker-2",
        "Worker-2 4002 idle – 38 MB 2%",
        "runs 1,204 3 failed memory 190 MB CPU 5% of one core code 2.4.1-4fc424b",
        "scheduler checked",
        f"ID {consumer.id}",
        "Quiet, restart and stop require the admin role.",
    ):
        assert words in text
    assert viewer.get("/workers/missing").status_code == 404


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"beat_at": LATE}, "Last heartbeat: "),
        ({"beat_at": LOST}, "Its runs return to the queue"),
        ({"stopped_at": LATE}, "stopped"),
    ],
)
def test_gone_consumer_accepts_no_commands(
    sign_in_as: Callable[[str], Browser], values: dict[str, timedelta], words: str
) -> None:
    consumer = create_consumer("light", **{name: now() - ago for name, ago in values.items()})
    admin = sign_in_as("admin")
    assert words in plain_text(admin.get(f"/workers/{consumer.id}").text)
    is_late = values == {"beat_at": LATE}
    assert admin.send(f"/workers/{consumer.id}/quiet").status_code == (303 if is_late else 409)
    assert len(remote_control.pending_commands(tasks.light, consumer.id)) == is_late


# --- commands ------------------------------------------------------------------------------------------------


def test_admin_commands_are_audited(sign_in_as: Callable[[str], Browser]) -> None:
    consumer, admin = create_consumer("light"), sign_in_as("admin")
    for what in ("quiet", "wake", "restart", "stop"):
        answer = admin.send(f"/workers/{consumer.id}/{what}")
        assert (answer.status_code, answer.location) == (303, f"/workers/{consumer.id}")
    commands = [(order.what, order.by) for order in remote_control.CommandInbox(tasks.light, consumer.id).take()]
    assert commands == [
        (what, "admin@example.org") for what in (Command.QUIET, Command.WAKE, Command.STOP, Command.RESTART)
    ]
    assert remote_control.pending_commands(tasks.light, consumer.id) == []
    lines = AuditEntry.select().where(AuditEntry.action.startswith("workers")).order_by(AuditEntry.id)
    assert [(line.action, line.target) for line in lines] == [
        (f"workers.{what}", consumer.id) for what in ("quiet", "wake", "restart", "stop")
    ]


def test_pending_command_is_shown(sign_in_as: Callable[[str], Browser]) -> None:
    consumer, admin = create_consumer("light"), sign_in_as("admin")
    admin.send(f"/workers/{consumer.id}/stop")
    assert "stop was requested. The consumer has not picked it up yet." in plain_text(
        admin.get(f"/workers/{consumer.id}").text
    )


def test_stop_and_restart_ask_for_confirmation(sign_in_as: Callable[[str], Browser]) -> None:
    consumer, admin = create_consumer("light", running=[running_job("nap"), running_job("nap", 2)]), sign_in_as("admin")
    html = admin.get(f"/workers/{consumer.id}/stop").text
    assert "Stop this consumer?" in html and consumers.full_worker_name(consumer) in html
    assert "The consumer is running 2 tasks" in html
    assert "No other consumer serves light. New runs will wait." in html
    create_consumer("light")
    assert "No other consumer" not in admin.get(f"/workers/{consumer.id}/stop").text
    assert "Restart this consumer?" in admin.get(f"/workers/{consumer.id}/restart").text
    assert remote_control.pending_commands(tasks.light, consumer.id) == []


def test_only_an_admin_sends_commands(sign_in_as: Callable[[str], Browser]) -> None:
    consumer, operator = create_consumer("light"), sign_in_as("operator")
    for what in ("quiet", "wake", "restart", "stop", "dump"):
        assert operator.send(f"/workers/{consumer.id}/{what}").status_code == 403
    assert 'method="post" action="/workers' not in operator.get(f"/workers/{consumer.id}").text
    assert sign_in_as("admin").send("/workers/missing/quiet").status_code == 409


# --- stacks --------------------------------------------------------------------------------------------------

FRAMES = """Traceback (most recent call last):
  File "{root}/engine/worker/worker.py", line 72, in loop
    task = self.huey.dequeue()
  File "{root}/engine/queues/task.py", line 61, in execute_or_fail
    return func(*args, **kwargs)
  File "{root}/reading/books.py", line 88, in open_epub
    with ZipFile(path) as book:
  File "/usr/lib/python3.11/zipfile.py", line 1300, in __init__
    self._RealGetContents()
Traceback (most recent call last):
  File "/usr/lib/python3.11/threading.py", line 982, in run
    self._target(*self._args, **self._kwargs)
"""


def test_stack_begins_with_the_code_of_the_task() -> None:
    main, other = parse_threads(FRAMES.replace("{root}", str(Path(__file__).parent.parent)))
    assert [frame.place for frame in main.inner] == [
        "reading/books.py:88, in open_epub",
        "/usr/lib/python3.11/zipfile.py:1300, in __init__",
    ]
    assert [frame.own for frame in main.inner] == [True, False]
    assert len(main.outer) == 2
    assert (len(other.inner), other.outer) == (1, [])
    assert parse_threads("") == []


def test_stack_dump_is_shown(sign_in_as: Callable[[str], Browser]) -> None:
    consumer = create_consumer("light")
    text = FRAMES.replace("{root}", str(Path(__file__).parent.parent))
    stacks = [Stack("Worker-1", 4001, "a-run", "process_book", text), Stack("Worker-2", 4002, None, None, "")]
    remote_control.publish_dump(tasks.light, consumer.id, stacks)
    page_text = plain_text(sign_in_as("viewer").get(f"/workers/{consumer.id}").text)
    assert "Worker-1 · 4001 · process_book" in page_text and "with ZipFile(path) as book:" in page_text
    assert "Worker-2 · 4002 · idle No response" in page_text


def test_missing_stack_dump_is_reported(sign_in_as: Callable[[str], Browser], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.pages.queues.worker_actions.DUMP_SECONDS", 0.1)
    consumer, admin = create_consumer("light"), sign_in_as("admin")
    answer = admin.send(f"/workers/{consumer.id}/dump")
    assert answer.location == f"/workers/{consumer.id}#stacks"
    assert "Stack traces requested" in admin.get(f"/workers/{consumer.id}").text


def test_frame_without_source_is_shown() -> None:
    assert stack_dump.format_stack('Thread 0x1 (most recent call first):\n  File "<string>", line 3 in f\n  ...\n') == (
        'Traceback (most recent call last):\n  ...\n  File "<string>", line 3, in f'
    )


# --- the terminal --------------------------------------------------------------------------------------------


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    url = f"sqlite:///{tmp_path}/dewey.db"
    made = Installation(tmp_path, DATABASE_URL=url)
    assert made.flask("migrate").returncode == 0
    with bind_database(url):
        yield made


def test_workers_commands_list_and_control_consumers(installation: Installation) -> None:
    with installation.consumer("light") as consumer:
        row = wait_until(lambda: Consumer.get_or_none(pid=consumer.pid))
        name = consumers.full_worker_name(row)
        listed = installation.flask("workers", "list")
        assert re.search(rf"{name} +live +2 ", listed.stdout), listed
        assert f'"id": "{row.id}"' in installation.flask("workers", "list", "--json").stdout
        assert re.search(r"light +0 +– .* 2 +0 +–", installation.flask("queues", "list").stdout)
        assert '"journal_mode": "wal"' in installation.flask("queues", "broker", "--json").stdout
        dumped = installation.flask("workers", "dump", name)
        assert "Worker-2" in dumped.stdout and "in wait_for_work" in dumped.stdout, dumped
        assert installation.flask("workers", "quiet", row.id).stdout == (
            f"Consumer {row.id} is quiet: it finishes running tasks and takes no new ones.\n"
        )
        wait_until(lambda: Consumer.get_by_id(row.id).quiet_at)
        assert installation.flask("workers", "stop", name, typed="n\n").returncode == 1
        assert installation.flask("workers", "stop", name, "--yes").returncode == 0
        assert consumer.process.wait(30) == 0
    gone = installation.flask("workers", "wake", row.id)
    assert (gone.returncode, gone.stderr) == (1, "dewey: This consumer is stopped and takes no commands.\n")
    assert installation.flask("workers", "wake", "missing").returncode == 1
    assert "stopped" in installation.flask("workers", "list").stdout
