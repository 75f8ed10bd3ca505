"""Dead runs: reason, number of deliveries, the stored message, re-queue and discard."""

import re
from collections.abc import Callable, Iterator

import pytest
from browsers import Browser
from budget import measure_cost
from factories import create_run

import tasks
from admin.pages.blueprint import ROWS_PER_PAGE
from engine.broker.deliveries import Delivery
from engine.broker.effects import Effects
from engine.broker.redis.storage import RedisStorage
from engine.history import writer
from engine.models import Run
from engine.monitor import dead_letters
from engine.queues.queue import Queue
from models import AuditEntry

CONSUMER, WORKER = "app-1:1:x", "Worker-1"


@pytest.fixture(autouse=True)
def no_dead_letters() -> None:
    """Clear the brokers' file, which all tests of this process share."""
    for queue in tasks.queues.values():
        queue.storage.database.execute("DELETE FROM message")


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def run_ids(html: str) -> list[str]:
    return re.findall(r'<tr id="run-([^"]+)">', html)


def create_dead_letter(
    run_id: str, data: bytes, reason: str = "not a message of this program", queue: Queue = tasks.light
) -> str:
    """Store a dead letter as a worker does after an unreadable message."""
    queue.storage.messages.write(Effects().enqueue(run_id, data))
    taken = queue.storage.deliveries.settle_and_claim(CONSUMER, WORKER, False, "{}").claimed
    assert taken and taken.run_id == run_id
    queue.storage.deliveries.dead_letter(CONSUMER, taken, reason)
    writer.flush_events(queue)
    return run_id


def create_killed_run(hours: int = 24) -> str:
    """Return a run that has killed its worker once too often."""
    run_id = str(tasks.get_cleanup_statistics(hours).id)
    assert isinstance(tasks.light.storage.deliveries.settle_and_claim(CONSUMER, WORKER, False, "{}").claimed, Delivery)
    tasks.light.storage.deliveries.release(CONSUMER, None, f"{WORKER} died (signal 9)", 1)
    writer.flush_events(tasks.light)
    return run_id


def forged_message(run_id: str) -> bytes:
    """Return a signed message under another id, so that its signature is invalid."""
    data = tasks.light.serialize_task(tasks.get_cleanup_statistics.s(7))
    return bytes(re.sub(rb" 1 \S+ ", b" 1 " + run_id.encode() + b" ", data, count=1))


# --- the list ------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_newest_first_with_their_reason(any_db_operator: Browser) -> None:
    assert "There are no dead runs." in any_db_operator.get("/dead").text
    killed, garbage = create_killed_run(), create_dead_letter("garbage", b"garbage")
    html = any_db_operator.get("/dead").text
    assert run_ids(html) == [garbage, killed]
    text = plain_text(html)
    assert "get_cleanup_statistics light · " in text
    assert "Worker-1 died (signal 9) 1" in text
    assert re.search("unknown task light · garbage (not a message of this program ){2}1 ", text)
    assert "2 in total" in text


def test_dead_letter_without_a_run_row_is_listed(operator: Browser) -> None:
    killed = create_killed_run()
    Run.delete().execute()
    assert run_ids(operator.get("/dead").text) == [killed]
    assert "not in the history" in operator.get(f"/dead/{killed}").text


@pytest.fixture(params=["sqlite", "redis"])
def brokers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Yield the queues on either broker."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        for name, queue in tasks.queues.items():
            monkeypatch.setattr(queue, "storage", RedisStorage(name, url, 60))
    yield
    if request.param == "redis":
        for queue in tasks.queues.values():
            queue.storage.close()


@pytest.mark.usefixtures("brokers")
def test_pages_neither_skip_nor_repeat_dead_letters_of_the_same_time(operator: Browser) -> None:
    expected = set()
    for name in ("light", "heavy"):
        queue = tasks.queues[name]
        for number in range(ROWS_PER_PAGE):
            expected.add(f"{name}-{number}")
            queue.storage.messages.write(Effects().enqueue(f"{name}-{number}", b"garbage"))
            queue.storage.deliveries.settle_and_claim(CONSUMER, f"Worker-{number}", False, "{}")
        queue.storage.deliveries.release(CONSUMER, None, "the consumer died", 1)
    ids, url = [], "/dead"
    while url:
        html = operator.get(url).text
        ids += run_ids(html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = older[1].replace("&amp;", "&") if older else ""
    assert len(ids) == len(expected) == 2 * ROWS_PER_PAGE
    assert set(ids) == expected
    assert dead_letters.count_dead(tasks.queues) == 2 * ROWS_PER_PAGE


def test_invalid_cursor_is_rejected(operator: Browser) -> None:
    assert operator.get("/dead?before=nonsense").status_code == 422
    assert operator.get("/dead?before=1.5_none").status_code == 200


def test_list_cost_does_not_grow_with_dead_letters(operator: Browser) -> None:
    create_killed_run()
    before = measure_cost(operator, "/dead")
    for number in range(ROWS_PER_PAGE):
        create_dead_letter(f"garbage-{number}", b"garbage")
    assert measure_cost(operator, "/dead") == before


# --- one message ---------------------------------------------------------------------------------------------


def test_signed_message_is_shown_by_its_parts(sign_in_as: Callable[[str], Browser]) -> None:
    killed = create_killed_run(hours=7)
    html = sign_in_as("viewer").get(f"/dead/{killed}").text
    text = plain_text(html)
    assert "No worker can run this message" not in html
    for words in (
        "arguments [7]",
        "cause Worker-1 died (signal 9)",
        "asked by code ",
        "task tasks.get_cleanup_statistics attempt 1",
        f"run id {killed}",
        "valid",
        f"2 run tasks.get_cleanup_statistics 1 {killed} ",
    ):
        assert words in text, words
    assert f'href="/runs/{killed}"' in html
    assert measure_cost(sign_in_as("viewer"), f"/dead/{killed}")


def test_message_with_a_foreign_signature_is_shown_as_unproven(operator: Browser) -> None:
    create_dead_letter("forged", forged_message("forged"), "the signature does not match SECRET_KEY")
    text = plain_text(operator.get("/dead/forged").text)
    assert (
        "No worker can run this message: the signature does not match SECRET_KEY. The fields below are not verified."
        in text
    )
    assert "Call not verified" in text and "arguments [7]" in text
    assert "invalid" in text


def test_message_of_a_removed_task_is_explained(operator: Browser) -> None:
    other = Queue("light")

    @other.task()
    def unheard_of(number: int) -> None:
        """A task of another version of the code."""

    create_dead_letter("unheard-of", other.serialize_task(unheard_of.s(4)), "unheard_of is not registered")
    text = plain_text(operator.get("/dead/unheard-of").text)
    assert "No worker can run this message: " in text and "unheard_of" in text
    assert "not verified" not in text and "arguments [4]" in text


def test_binary_message_is_shown_in_hexadecimal_and_downloadable(operator: Browser) -> None:
    data = b"\x80\x04\x95garbage \x00\xff pickled"
    create_dead_letter("garbage", data)
    html = operator.get("/dead/garbage").text
    assert "000000  80 04 95 67 61 72 62 61 67 65 20 00 ff 20 70 69  ...garbage .. pi" in html
    assert "000010  63 6b 6c 65 64" in html
    saved = operator.get("/dead/garbage/message")
    assert (saved.data, saved.headers["Content-Disposition"]) == (data, 'attachment; filename="message"')
    assert saved.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" " * 8,
        b"1 run",
        b"1 run a b c d e",
        b'1 run t 1 id sig {"message": 4}',
        b"<script>alert(1)</script>\x00\x07",
    ],
)
def test_any_message_can_be_shown(operator: Browser, data: bytes) -> None:
    create_dead_letter("strange", data)
    html = operator.get("/dead/strange").text
    assert "Raw message" in html
    assert "<script>alert" not in html


def test_long_message_is_truncated_on_its_page(operator: Browser) -> None:
    create_dead_letter("long", b"x" * 900_000)
    assert measure_cost(operator, "/dead/long")
    assert "The rest is not shown." in operator.get("/dead/long").text
    assert len(operator.get("/dead/long/message").data) == 900_000


def test_run_that_is_not_dead_has_no_dead_letter_page(sign_in_as: Callable[[str], Browser]) -> None:
    waiting = tasks.get_cleanup_statistics().id
    for path in (f"/dead/{waiting}", "/dead/missing", f"/dead/{waiting}/message", f"/dead/{waiting}/discard"):
        assert sign_in_as("admin").get(path).status_code == 404


# --- commands ------------------------------------------------------------------------------------------------


def test_dead_letter_is_requeued_from_the_list(operator: Browser) -> None:
    killed = create_killed_run()
    answer = operator.send(f"/dead/{killed}/requeue")
    assert (answer.status_code, answer.location) == (303, f"/runs/{killed}")
    assert Run.get_by_id(killed).state == "waiting"
    assert tasks.light.pending_count() == 1
    assert "There are no dead runs." in operator.get("/dead").text
    assert operator.send(f"/dead/{killed}/requeue").status_code == 409


def test_admin_discards_a_dead_letter_after_confirmation(sign_in_as: Callable[[str], Browser]) -> None:
    killed, admin = create_killed_run(), sign_in_as("admin")
    confirmation = admin.get(f"/dead/{killed}/discard").text
    assert "Discard this message?" in confirmation and "get_cleanup_statistics" in confirmation
    assert run_ids(admin.get("/dead").text) == [killed]
    assert admin.send(f"/dead/{killed}/discard").location == "/dead"
    assert f"Run {killed[:8]}… discarded." in (html := admin.get("/dead").text)
    assert run_ids(html) == []
    assert AuditEntry.get(AuditEntry.action == "dead.discard").target == killed
    record = Run.get_by_id(killed)
    assert record.state == "dead" and record.error.startswith("discarded by admin@example.org: ")
    assert "discarded by admin@example.org" in admin.get(f"/runs/{killed}").text


def test_roles_limit_requeue_and_discard(sign_in_as: Callable[[str], Browser]) -> None:
    killed, viewer, operator = create_killed_run(), sign_in_as("viewer"), sign_in_as("operator")
    assert viewer.send(f"/dead/{killed}/requeue").status_code == 403
    assert operator.send(f"/dead/{killed}/discard").status_code == 403
    assert "Re-queue</button>" not in viewer.get("/dead").text
    assert f"/dead/{killed}/discard" not in operator.get(f"/dead/{killed}").text
    create_run(state="dead")
    assert run_ids(viewer.get("/dead").text) == [killed]
