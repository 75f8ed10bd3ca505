"""Who works: the list of consumers, the page of one, and the orders given from it."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from browsers import Browser
from budget import cost_of
from databases import bound_to
from installation import Installation
from library import consumer_of
from waiting import wait_until

import tasks
from admin.pages.queues.workers import threads
from engine.models import WorkerProcess, now
from engine.monitor import consumers
from engine.monitor import consumers as consumer_status
from engine.queues import remote_control
from engine.queues.remote_control import Stack, What
from engine.worker import stack_dump
from models import AuditEntry

LATE, LOST = timedelta(seconds=15), timedelta(minutes=2)


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def told_of(html: str, consumer: WorkerProcess) -> str:
    found = re.search(rf'<(tbody|tr) id="worker-{re.escape(consumer.id)}">.*?</\1>', html, re.DOTALL)
    return text_of(found[0]) if found else ""


def job(task: str, number: int = 1, seconds_ago: int = 12) -> dict[str, str]:
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


def test_each_consumer_stands_with_what_its_workers_do_and_use(either: Browser) -> None:
    at = now()
    busy = consumer_of(
        "heavy", worker_count=3, rss_bytes=190 << 20, cpu_percent=104.4, processed=1204, failed=3, pid=4000,
        started_at=at - timedelta(hours=3), running=[job("process_book", 2)],
        slots=[slot(1), slot(2, 71, 99.6), slot(3)],
    )  # fmt: skip
    quiet = consumer_of("light", quiet_at=at)
    late = consumer_of("normal", beat_at=at - LATE)
    html = either.get("/workers").text
    told = told_of(html, busy)
    assert told.startswith("heavy app-1 · 4000 live 190 MB 104 % 1,204 3 failed 3 h")
    assert re.search(r"process_book Worker-2 \d\d s 71 MB 100 %", told)
    assert told.endswith("2 workers idle")
    assert 'href="/runs/process_book-id"' in html
    assert "quiet" in told_of(html, quiet)
    assert re.search(r"late heard of \d\d s ago", told_of(html, late))


def test_who_is_lost_stays_in_sight_until_another_takes_its_place(operator: Browser) -> None:
    at = now()
    started = at - timedelta(hours=1)
    lost = consumer_of("light", started_at=started, beat_at=at - LOST, running=[job("nap")], rss_bytes=9 << 20)
    html = operator.get("/workers").text
    assert told_of(html, lost).startswith(f"light app-1 · {lost.pid} lost heard of 2 min ago – –")
    assert "Gone" not in html
    elsewhere = consumer_of("light", host="app-2", started_at=at - LOST)
    older = consumer_of("light", started_at=started - timedelta(hours=1))
    assert consumer_status.replacements([lost, elsewhere, older], at) == {}
    heir = consumer_of("light", started_at=at - LOST)
    html = operator.get("/workers").text
    assert told_of(html, lost).startswith(f"light app-1 · {lost.pid} died another took its place")
    assert html.index("Gone") < html.index(f'id="worker-{lost.id}"')
    assert f'href="/workers/{heir.id}"' in operator.get(f"/workers/{lost.id}").text


def test_each_newcomer_takes_the_place_of_one_and_of_the_dead_first() -> None:
    def one(name: str, started: int, heard: int, stopped: bool = False) -> WorkerProcess:
        at = [now() - timedelta(minutes=minutes) for minutes in (started, heard)]
        gone = at[1] if stopped else None
        return WorkerProcess(id=name, host="h", queue="q", started_at=at[0], beat_at=at[1], stopped_at=gone)

    stopped, first, second = one("stopped", 60, 30, stopped=True), one("first", 60, 20), one("second", 60, 10)
    found = consumer_status.replacements([stopped, second, first, one("new", 9, 0)], now())
    assert {gone: heir.id for gone, heir in found.items()} == {"first": "new"}
    found = consumer_status.replacements(
        [stopped, second, first, one("a", 19, 0), one("b", 9, 0), one("c", 8, 0)], now()
    )
    assert {gone: heir.id for gone, heir in found.items()} == {"first": "a", "second": "b", "stopped": "c"}


def test_who_stopped_is_listed_as_gone(operator: Browser) -> None:
    stopped = consumer_of("light", stopped_at=now(), processed=41)
    html = operator.get("/workers").text
    assert "No consumer is alive" in html
    for command in ("make run", *(f"huey_consumer tasks.{queue} -k process -w " for queue in tasks.queues)):
        assert f"<code>{command}" in html
    assert told_of(html, stopped).startswith(f"light app-1 · {stopped.pid} stopped 41")


def test_different_code_is_pointed_out(operator: Browser) -> None:
    consumer_of("light", code_version="2.4.0")
    consumer_of("heavy", code_version="2.4.0", beat_at=now() - LOST)
    assert "different versions" not in operator.get("/workers").text
    consumer_of("heavy", code_version="2.4.1")
    assert "different versions of the code: 2.4.0, 2.4.1" in operator.get("/workers").text


def test_a_consumer_of_a_queue_that_is_no_more_is_listed_too(operator: Browser) -> None:
    forgotten = consumer_of("images")
    assert told_of(operator.get("/workers").text, forgotten).startswith("images")
    assert operator.get(f"/workers/{forgotten.id}").status_code == 200


def test_the_list_costs_the_same_for_many_consumers(operator: Browser) -> None:
    consumer_of("light", running=[job("nap")])
    before = cost_of(operator, "/workers")
    for queue in tasks.queues:
        for _ in range(40):
            consumer_of(queue, worker_count=64, running=[job("nap", number) for number in range(1, 9)])
    assert cost_of(operator, "/workers") == before
    shown, url = set(), "/workers"
    while url:
        html = operator.get(url).text
        shown |= set(re.findall(r'<tbody id="worker-([^"]+)">', html))
        further = re.search(r'href="([^"]+)" rel="next"', html)
        url = further[1] if further else ""
    assert len(shown) == 121
    assert "more run something" in html


# --- one consumer --------------------------------------------------------------------------------------------


def test_the_page_of_a_consumer_holds_its_whole_record(signed_in: Callable[[str], Browser]) -> None:
    one = consumer_of(
        "light", pid=4711, code_version="2.4.1-4fc424b", running=[job("nap", 1)], slots=[slot(1, 71, 99.6), slot(2)],
        processed=1204, failed=3, rss_bytes=190 << 20, cpu_percent=5,
    )  # fmt: skip
    viewer = signed_in("viewer")
    assert cost_of(viewer, f"/workers/{one.id}")
    told = text_of(viewer.get(f"/workers/{one.id}").text)
    for words in (
        "Worker-1 4001 nap nap-id",
        "71 MB 100 % Worker-2",
        "Worker-2 4002 idle – 38 MB 2 %",
        "runs 1,204 3 failed memory 190 MB CPU 5 % of one core code 2.4.1-4fc424b",
        "clock looked at",
        f"id {one.id}",
        "An admin can quiet, restart and stop it.",
    ):
        assert words in told
    assert viewer.get("/workers/nobody").status_code == 404


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"beat_at": LATE}, "Not heard of since"),
        ({"beat_at": LOST}, "What it held goes back to its queue"),
        ({"stopped_at": LATE}, "stopped"),
    ],
)
def test_what_is_gone_takes_no_orders(
    signed_in: Callable[[str], Browser], values: dict[str, timedelta], words: str
) -> None:
    one = consumer_of("light", **{name: now() - ago for name, ago in values.items()})
    admin = signed_in("admin")
    assert words in text_of(admin.get(f"/workers/{one.id}").text)
    is_late = values == {"beat_at": LATE}
    assert admin.send(f"/workers/{one.id}/quiet").status_code == (303 if is_late else 409)
    assert len(remote_control.pending(tasks.light, one.id)) == is_late


# --- orders --------------------------------------------------------------------------------------------------


def test_an_admin_gives_orders_each_with_its_line_in_the_audit(signed_in: Callable[[str], Browser]) -> None:
    one, admin = consumer_of("light"), signed_in("admin")
    for what in ("quiet", "wake", "restart", "stop"):
        answer = admin.send(f"/workers/{one.id}/{what}")
        assert (answer.status_code, answer.location) == (303, f"/workers/{one.id}")
    given = [(order.what, order.by) for order in remote_control.take_commands(tasks.light, one.id)]
    assert given == [(what, "admin@example.org") for what in (What.QUIET, What.WAKE, What.STOP, What.RESTART)]
    assert remote_control.pending(tasks.light, one.id) == []
    lines = AuditEntry.select().where(AuditEntry.action.startswith("workers")).order_by(AuditEntry.id)
    assert [(line.action, line.target) for line in lines] == [
        (f"workers.{what}", one.id) for what in ("quiet", "wake", "restart", "stop")
    ]


def test_what_a_consumer_has_not_taken_yet_is_shown(signed_in: Callable[[str], Browser]) -> None:
    one, admin = consumer_of("light"), signed_in("admin")
    admin.send(f"/workers/{one.id}/stop")
    assert "It was ordered to stop , and has not looked since." in text_of(admin.get(f"/workers/{one.id}").text)


def test_stopping_and_restarting_are_asked_about_once_more(signed_in: Callable[[str], Browser]) -> None:
    one, admin = consumer_of("light", running=[job("nap"), job("nap", 2)]), signed_in("admin")
    asked = admin.get(f"/workers/{one.id}/stop").text
    assert "Stop this consumer?" in asked and consumers.worker_name(one) in asked
    assert "It runs 2 tasks" in asked
    assert "Nobody else serves light: what comes in will wait." in asked
    consumer_of("light")
    assert "Nobody else" not in admin.get(f"/workers/{one.id}/stop").text
    assert "Restart this consumer?" in admin.get(f"/workers/{one.id}/restart").text
    assert remote_control.pending(tasks.light, one.id) == []


def test_only_an_admin_gives_orders(signed_in: Callable[[str], Browser]) -> None:
    one, operator = consumer_of("light"), signed_in("operator")
    for what in ("quiet", "wake", "restart", "stop", "dump"):
        assert operator.send(f"/workers/{one.id}/{what}").status_code == 403
    assert 'method="post" action="/workers' not in operator.get(f"/workers/{one.id}").text
    assert signed_in("admin").send("/workers/nobody/quiet").status_code == 409


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


def test_a_stack_begins_with_the_tasks_own_code() -> None:
    main, other = threads(FRAMES.replace("{root}", str(Path(__file__).parent.parent)))
    assert [frame.place for frame in main.inner] == [
        "reading/books.py:88, in open_epub",
        "/usr/lib/python3.11/zipfile.py:1300, in __init__",
    ]
    assert [frame.own for frame in main.inner] == [True, False]
    assert len(main.outer) == 2
    assert (len(other.inner), other.outer) == (1, [])
    assert threads("") == []


def test_the_answer_of_the_workers_is_shown(signed_in: Callable[[str], Browser]) -> None:
    one = consumer_of("light")
    text = FRAMES.replace("{root}", str(Path(__file__).parent.parent))
    found = [Stack("Worker-1", 4001, "a-run", "process_book", text), Stack("Worker-2", 4002, None, None, "")]
    remote_control.publish_dump(tasks.light, one.id, found)
    told = text_of(signed_in("viewer").get(f"/workers/{one.id}").text)
    assert "Worker-1 · 4001 · process_book" in told and "with ZipFile(path) as book:" in told
    assert "Worker-2 · 4002 · idle It did not answer" in told


def test_whoever_waits_in_vain_for_an_answer_is_told(
    signed_in: Callable[[str], Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin.pages.queues.worker_actions.DUMP_SECONDS", 0.1)
    one, admin = consumer_of("light"), signed_in("admin")
    answer = admin.send(f"/workers/{one.id}/dump")
    assert answer.location == f"/workers/{one.id}#stacks"
    assert "It has not answered yet" in admin.get(f"/workers/{one.id}").text


def test_a_frame_without_its_source_is_told_all_the_same() -> None:
    assert stack_dump.format_stack('Thread 0x1 (most recent call first):\n  File "<string>", line 3 in f\n  ...\n') == (
        'Traceback (most recent call last):\n  ...\n  File "<string>", line 3, in f'
    )


# --- the terminal --------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    url = f"sqlite:///{tmp_path}/dewey.db"
    made = Installation(tmp_path, DATABASE_URL=url)
    assert made.flask("migrate").returncode == 0
    with bound_to(url):
        yield made


def test_the_terminal_lists_and_steers_them_too(place: Installation) -> None:
    with place.consumer("light") as consumer:
        row = wait_until(lambda: WorkerProcess.get_or_none(pid=consumer.pid))
        name = consumers.worker_name(row)
        listed = place.flask("workers", "list")
        assert re.search(rf"{name} +live +2 ", listed.stdout), listed
        assert f'"id": "{row.id}"' in place.flask("workers", "list", "--json").stdout
        assert re.search(r"light +0 +– .* 2 +0 +–", place.flask("queues", "list").stdout)
        assert '"journal_mode": "wal"' in place.flask("queues", "broker", "--json").stdout
        dumped = place.flask("workers", "dump", name)
        assert "Worker-2" in dumped.stdout and "in wait_for_work" in dumped.stdout, dumped
        assert place.flask("workers", "quiet", row.id).stdout == "It takes nothing new.\n"
        wait_until(lambda: WorkerProcess.get_by_id(row.id).quiet_at)
        assert place.flask("workers", "stop", name, typed="n\n").returncode == 1
        assert place.flask("workers", "stop", name, "--yes").returncode == 0
        assert consumer.process.wait(30) == 0
    gone = place.flask("workers", "wake", row.id)
    assert (gone.returncode, gone.stderr) == (1, "dewey: This consumer is stopped; it takes no orders.\n")
    assert place.flask("workers", "wake", "nobody").returncode == 1
    assert "stopped" in place.flask("workers", "list").stdout
