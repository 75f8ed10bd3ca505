"""The program with a few tasks more, which wait for a file, so that a browser has something to watch.

The web server is `gated_tasks:create_app()`, the consumer serves `gated_tasks.light`, this folder being on their path.
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
    """Run until there is a file of this name."""
    assert task is not None
    logger.info("Waiting at %s", Path(gate).name)
    task.progress(1, chapters, "chapters")
    while not Path(gate).exists():
        time.sleep(0.05)
    logger.warning("The gate is open")
    return f"read {chapters} chapters"


@light.task()
def need(gate: str) -> str:
    """Fail for as long as there is no file of this name."""
    if not Path(gate).exists():
        raise FileNotFoundError(f"no {Path(gate).name}")
    return "found"
