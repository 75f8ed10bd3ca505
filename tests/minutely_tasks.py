"""The program with a few tasks more that the clock starts each minute, so that a browser need not wait for one.

The web server is `minutely_tasks:create_app()`, the consumer serves `minutely_tasks.light`. Both need this folder on
their path.
"""

from app import create_app
from engine.queues.crontab import crontab
from tasks import light

__all__ = ["create_app", "light"]


@light.periodic_task(crontab())
def beat() -> str:
    """Each minute; what was missed stays missed."""
    return "beat"


@light.periodic_task(crontab())
def beat_again() -> str:
    """Another one."""
    return "beat"


@light.periodic_task(crontab())
def beat_held() -> str:
    """One that a pause holds back."""
    return "beat"
