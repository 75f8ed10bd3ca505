"""Tasks that run under the old and the new release. They write to a ledger, which no release reads."""

import os
import signal
import time
from pathlib import Path

from tasks import light, normal


def note(ledger: str, *words: str) -> None:
    """Append one line atomically."""
    with open(ledger, "ab", buffering=0) as file:
        file.write((" ".join(words) + "\n").encode())


def is_repaired(ledger: str) -> bool:
    return Path(f"{ledger}.repaired").exists()


@light.task()
def record(ledger: str, name: str) -> str:
    note(ledger, "end", name)
    return name


@light.task()
def record_paused(ledger: str, name: str) -> str:
    note(ledger, "end", name)
    return name


@normal.task()
def record_on_normal(ledger: str, name: str) -> str:
    note(ledger, "end", name)
    return name


@light.task(unique=True)
def record_once(ledger: str, name: str) -> str:
    note(ledger, "end", name)
    return name


@light.task()
def record_follower(ledger: str, first: str) -> str:
    note(ledger, "end", f"after-{first}")
    return first


@light.task()
def record_all(ledger: str, names: list[str]) -> list[str]:
    note(ledger, "end", "all-of-" + "-".join(sorted(names)))
    return sorted(names)


@light.task()
def hold(ledger: str, name: str) -> str:
    """Run until the ledger is repaired."""
    note(ledger, "start", name)
    while not is_repaired(ledger):
        time.sleep(0.05)
    note(ledger, "end", name)
    return name


@light.task()
def fail(ledger: str, name: str) -> None:
    note(ledger, "end", name)
    raise ValueError(f"{name} must fail")


@light.task(retries=50, retry_delay=2)
def fail_until_repaired(ledger: str, name: str) -> str:
    if not is_repaired(ledger):
        raise ValueError("must be repaired")
    note(ledger, "end", name)
    return name


@light.task()
def crash_until_repaired(ledger: str, name: str) -> str:
    if not is_repaired(ledger):
        os.kill(os.getpid(), signal.SIGKILL)
    note(ledger, "end", name)
    return name
