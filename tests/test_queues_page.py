"""The queues: what waits and why, the broker's health, pause, resume, purge."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from browsers import Browser
from budget import cost_of
from installation import Installation
from library import consumer_of, run

import tasks
from engine.broker.effects import Effects
from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.control.queues import pause
from engine.models import Run, RunCount, now
from engine.monitor import broker_health, queue_contents
from engine.queues.enqueue import asked_by
from engine.queues.queue import Queue
from models import AuditEntry


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def enqueue(count: int = 1, hours: int = 24) -> list[str]:
    with asked_by(Requester("operator", "ann@example.org")):
        return [tasks.get_cleanup_statistics(hours).id for _ in range(count)]


def row_of(html: str, name: str) -> str:
    return text_of(re.search(rf'<tr id="queue-{name}">.*?</tr>', html, re.DOTALL)[0])


def head_of(html: str) -> list[str]:
    return [text_of(row) for row in re.findall(r'<tr id="next-.*?</tr>', html, re.DOTALL)]


# --- what is shown -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
def test_each_queue_stands_with_what_waits_and_who_works(operator: Browser) -> None:
    enqueue(3)
    tasks.get_cleanup_statistics.schedule(delay=3600)
    html = operator.get("/queues").text
    assert re.fullmatch(r"heavy 0 – 0 0 0 0 of 2 busy Pause…", row_of(html, "heavy"))
    assert re.fullmatch(r"light 3 \d+ s 0 0 1 0 of 2 busy Pause…", row_of(html, "light"))
    assert 'class="notice"' not in html


def test_runs_that_came_and_went_are_averaged_over_the_last_minutes(either: Browser) -> None:
    for minutes_ago in (0, 1, 4, 6):
        run(enqueued_at=now() - timedelta(minutes=minutes_ago))
    this_minute = int(now().timestamp()) // 60 * 60
    for start, what, count in (
        (this_minute, "succeeded", 40),
        (this_minute - 60, "failed", 11),
        (this_minute, "ran", 51),
        (this_minute - 600, "succeeded", 99),
    ):
        RunCount.create(span=60, start=start, task="t", queue="light", what=what, bucket=0, count=count)
    flow = queue_contents.flows(tasks.queues, now())
    assert flow["light"] == (3 / 5, 51 / 5)
    assert flow["heavy"] == (0, 0)
    assert re.search(r"light 0 – 0\.6 10 0", row_of(either.get("/queues").text, "light"))


def test_a_queue_that_nobody_serves_is_named_with_what_waits(operator: Browser) -> None:
    consumer_of("heavy")
    consumer_of("normal", quiet_at=now())
    enqueue(2)
    notices = text_of("".join(re.findall(r'<p class="notice".*?</p>', operator.get("/queues").text, re.DOTALL)))
    assert "Nobody serves normal, light; 2 runs wait." in notices
    assert "heavy" not in notices


@pytest.mark.usefixtures("served")
def test_the_head_of_a_queue_tells_who_asked_and_why_it_waits(operator: Browser) -> None:
    consumer_of("light", worker_count=1)
    first, *_, last = enqueue(12, hours=7)
    html = operator.get("/queues/light").text
    rows = head_of(html)
    assert len(rows) == 10
    assert 'id="next-' + first in html and last not in html
    assert re.fullmatch(r"get_cleanup_statistics 7 ann@example\.org it starts now \d+ s", rows[0])
    assert re.fullmatch(r"get_cleanup_statistics 7 ann@example\.org 9 ahead \d+ s", rows[9])
    pause(tasks.light, task="get_cleanup_statistics", by=Requester("operator", "bob@example.org"), reason="too slow")
    html = operator.get("/queues/light").text
    assert "its task is paused" in head_of(html)[0]
    assert "Of get_cleanup_statistics nothing is started. too slow" in text_of(html)


def test_the_reason_that_holds_for_all_is_told_for_each(operator: Browser) -> None:
    enqueue()
    assert "nobody serves the queue" in head_of(operator.get("/queues/light").text)[0]
    running = {"worker": "Worker-1", "run_id": "an-id", "task": "process_book", "since": now().isoformat()}
    consumer_of("light", worker_count=1, running=[running])
    assert "all workers are busy" in head_of(operator.get("/queues/light").text)[0]
    pause(tasks.light, by=Requester("operator", "bob@example.org"))
    assert "the queue is paused" in head_of(operator.get("/queues/light").text)[0]


def test_what_cannot_be_read_or_run_is_told_before_it_is_taken(operator: Browser) -> None:
    forged = tasks.light.serialize_task(tasks.get_cleanup_statistics.s()).replace(b"get_cleanup", b"set_cleanup")
    other = Queue("light")

    @other.task()
    def unheard_of() -> None:
        """Of another version of the code."""

    tasks.light.storage.messages.write(Effects().enqueue("garbage", b"\x80garbage"))
    tasks.light.storage.messages.write(Effects().enqueue("forged", forged))
    tasks.light.storage.messages.write(Effects().enqueue("unknown", other.serialize_task(unheard_of.s())))
    told = text_of(operator.get("/queues/light").text)
    assert "unreadable – It cannot be read, and dies when it is taken. not a message of this program" in told
    assert "the signature is not ours" in told
    assert "unheard_of" in told and "no such task in this program" in told


@pytest.mark.parametrize("words", ["<script>alert(1)</script>", "{{7*7}}"])
def test_what_comes_from_a_queue_is_never_markup(operator: Browser, words: str) -> None:
    with asked_by(Requester("token", words)):
        tasks.light.enqueue(tasks.get_cleanup_statistics.s(words))
    pause(tasks.light, by=Requester("operator", words), reason=words)
    for url in ("/queues", "/queues/light"):
        html = operator.get(url).text
        assert "<script>alert" not in html
        assert "{{7*7}}" in html or "7*7" not in words


# --- the broker ----------------------------------------------------------------------------------------------


def test_the_embedded_broker_tells_its_file_and_how_safely_it_writes(operator: Browser) -> None:
    health = broker_health.health(tasks.light)
    assert isinstance(health, broker_health.SqliteHealth)
    assert (health.journal_mode, health.synchronous, health.path) == (
        "wal",
        "full",
        str(tasks.light.storage.database.path),
    )
    assert health.file_bytes > 0 and 0 < health.ping_ms < 10_000
    told = text_of(operator.get("/queues").text)
    assert f"SQLite {health.version}, embedded" in told
    assert "journal wal synchronous full" in told


def test_redis_tells_its_version_memory_clients_and_what_it_keeps(
    operator: Browser, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers = {name: RedisStorage(name, redis_url, 60) for name in tasks.queues}
    for name, queue in tasks.queues.items():
        monkeypatch.setattr(queue, "storage", brokers[name])
    health = broker_health.health(tasks.heavy)
    assert isinstance(health, broker_health.RedisHealth)
    assert (health.keeps_log, health.evicts, health.exposed) == (False, None, False)
    assert health.clients >= 1 and health.memory_bytes > 100_000 and 0 < health.ping_ms < 10_000
    html = operator.get("/queues").text
    assert f"{health.product.capitalize()} {health.version}" in text_of(html)
    assert "The broker keeps no append-only file: a restart loses accepted work." in html
    assert health.saved_at and re.search(r"last snapshot (now|\d+ (s|min|h) ago)", text_of(html))
    brokers["heavy"].redis.config_set("maxmemory", "1gb")
    brokers["heavy"].redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        html = operator.get("/queues").text
        assert "of 1 GB" in html
        assert "maxmemory-policy allkeys-lru" in html
    finally:
        brokers["heavy"].redis.config_set("maxmemory", "0")
        brokers["heavy"].redis.config_set("maxmemory-policy", "noeviction")
    for broker in brokers.values():
        broker.close()


@pytest.mark.parametrize(
    ("connection", "address", "exposed"),
    [
        ({"host": "redis.example.org", "port": 6380, "db": 2}, "redis.example.org:6380/2", True),
        ({"host": "redis.example.org", "password": "secret"}, "redis.example.org:6379/0", False),
        ({"host": "127.0.0.1"}, "127.0.0.1:6379/0", False),
        ({"path": "/run/redis.sock", "password": "secret"}, "/run/redis.sock", False),
    ],
)
def test_the_brokers_address_is_shown_without_its_password(
    connection: dict[str, object], address: str, exposed: bool
) -> None:
    assert broker_health.address_of(connection) == address
    assert broker_health.is_exposed(connection) == exposed


def test_without_its_broker_the_pages_say_so(tmp_path: Path) -> None:
    installed = Installation(tmp_path, REDIS_URL=f"unix://{tmp_path}/nobody.sock", SECRET_KEY="k" * 32)
    assert installed.flask("migrate").returncode == 0
    viewer = installed.bearer("viewer")
    with installed.web():
        answers = [installed.ask("GET", path, viewer) for path in ("/queues", "/queues/light", "/workers", "/dead")]
    assert [answer.status for answer in answers] == [200] * 4
    assert ["Broker away" in answer.text for answer in answers] == [True, True, False, True]


def test_a_paused_task_is_told_beside_its_queue(operator: Browser) -> None:
    pause(tasks.light, task="get_cleanup_statistics", by=Requester("operator", "ann@example.org"))
    html = operator.get("/queues").text
    assert row_of(html, "light").startswith("light get_cleanup_statistics is paused ")
    assert "is paused" not in row_of(html, "heavy")


# --- steering ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
def test_a_queue_is_paused_with_a_reason_and_resumed(operator: Browser) -> None:
    answer = operator.send("/queues/light/pause", reason="  deploy of 2.4.1 ")
    assert (answer.status_code, answer.location) == (303, "/queues/light")
    shown = text_of(operator.get("/queues/light").text)
    assert "deploy of 2.4.1" in shown and "operator@example.org" in shown
    assert "paused operator@example.org: deploy of 2.4.1" in row_of(operator.get("/queues").text, "light")
    assert operator.send("/queues/light/resume").status_code == 303
    assert tasks.light.pauses() == {}
    operator.send("/queues/light/resume")
    assert "was not paused" in operator.get("/queues/light").text
    lines = AuditEntry.select().where(AuditEntry.action.startswith("queues")).order_by(AuditEntry.id)
    assert [line.action for line in lines] == ["queues.pause", "queues.resume", "queues.resume"]


def test_a_pause_can_be_deleted_by_a_program(operator: Browser) -> None:
    pause(tasks.light, by=Requester("operator", "bob@example.org"))
    token = operator.form_token
    assert operator.delete("/queues/light/pause", headers={"X-CSRFToken": token}).status_code == 303
    assert tasks.light.pauses() == {}
    assert operator.delete("/queues/light/pause").status_code == 400


def test_purging_takes_the_queues_name_typed(signed_in: Callable[[str], Browser]) -> None:
    admin, waiting = signed_in("admin"), enqueue(2)
    asked = admin.get("/queues/light/purge").text
    assert "Purge light?" in asked and "<dd>2</dd>" in asked
    for word in ("", "heavy", "LIGHT"):
        refused = admin.send("/queues/light/purge", word=word)
        assert refused.status_code == 422
        assert "so nothing was done" in refused.text
    assert tasks.light.pending_count() == 2
    assert admin.send("/queues/light/purge", word="light ").status_code == 303
    assert "2 runs were cancelled." in admin.get("/queues/light").text
    assert {Run.get_by_id(run_id).state for run_id in waiting} == {"cancelled"}


def test_who_may_what_with_a_queue(signed_in: Callable[[str], Browser]) -> None:
    viewer, operator = signed_in("viewer"), signed_in("operator")
    assert viewer.send("/queues/light/pause").status_code == 403
    assert 'action="/queues/light/pause"' not in viewer.get("/queues/light").text
    assert operator.send("/queues/light/purge", word="light").status_code == 403
    assert operator.get("/queues/light/purge").status_code == 403
    assert "/queues/light/purge" not in operator.get("/queues/light").text
    for url in ("/queues/nowhere", "/queues/nowhere/purge"):
        assert signed_in("admin").get(url).status_code == 404
    assert signed_in("admin").send("/queues/nowhere/pause").status_code == 404


# --- cost ----------------------------------------------------------------------------------------------------


def test_the_pages_cost_the_same_however_much_waits(operator: Browser) -> None:
    consumer_of("light")
    enqueue(1)
    before = [cost_of(operator, url) for url in ("/queues", "/queues/light")]
    enqueue(40)
    for _ in range(12):
        consumer_of("light")
    assert [cost_of(operator, url) for url in ("/queues", "/queues/light")] == before


def test_a_page_on_which_nothing_has_changed_is_not_sent_again(operator: Browser) -> None:
    consumer_of("light", beat_at=now())
    enqueue(2)
    etag = operator.get("/queues/light").headers["ETag"]
    assert operator.get("/queues/light", headers={"If-None-Match": etag}).status_code == 304
