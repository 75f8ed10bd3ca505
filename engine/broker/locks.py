"""Locks as leases: each has an owner, and ends with the worker or the consumer that holds it."""

import threading
from typing import Any
from uuid import uuid4

from huey.api import TaskLock
from huey.exceptions import TaskLockedException

from config import settings


class LeaseLock(TaskLock):
    """Huey's `lock_task`. A worker holds it until it is released, or until the worker or its consumer dies.

    A holder without heartbeats has it for `ttl` seconds, by default LEASE_SECONDS.
    """

    def __init__(self, huey: Any, name: str, ttl: float | None = None) -> None:
        super().__init__(huey, name, ttl)
        self.owners = threading.local()

    def acquire(self) -> bool:
        owner, state = uuid4().hex, self._huey.state
        is_working = state.current is not None
        consumer, worker = (state.consumer, state.worker) if is_working else ("", "")
        seconds = self._ttl if is_working else self._ttl or settings.lease_seconds
        if not self._huey.storage.locks.acquire(self._name, owner, consumer, worker, seconds, settings.lease_seconds):
            raise TaskLockedException(f"unable to acquire lock {self._name}")
        self.owners.last = owner
        return True

    def __exit__(self, *error: Any) -> None:
        self._huey.storage.locks.release(self._name, self.owners.last)

    def is_locked(self) -> bool:
        return self._name in self._huey.storage.locks.all()

    def clear(self) -> bool:
        return bool(self._huey.storage.locks.release(self._name))

    locked = is_locked
    release = clear
