"""Tasks with secret arguments, and what they received. A consumer serves them with `huey_consumer secret_tasks.vault`.

Every secret contains `mk7`, which nothing else does.
"""

import json
import logging
from pathlib import Path
from typing import Any

from engine.queues.task import QueueTask
from engine.worker.served_queue import ServedQueue

vault = ServedQueue("vault")
logger = logging.getLogger(__name__)

PASSWORD = "mk7 \"quoted\" 'päss'\nword"
SHELF = "mk7shelf-8841"
OPTIONS = {"apiKey": "mk7key-5521", "hosts": [{"dsn": "postgresql://ann:mk7%40dsn@db/x", "port": 5432}], "tries": 3}
MARKS = ("mk7", "quoted", "904417")


@vault.task(secrets=("shelf",), context=True)
def open_box(
    ledger: str,
    password: str,
    shelf: str = "",
    options: dict[str, Any] | None = None,
    pin: int = 0,
    fails: bool = False,
    task: QueueTask | None = None,
) -> dict[str, Any]:
    """Write the arguments into the ledger and repeat them in every way that a task can."""
    assert task is not None
    with open(ledger, "a") as file:
        file.write(json.dumps([password, shelf, options, pin]) + "\n")
    logger.info("Opening %s with %s, %r, %d", shelf, password, options, pin)
    task.progress(1, 2, f"at {shelf}")
    if fails:
        try:
            raise KeyError(password)
        except KeyError as error:
            raise ValueError(f"{password!r} is wrong for {shelf}: {json.dumps(options)}, {pin}") from error
    return {"tried": [password, {shelf: pin}], "hosts": (options or {}).get("hosts")}


@vault.task()
def receive(ledger: str, value: Any = None, **more: Any) -> None:
    """Write the values into the ledger."""
    with open(ledger, "a") as file:
        file.write(json.dumps({"value": value, **more}) + "\n")


def read_ledger(ledger: Path) -> list[Any]:
    return [json.loads(line) for line in ledger.read_text().splitlines()]


@vault.task()
def shout(text: str) -> None:
    """Log the text, and fail with it."""
    logger.warning("Shouting %s", text)
    try:
        raise KeyError(text)
    except KeyError as error:
        error.add_note(text)
        raise ValueError(text) from error
