"""The program with additional schedules of one minute, so that a browser test does not wait for longer ones.

The web server is `minutely_tasks:create_app()`. The consumer serves `minutely_tasks.light`. Both need this folder on
their path.
"""

from app import create_app
from engine.queues.crontab import crontab
from tasks import light

__all__ = ["create_app", "light"]


@light.periodic_task(crontab())
def beat() -> str:
    """Run each minute. Missed ticks are not caught up."""
    return "beat"


@light.periodic_task(crontab())
def beat_again() -> str:
    """Run each minute, as a second schedule."""
    return "beat"


@light.periodic_task(crontab())
def beat_held() -> str:
    """Run each minute, unless paused."""
    return "beat"
