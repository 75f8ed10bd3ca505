"""What died: why and how often, the message that was kept of it, another chance or none."""

import re
from collections.abc import Callable, Iterator

import pytest
from browsers import Browser
from budget import cost_of
from library import run

import tasks
from admin.pages.blueprint import ROWS
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
def nobody_died_before() -> None:
    """The brokers' file is one for all tests of this process."""
    for queue in tasks.queues.values():
        queue.storage.database.execute("DELETE FROM message")


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def ids_of(html: str) -> list[str]:
    return re.findall(r'<tr id="run-([^"]+)">', html)


def bury(run_id: str, data: bytes, reason: str = "not a message of this program", queue: Queue = tasks.light) -> str:
    """As a worker does that cannot read what it has taken."""
    queue.storage.messages.write(Effects().enqueue(run_id, data))
    taken = queue.storage.deliveries.settle_and_claim(CONSUMER, WORKER, False, "{}").claimed
    assert taken and taken.run_id == run_id
    queue.storage.deliveries.dead_letter(CONSUMER, taken, reason)
    writer.write_down(queue)
    return run_id


def kill(hours: int = 24) -> str:
    """A run of ours that took its worker down once too often."""
    run_id = str(tasks.get_cleanup_statistics(hours).id)
    assert isinstance(tasks.light.storage.deliveries.settle_and_claim(CONSUMER, WORKER, False, "{}").claimed, Delivery)
    tasks.light.storage.deliveries.release(CONSUMER, None, f"{WORKER} died (signal 9)", 1)
    writer.write_down(tasks.light)
    return run_id


def letter_of(run_id: str) -> bytes:
    """A message of ours under another id, so that its signature does not hold."""
    data = tasks.light.serialize_task(tasks.get_cleanup_statistics.s(7))
    return bytes(re.sub(rb" 1 \S+ ", b" 1 " + run_id.encode() + b" ", data, count=1))


# --- the list ------------------------------------------------------------------------------------------------


def test_the_dead_stand_with_their_reason_newest_first(either: Browser) -> None:
    assert "Nothing is dead." in either.get("/dead").text
    killed, garbage = kill(), bury("garbage", b"garbage")
    html = either.get("/dead").text
    assert ids_of(html) == [garbage, killed]
    told = text_of(html)
    assert "get_cleanup_statistics light · " in told
    assert "Worker-1 died (signal 9) 1" in told
    assert re.search("unknown task light · garbage (not a message of this program ){2}1 ", told)
    assert "2 in all" in told


def test_one_that_the_history_has_forgotten_is_listed_too(operator: Browser) -> None:
    killed = kill()
    Run.delete().execute()
    assert ids_of(operator.get("/dead").text) == [killed]
    assert "not on record" in operator.get(f"/dead/{killed}").text


@pytest.fixture(params=["sqlite", "redis"])
def brokers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The queues on either broker."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        for name, queue in tasks.queues.items():
            monkeypatch.setattr(queue, "storage", RedisStorage(name, url, 60))
    yield
    if request.param == "redis":
        for queue in tasks.queues.values():
            queue.storage.close()


@pytest.mark.usefixtures("brokers")
def test_pages_neither_skip_nor_repeat_the_dead_of_one_instant(operator: Browser) -> None:
    wanted = set()
    for name in ("light", "heavy"):
        queue = tasks.queues[name]
        for number in range(ROWS):
            wanted.add(f"{name}-{number}")
            queue.storage.messages.write(Effects().enqueue(f"{name}-{number}", b"garbage"))
            queue.storage.deliveries.settle_and_claim(CONSUMER, f"Worker-{number}", False, "{}")
        queue.storage.deliveries.release(CONSUMER, None, "the consumer died", 1)
    found, url = [], "/dead"
    while url:
        html = operator.get(url).text
        found += ids_of(html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = older[1].replace("&amp;", "&") if older else ""
    assert len(found) == len(wanted) == 2 * ROWS
    assert set(found) == wanted
    assert dead_letters.count(tasks.queues) == 2 * ROWS


def test_a_place_that_is_none_is_refused(operator: Browser) -> None:
    assert operator.get("/dead?before=nonsense").status_code == 422
    assert operator.get("/dead?before=1.5_none").status_code == 200


def test_the_list_costs_the_same_however_many_died(operator: Browser) -> None:
    kill()
    before = cost_of(operator, "/dead")
    for number in range(ROWS):
        bury(f"garbage-{number}", b"garbage")
    assert cost_of(operator, "/dead") == before


# --- one message ---------------------------------------------------------------------------------------------


def test_a_message_of_ours_is_shown_in_its_parts(signed_in: Callable[[str], Browser]) -> None:
    killed = kill(hours=7)
    html = signed_in("viewer").get(f"/dead/{killed}").text
    told = text_of(html)
    assert "No worker can run it" not in html
    for words in (
        "arguments [7]",
        "why Worker-1 died (signal 9)",
        "asked by code ",
        "task tasks.get_cleanup_statistics attempt 1",
        f"run id {killed}",
        "ours",
        f"1 run tasks.get_cleanup_statistics 1 {killed} ",
    ):
        assert words in told, words
    assert f'href="/runs/{killed}"' in html
    assert cost_of(signed_in("viewer"), f"/dead/{killed}")


def test_one_that_is_not_signed_by_us_is_shown_and_marked(operator: Browser) -> None:
    bury("forged", letter_of("forged"), "the signature is not ours")
    told = text_of(operator.get("/dead/forged").text)
    assert "No worker can run it: the signature is not ours. What it says about itself below is not proven." in told
    assert "Call not proven" in told and "arguments [7]" in told
    assert "not ours" in told


def test_one_of_a_task_that_is_gone_says_so(operator: Browser) -> None:
    other = Queue("light")

    @other.task()
    def unheard_of(number: int) -> None:
        """Of another version of the code."""

    bury("unheard-of", other.serialize_task(unheard_of.s(4)), "unheard_of is not registered")
    told = text_of(operator.get("/dead/unheard-of").text)
    assert "No worker can run it: " in told and "unheard_of" in told
    assert "not proven" not in told and "arguments [4]" in told


def test_bytes_that_are_no_text_are_shown_in_hexadecimal_and_can_be_saved(operator: Browser) -> None:
    data = b"\x80\x04\x95garbage \x00\xff pickled"
    bury("garbage", data)
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
def test_no_message_is_too_strange_to_be_shown(operator: Browser, data: bytes) -> None:
    bury("strange", data)
    html = operator.get("/dead/strange").text
    assert "As it lies in the broker" in html
    assert "<script>alert" not in html


def test_of_a_long_message_the_page_shows_the_beginning(operator: Browser) -> None:
    bury("long", b"x" * 900_000)
    assert cost_of(operator, "/dead/long")
    assert "The rest is left out here." in operator.get("/dead/long").text
    assert len(operator.get("/dead/long/message").data) == 900_000


def test_what_is_not_dead_has_no_page(signed_in: Callable[[str], Browser]) -> None:
    waiting = tasks.get_cleanup_statistics().id
    for path in (f"/dead/{waiting}", "/dead/nobody", f"/dead/{waiting}/message", f"/dead/{waiting}/discard"):
        assert signed_in("admin").get(path).status_code == 404


# --- what becomes of it --------------------------------------------------------------------------------------


def test_the_dead_are_requeued_from_the_list(operator: Browser) -> None:
    killed = kill()
    answer = operator.send(f"/dead/{killed}/requeue")
    assert (answer.status_code, answer.location) == (303, f"/runs/{killed}")
    assert Run.get_by_id(killed).state == "waiting"
    assert tasks.light.pending_count() == 1
    assert "Nothing is dead." in operator.get("/dead").text
    assert operator.send(f"/dead/{killed}/requeue").status_code == 409


def test_a_message_is_discarded_once_an_admin_has_confirmed_it(signed_in: Callable[[str], Browser]) -> None:
    killed, admin = kill(), signed_in("admin")
    asked = admin.get(f"/dead/{killed}/discard").text
    assert "Discard this message?" in asked and "get_cleanup_statistics" in asked
    assert ids_of(admin.get("/dead").text) == [killed]
    assert admin.send(f"/dead/{killed}/discard").location == "/dead"
    assert "It is discarded." in (html := admin.get("/dead").text)
    assert ids_of(html) == []
    assert AuditEntry.get(AuditEntry.action == "dead.discard").target == killed
    record = Run.get_by_id(killed)
    assert record.state == "dead" and record.error.startswith("discarded by admin@example.org: ")
    assert "discarded by admin@example.org" in admin.get(f"/runs/{killed}").text


def test_who_may_what_with_the_dead(signed_in: Callable[[str], Browser]) -> None:
    killed, viewer, operator = kill(), signed_in("viewer"), signed_in("operator")
    assert viewer.send(f"/dead/{killed}/requeue").status_code == 403
    assert operator.send(f"/dead/{killed}/discard").status_code == 403
    assert "Re-queue</button>" not in viewer.get("/dead").text
    assert f"/dead/{killed}/discard" not in operator.get(f"/dead/{killed}").text
    run(state="dead")
    assert ids_of(viewer.get("/dead").text) == [killed]
