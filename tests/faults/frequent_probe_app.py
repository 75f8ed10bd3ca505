"""The console with a write probe every half second: `frequent_probe_app:create_app()`, with this folder on its path."""

from typing import Any

from engine.monitor import write_probe

write_probe.EVERY_SECONDS = 0.5


def create_app() -> Any:
    from app import create_app

    return create_app()
