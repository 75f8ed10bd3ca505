"""The Queues page: waiting runs and the reason, the broker's health, pause, resume, purge."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from browsers import Browser
from budget import measure_cost
from consumers import KEY
from factories import create_consumer, create_run
from installation import Installation

import tasks
from engine.broker.effects import Effects
from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.control.queues import pause_queue
from engine.models import Run, RunCount, now
from engine.monitor import broker_health, queue_contents
from engine.queues.enqueue import requested_by
from engine.queues.queue import Queue
from models import AuditEntry


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def enqueue(count: int = 1, hours: int = 24) -> list[str]:
    with requested_by(Requester("operator", "ann@example.org")):
        return [tasks.get_cleanup_statistics(hours).id for _ in range(count)]


def queue_row(html: str, name: str) -> str:
    return plain_text(re.search(rf'<tr id="queue-{name}">.*?</tr>', html, re.DOTALL)[0])


def next_run_rows(html: str) -> list[str]:
    return [plain_text(row) for row in re.findall(r'<tr id="next-.*?</tr>', html, re.DOTALL)]


# --- content -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("live_consumers")
def test_queues_show_waiting_and_busy_workers(operator: Browser) -> None:
    enqueue(3)
    tasks.get_cleanup_statistics.schedule(delay=3600)
    html = operator.get("/queues").text
    assert re.fullmatch(r"heavy 0 – 0 0 0 0 of 2 busy Pause…", queue_row(html, "heavy"))
    assert re.fullmatch(r"light 3 \d+ s 0 0 1 0 of 2 busy Pause…", queue_row(html, "light"))
    assert 'class="notice"' not in html


def test_throughput_is_averaged_over_the_last_minutes(any_db_operator: Browser) -> None:
    for minutes_ago in (0, 1, 4, 6):
        create_run(enqueued_at=now() - timedelta(minutes=minutes_ago))
    this_minute = int(now().timestamp()) // 60 * 60
    for start, what, count in (
        (this_minute, "succeeded", 40),
        (this_minute - 60, "failed", 11),
        (this_minute, "ran", 51),
        (this_minute - 600, "succeeded", 99),
    ):
        RunCount.create(span=60, start=start, task="t", queue="light", what=what, bucket=0, count=count)
    flow = queue_contents.load_throughput(tasks.queues, now())
    assert flow["light"] == (3 / 5, 51 / 5)
    assert flow["heavy"] == (0, 0)
    assert re.search(r"light 0 – 0\.6 10 0", queue_row(any_db_operator.get("/queues").text, "light"))


def test_unserved_queue_is_named_with_its_waiting_runs(operator: Browser) -> None:
    create_consumer("heavy")
    create_consumer("normal", quiet_at=now())
    enqueue(2)
    notices = plain_text("".join(re.findall(r'<p class="notice".*?</p>', operator.get("/queues").text, re.DOTALL)))
    assert "No live worker for normal, light. 2 runs are waiting." in notices
    assert "heavy" not in notices


@pytest.mark.usefixtures("live_consumers")
def test_next_runs_show_requester_and_reason(operator: Browser) -> None:
    create_consumer("light", worker_count=1)
    first, *_, last = enqueue(12, hours=7)
    html = operator.get("/queues/light").text
    rows = next_run_rows(html)
    assert len(rows) == 10
    assert 'id="next-' + first in html and last not in html
    assert re.fullmatch(r"get_cleanup_statistics 7 ann@example\.org starts now \d+ s", rows[0])
    assert re.fullmatch(r"get_cleanup_statistics 7 ann@example\.org 9 ahead \d+ s", rows[9])
    pause_queue(
        tasks.light, task="get_cleanup_statistics", by=Requester("operator", "bob@example.org"), reason="too slow"
    )
    html = operator.get("/queues/light").text
    assert "task paused" in next_run_rows(html)[0]
    assert "No run of get_cleanup_statistics starts. too slow" in plain_text(html)


def test_shared_reason_is_shown_for_each_run(operator: Browser) -> None:
    enqueue()
    assert "no live worker" in next_run_rows(operator.get("/queues/light").text)[0]
    running = {"worker": "Worker-1", "run_id": "an-id", "task": "process_book", "since": now().isoformat()}
    create_consumer("light", worker_count=1, running=[running])
    assert "all workers are busy" in next_run_rows(operator.get("/queues/light").text)[0]
    pause_queue(tasks.light, by=Requester("operator", "bob@example.org"))
    assert "queue paused" in next_run_rows(operator.get("/queues/light").text)[0]


def test_unparseable_or_unknown_message_is_marked(operator: Browser) -> None:
    forged = tasks.light.serialize_task(tasks.get_cleanup_statistics.s()).replace(b"get_cleanup", b"set_cleanup")
    other = Queue("light")

    @other.task()
    def unheard_of() -> None:
        """A task of another version of the code."""

    tasks.light.storage.messages.write(Effects().enqueue("garbage", b"\x80garbage"))
    tasks.light.storage.messages.write(Effects().enqueue("forged", forged))
    tasks.light.storage.messages.write(Effects().enqueue("unknown", other.serialize_task(unheard_of.s())))
    text = plain_text(operator.get("/queues/light").text)
    unreadable = "unreadable – The message is unreadable. The run moves to the dead runs when a worker takes it."
    assert f"{unreadable} not a message of this program" in text
    assert "the signature does not match SECRET_KEY" in text
    assert "unheard_of" in text and "unknown task" in text


@pytest.mark.parametrize("words", ["<script>alert(1)</script>", "{{7*7}}"])
def test_queue_texts_are_escaped(operator: Browser, words: str) -> None:
    with requested_by(Requester("token", words)):
        tasks.light.enqueue(tasks.get_cleanup_statistics.s(words))
    pause_queue(tasks.light, by=Requester("operator", words), reason=words)
    for url in ("/queues", "/queues/light"):
        html = operator.get(url).text
        assert "<script>alert" not in html
        assert "{{7*7}}" in html or "7*7" not in words


# --- the broker ----------------------------------------------------------------------------------------------


def test_embedded_broker_shows_its_file_and_durability(operator: Browser) -> None:
    health = broker_health.check_health(tasks.light)
    assert isinstance(health, broker_health.SqliteHealth)
    assert (health.journal_mode, health.synchronous, health.path) == (
        "wal",
        "full",
        str(tasks.light.storage.database.path),
    )
    assert health.file_bytes > 0 and 0 < health.ping_ms < 10_000
    text = plain_text(operator.get("/queues").text)
    assert f"SQLite {health.version}, embedded" in text
    assert "journal wal synchronous full" in text


def test_redis_shows_version_memory_clients_and_settings(
    operator: Browser, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers = {name: RedisStorage(name, redis_url, 60) for name in tasks.queues}
    for name, queue in tasks.queues.items():
        monkeypatch.setattr(queue, "storage", brokers[name])
    health = broker_health.check_health(tasks.heavy)
    assert isinstance(health, broker_health.RedisHealth)
    assert (health.keeps_log, health.evicts, health.exposed) == (False, None, False)
    assert health.clients >= 1 and health.memory_bytes > 100_000 and 0 < health.ping_ms < 10_000
    html = operator.get("/queues").text
    assert f"{health.product.capitalize()} {health.version}" in plain_text(html)
    assert "The broker has no append-only file. A restart loses accepted runs." in html
    assert health.saved_at and re.search(r"last snapshot (now|\d+ (s|min|h) ago)", plain_text(html))
    brokers["heavy"].client.redis.config_set("maxmemory", "1gb")
    brokers["heavy"].client.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        html = operator.get("/queues").text
        assert "of 1 GB" in html
        assert "maxmemory-policy allkeys-lru" in html
    finally:
        brokers["heavy"].client.redis.config_set("maxmemory", "0")
        brokers["heavy"].client.redis.config_set("maxmemory-policy", "noeviction")
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
def test_broker_address_hides_the_password_and_detects_exposure(
    connection: dict[str, object], address: str, exposed: bool
) -> None:
    assert broker_health.client_address(connection) == address
    assert broker_health.is_exposed(connection) == exposed


def test_unavailable_broker_is_shown_on_its_pages(tmp_path: Path) -> None:
    installed = Installation(tmp_path, REDIS_URL=f"unix://{tmp_path}/missing.sock", SECRET_KEY=KEY)
    assert installed.flask("migrate").returncode == 0
    viewer = installed.bearer("viewer")
    with installed.web():
        answers = [installed.ask("GET", path, viewer) for path in ("/queues", "/queues/light", "/workers", "/dead")]
    assert [answer.status for answer in answers] == [200] * 4
    assert ["Broker unavailable" in answer.text for answer in answers] == [True, True, False, True]


def test_paused_task_is_shown_beside_its_queue(operator: Browser) -> None:
    pause_queue(tasks.light, task="get_cleanup_statistics", by=Requester("operator", "ann@example.org"))
    html = operator.get("/queues").text
    assert queue_row(html, "light").startswith("light get_cleanup_statistics is paused ")
    assert "is paused" not in queue_row(html, "heavy")


# --- commands ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("live_consumers")
def test_queue_is_paused_with_a_reason_and_resumed(operator: Browser) -> None:
    answer = operator.send("/queues/light/pause", reason="  deploy of 2.4.1 ")
    assert (answer.status_code, answer.location) == (303, "/queues/light")
    shown = plain_text(operator.get("/queues/light").text)
    assert "deploy of 2.4.1" in shown and "operator@example.org" in shown
    assert "paused operator@example.org: deploy of 2.4.1" in queue_row(operator.get("/queues").text, "light")
    assert operator.send("/queues/light/resume").status_code == 303
    assert tasks.light.pauses() == {}
    operator.send("/queues/light/resume")
    assert "was not paused" in operator.get("/queues/light").text
    lines = AuditEntry.select().where(AuditEntry.action.startswith("queues")).order_by(AuditEntry.id)
    assert [line.action for line in lines] == ["queues.pause", "queues.resume", "queues.resume"]


def test_pause_is_removed_by_delete(operator: Browser) -> None:
    pause_queue(tasks.light, by=Requester("operator", "bob@example.org"))
    token = operator.form_token
    assert operator.delete("/queues/light/pause", headers={"X-CSRFToken": token}).status_code == 303
    assert tasks.light.pauses() == {}
    assert operator.delete("/queues/light/pause").status_code == 400


def test_purge_requires_the_typed_queue_name(sign_in_as: Callable[[str], Browser]) -> None:
    admin, waiting = sign_in_as("admin"), enqueue(2)
    html = admin.get("/queues/light/purge").text
    assert "Purge queue light?" in html and "<dd>2</dd>" in html
    for word in ("", "heavy", "LIGHT"):
        refused = admin.send("/queues/light/purge", word=word)
        assert refused.status_code == 422
        assert "Nothing was changed" in refused.text
    assert tasks.light.pending_count() == 2
    assert admin.send("/queues/light/purge", word="light ").status_code == 303
    assert "2 runs cancelled." in admin.get("/queues/light").text
    assert {Run.get_by_id(run_id).state for run_id in waiting} == {"cancelled"}


def test_roles_limit_pause_and_purge(sign_in_as: Callable[[str], Browser]) -> None:
    viewer, operator = sign_in_as("viewer"), sign_in_as("operator")
    assert viewer.send("/queues/light/pause").status_code == 403
    assert 'action="/queues/light/pause"' not in viewer.get("/queues/light").text
    assert operator.send("/queues/light/purge", word="light").status_code == 403
    assert operator.get("/queues/light/purge").status_code == 403
    assert "/queues/light/purge" not in operator.get("/queues/light").text
    for url in ("/queues/nowhere", "/queues/nowhere/purge"):
        assert sign_in_as("admin").get(url).status_code == 404
    assert sign_in_as("admin").send("/queues/nowhere/pause").status_code == 404


# --- cost ----------------------------------------------------------------------------------------------------


def test_page_cost_does_not_grow_with_waiting_runs(operator: Browser) -> None:
    create_consumer("light")
    enqueue(1)
    before = [measure_cost(operator, url) for url in ("/queues", "/queues/light")]
    enqueue(40)
    for _ in range(12):
        create_consumer("light")
    assert [measure_cost(operator, url) for url in ("/queues", "/queues/light")] == before


def test_unchanged_page_returns_304(operator: Browser) -> None:
    create_consumer("light", beat_at=now())
    enqueue(2)
    etag = operator.get("/queues/light").headers["ETag"]
    assert operator.get("/queues/light", headers={"If-None-Match": etag}).status_code == 304
