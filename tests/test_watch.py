"""`flask watch` as it is run: two real processes, no worker anywhere, a receiver that goes away."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fork_server
import pytest
from consumers import ROOT
from databases import new_postgresql
from installation import Installation
from receivers import Hook, hook, mailbox
from waiting import wait_until


class Watching:
    def __init__(self, place: Installation, number: int) -> None:
        self.log = place.folder / f"watch{number}.log"
        with open(self.log, "ab") as log:
            self.process = fork_server.start(
                ["-m", "flask", "watch"], cwd=ROOT, env={**os.environ, **place.environment}, stdout=log, stderr=log
            )


@contextmanager
def watching(place: Installation, number: int = 1) -> Iterator[Watching]:
    running = Watching(place, number)
    try:
        wait_until(lambda: "Watching every" in running.log.read_text())
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def receiver() -> Iterator[Hook]:
    with hook() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, receiver: Hook) -> Installation:
    """No worker, and nobody wants one but for `light`."""
    made = Installation(
        tmp_path, WORKERS_HEAVY="0", WORKERS_NORMAL="0", ALERT_WEBHOOK_URL=receiver.url, ALERT_OLDEST_MINUTES="0.05"
    )
    assert made.flask("migrate").returncode == 0
    return made


def test_with_every_worker_dead_two_who_watch_alert_once_and_say_when_it_is_over(
    place: Installation, receiver: Hook
) -> None:
    assert place.flask("run-task", "get_cleanup_statistics").returncode == 0
    with watching(place, 1), watching(place, 2):
        wait_until(lambda: receiver.posts, within=40)
        with place.consumer("light"):
            wait_until(lambda: json.loads(place.flask("status", "--json").stdout)["queues"][2]["waiting"] == 0)
            # Those two wait a minute before they call it over; who looks once does not.
            assert place.flask("watch", "--once").returncode == 0
            wait_until(lambda: "resolved" in [post.json["event"] for post in receiver.posts])
    events = [(post.json["event"], post.json["rule"]) for post in receiver.posts]
    assert [one for one in events if one[1] == "oldest"] == [("fired", "oldest"), ("resolved", "oldest")]
    assert receiver.texts[0].startswith("The oldest run in light has waited for")
    assert len({post.json["id"] for post in receiver.posts}) == len(receiver.posts)


def test_once_is_for_cron_and_a_receiver_that_was_away_is_told_later(place: Installation, receiver: Hook) -> None:
    receiver.status = 503
    assert place.flask("watch", "--once").returncode == 0
    listed = place.flask("alerts", "list", "--json")
    found = json.loads(listed.stdout)
    states = {one["rule"]: one["state"] for one in found["rules"]}
    assert states["unserved"] == "firing"
    [notice] = found["notices"]
    assert (notice["state"], notice["error"]) == ("waiting", "the receiver answers 503")
    assert notice["text"] == "Nobody serves light."
    assert (listed.returncode, listed.stderr) == (1, "warning: nobody watches; start `flask watch`\n")
    receiver.status = 200
    with watching(place) as running:
        assert place.flask("alerts", "list").returncode == 0
        wait_until(lambda: len(receiver.posts) == 2, within=40)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
    table = place.flask("alerts", "list").stdout
    assert "Nobody serves light." in table and "sent" in table


def test_a_test_goes_by_every_channel_and_is_in_the_audit(place: Installation, receiver: Hook) -> None:
    with mailbox() as box:
        place.environment |= {"ALERT_EMAIL_TO": "ann@example.org", "SMTP_URL": f"smtp://127.0.0.1:{box.port}"}
        done = place.flask("alerts", "test")
        assert (done.returncode, done.stdout, done.stderr) == (0, "webhook: sent\nemail: sent\n", "")
        assert receiver.posts[0].json["event"] == "test"
        assert "This is a test" in box.mails[0].get_content()
        receiver.status = 500
        failed = place.flask("alerts", "test")
        assert failed.returncode == 1
        assert failed.stdout == "webhook: the receiver answers 500\nemail: sent\n"
        assert "hunter2" not in failed.stderr
    del place.environment["ALERT_EMAIL_TO"], place.environment["SMTP_URL"]
    refused = place.flask("alerts", "test", ALERT_WEBHOOK_URL="")
    assert refused.returncode == 1 and "neither ALERT_WEBHOOK_URL nor ALERT_EMAIL_TO" in refused.stderr


def test_while_the_database_is_away_two_who_watch_tell_it_once_and_note_it_afterwards(
    tmp_path: Path, postgresql_url: str, redis_url: str, receiver: Hook
) -> None:
    with new_postgresql(postgresql_url) as url:
        place = Installation(
            tmp_path, DATABASE_URL=url, REDIS_URL=redis_url, SECRET_KEY="k" * 32, ALERT_WEBHOOK_URL=receiver.url
        )
        # The tables are missing until somebody migrates.
        with watching(place, 1) as one, watching(place, 2) as other:
            for watch in (one, other):
                wait_until(lambda watch=watch: "The watch waits" in watch.log.read_text(), within=40)
            wait_until(lambda: receiver.posts, within=100)
            assert place.flask("migrate").returncode == 0
            wait_until(lambda: len(receiver.posts) == 2, within=40)
            for watch in (one, other):
                wait_until(lambda watch=watch: "The database is back" in watch.log.read_text(), within=40)
                assert watch.log.read_text().count("The watch waits") == 1
            listed = json.loads(place.flask("alerts", "list", "--json").stdout)
    assert [(post.json["event"], post.json["rule"]) for post in receiver.posts] == [
        ("fired", "database"),
        ("resolved", "database"),
    ]
    assert [(one["event"], one["state"]) for one in listed["notices"]] == [("resolved", "sent"), ("fired", "sent")]
