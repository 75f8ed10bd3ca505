"""Fill broker and database with the old release. Run by its Python in its folder: `fill.py <ledger> <email>`.

Prints one line of JSON after each step and waits for an empty line before the next.
"""

import json
import re
import sys
import time
from typing import Any

import upgrade_tasks as own
from engine.records import Run  # a module of the old release
from huey import chord

from app import create_app
from tasks import light

PASSWORD = "correct horse battery"


def main(ledger: str, email: str) -> None:
    app = create_app()

    def flask(*command: str, typed: str = "") -> None:
        ended = app.test_cli_runner().invoke(args=command, input=typed)
        assert ended.exit_code == 0, ended.output

    flask("migrate")
    flask("operator", "create", email, "--role", "admin", "--password-stdin", typed=PASSWORD)
    proceed({"cookie": sign_in(app, email)})
    served = enqueue_for_the_old_consumer(ledger)
    wait_for_states({"succeeded": 20, "failed": 1, "dead": 1, "retrying": 1, "running": 2})
    proceed(served)
    left = enqueue_unread(ledger)
    flask("cancel", left.pop("cancelled"))
    flask("pause", "normal", "--reason", "upgrade")
    flask("tasks", "pause", "record_paused", "--reason", "upgrade")
    flask("schedule", "pause", "close_abandoned_sessions", "--for", "4h")
    flask("audit", "verify")
    proceed(left)


def proceed(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)
    sys.stdin.readline()


def sign_in(app: Any, email: str) -> str:
    browser = app.test_client()
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/login").text)
    assert token
    answer = browser.post("/login", data={"csrf_token": token[1], "email": email, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return str(browser.get_cookie("dewey").value)


def enqueue_for_the_old_consumer(ledger: str) -> dict[str, Any]:
    done = [own.record(ledger, f"done-{number}").id for number in range(20)]
    once = {"failed": own.fail, "retrying": own.fail_until_repaired, "dead": own.crash_until_repaired}
    runs = {name: task(ledger, name).id for name, task in once.items()}
    wait_for_states({"succeeded": 20, "failed": 1, "dead": 1, "retrying": 1})
    return {"done": done, **runs, "held": [own.hold(ledger, f"held-{number}").id for number in range(2)]}


def enqueue_unread(ledger: str) -> dict[str, Any]:
    """Enqueue runs that the old release never starts. Their events are still in the broker."""
    pipeline = own.record.s(ledger, "pipeline").then(own.record_follower.s(ledger))
    members = [own.record.s(ledger, f"member-{number}") for number in range(2)]
    light.enqueue(pipeline)
    light.enqueue(chord(members, own.record_all.s(ledger)))
    return {
        "waiting": [own.record(ledger, f"waiting-{number}").id for number in range(20)],
        "scheduled": [own.record.schedule((ledger, f"scheduled-{number}"), delay=1).id for number in range(3)],
        "unique": own.record_once(ledger, "unique").id,
        "paused": own.record_paused(ledger, "paused").id,
        "on_normal": own.record_on_normal(ledger, "on-normal").id,
        "cancelled": own.record.schedule((ledger, "cancelled"), delay=3600).id,
    }


def wait_for_states(counts: dict[str, int]) -> None:
    """Wait until the history contains at least this many runs in each state."""
    give_up_at = time.monotonic() + 60
    while True:
        states = [state for (state,) in Run.select(Run.state).tuples()]
        if all(states.count(name) >= number for name, number in counts.items()):
            return
        assert time.monotonic() < give_up_at, states
        time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
