"""The program with additional tasks that wait for a file, for tests in a browser.

The web server is `gated_tasks:create_app()`. The consumer serves `gated_tasks.light` with this folder on its path.
"""

import logging
import time
from pathlib import Path

from app import create_app
from engine.queues.task import QueueTask
from tasks import light

__all__ = ["create_app", "light"]

logger = logging.getLogger(__name__)


@light.task(context=True)
def hold(gate: str, chapters: int = 3, task: QueueTask | None = None) -> str:
    """Run until a file of this name exists."""
    assert task is not None
    logger.info("Waiting at %s", Path(gate).name)
    task.progress(1, chapters, "chapters")
    while not Path(gate).exists():
        time.sleep(0.05)
    logger.warning("The gate is open")
    return f"read {chapters} chapters"


@light.task()
def need(gate: str) -> str:
    """Fail until a file of this name exists."""
    if not Path(gate).exists():
        raise FileNotFoundError(f"no {Path(gate).name}")
    return "found"
