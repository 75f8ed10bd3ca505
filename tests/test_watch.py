"""`flask watch` as users run it: two real processes, no worker, a receiver that becomes unavailable."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fork_server
import pytest
from consumers import KEY, ROOT
from databases import create_postgresql
from installation import Installation
from receivers import WebhookReceiver, run_mailbox, run_webhook_receiver
from waiting import wait_until


class WatchProcess:
    def __init__(self, installation: Installation, number: int) -> None:
        self.log = installation.folder / f"watch{number}.log"
        with open(self.log, "ab") as log:
            self.process = fork_server.start(
                ["-m", "flask", "watch"],
                cwd=ROOT,
                env={**os.environ, **installation.environment},
                stdout=log,
                stderr=log,
            )


@contextmanager
def run_watch(installation: Installation, number: int = 1) -> Iterator[WatchProcess]:
    running = WatchProcess(installation, number)
    try:
        wait_until(lambda: "Checking the alert rules" in running.log.read_text())
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with run_webhook_receiver() as made:
        yield made


@pytest.fixture
def installation(tmp_path: Path, receiver: WebhookReceiver) -> Installation:
    """Return an installation without workers. Only `light` needs one."""
    made = Installation(
        tmp_path, WORKERS_HEAVY="0", WORKERS_NORMAL="0", ALERT_WEBHOOK_URL=receiver.url, ALERT_OLDEST_MINUTES="0.05"
    )
    assert made.flask("migrate").returncode == 0
    return made


def test_two_watchers_alert_once_about_dead_workers_and_resolve(
    installation: Installation, receiver: WebhookReceiver
) -> None:
    assert installation.flask("run-task", "get_cleanup_statistics").returncode == 0
    with run_watch(installation, 1), run_watch(installation, 2):
        wait_until(lambda: receiver.posts, within=40)
        with installation.consumer("light"):
            wait_until(lambda: json.loads(installation.flask("status", "--json").stdout)["queues"][2]["waiting"] == 0)
            # Both wait a minute before they resolve an alert, unlike a single check.
            assert installation.flask("watch", "--once").returncode == 0
            wait_until(lambda: "resolved" in [post.json["event"] for post in receiver.posts])
    events = [(post.json["event"], post.json["rule"]) for post in receiver.posts]
    assert [event for event in events if event[1] == "oldest"] == [("fired", "oldest"), ("resolved", "oldest")]
    assert receiver.texts[0].startswith("The oldest run in queue light has waited for")
    assert len({post.json["id"] for post in receiver.posts}) == len(receiver.posts)


def test_watch_once_runs_and_an_unavailable_receiver_is_notified_later(
    installation: Installation, receiver: WebhookReceiver
) -> None:
    receiver.status = 503
    assert installation.flask("watch", "--once").returncode == 0
    listed = installation.flask("alerts", "list", "--json")
    data = json.loads(listed.stdout)
    states = {rule["rule"]: rule["state"] for rule in data["rules"]}
    assert states["unserved"] == "firing"
    [notice] = data["notices"]
    assert (notice["state"], notice["error"]) == ("waiting", "the receiver returned 503")
    assert notice["text"] == "Queue light has no live worker."
    assert (listed.returncode, listed.stderr) == (
        1,
        "warning: no alert watcher is running. Start one with `dewey watch`.\n",
    )
    receiver.status = 200
    with run_watch(installation) as running:
        assert installation.flask("alerts", "list").returncode == 0
        wait_until(lambda: len(receiver.posts) == 2, within=40)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
    table = installation.flask("alerts", "list").stdout
    assert "Queue light has no live worker." in table and "sent" in table


def test_test_notice_uses_every_channel_and_is_audited(installation: Installation, receiver: WebhookReceiver) -> None:
    with run_mailbox() as box:
        installation.environment |= {"ALERT_EMAIL_TO": "ann@example.org", "SMTP_URL": f"smtp://127.0.0.1:{box.port}"}
        done = installation.flask("alerts", "test")
        assert (done.returncode, done.stdout, done.stderr) == (0, "webhook: sent\nemail: sent\n", "")
        assert receiver.posts[0].json["event"] == "test"
        assert "Test: this channel" in box.mails[0].get_content()
        receiver.status = 500
        failed = installation.flask("alerts", "test")
        assert failed.returncode == 1
        assert failed.stdout == "webhook: the receiver returned 500\nemail: sent\n"
        assert "hunter2" not in failed.stderr
    del installation.environment["ALERT_EMAIL_TO"], installation.environment["SMTP_URL"]
    refused = installation.flask("alerts", "test", ALERT_WEBHOOK_URL="")
    assert refused.returncode == 1 and "Set ALERT_WEBHOOK_URL or ALERT_EMAIL_TO" in refused.stderr


def test_two_watchers_report_a_database_outage_once(
    tmp_path: Path, postgresql_url: str, redis_url: str, receiver: WebhookReceiver
) -> None:
    with create_postgresql(postgresql_url) as url:
        installation = Installation(
            tmp_path, DATABASE_URL=url, REDIS_URL=redis_url, SECRET_KEY=KEY, ALERT_WEBHOOK_URL=receiver.url
        )
        # The tables are missing until the migration.
        with run_watch(installation, 1) as first, run_watch(installation, 2) as other:
            for watch in (first, other):
                wait_until(lambda watch=watch: "The alert watcher is waiting" in watch.log.read_text(), within=40)
            wait_until(lambda: receiver.posts, within=100)
            assert installation.flask("migrate").returncode == 0
            wait_until(lambda: len(receiver.posts) == 2, within=40)
            for watch in (first, other):
                wait_until(lambda watch=watch: "The database is available again" in watch.log.read_text(), within=40)
                assert watch.log.read_text().count("The alert watcher is waiting") == 1
            listed = json.loads(installation.flask("alerts", "list", "--json").stdout)
    assert [(post.json["event"], post.json["rule"]) for post in receiver.posts] == [
        ("fired", "database"),
        ("resolved", "database"),
    ]
    assert [(first["event"], first["state"]) for first in listed["notices"]] == [
        ("resolved", "sent"),
        ("fired", "sent"),
    ]
