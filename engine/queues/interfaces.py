"""TaskQueue: a queue as its parts and its tasks see it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from huey.api import Result, ResultGroup, Task, TaskWrapper
from huey.serializer import Serializer
from huey.signals import Signal
from huey.storage import BaseStorage
from huey.utils import Error

from engine.queues.registry import Registry
from engine.queues.worker_state import WorkerState


class TaskQueue(Protocol):
    """The members that the parts of a queue use: Huey's, those that we replace, and a few of our own."""

    name: str
    utc: bool
    storage: BaseStorage
    serializer: Serializer
    state: WorkerState
    _immediate: bool
    _registry: Registry
    _signal: Signal
    _timeout_handler: Callable[[float], AbstractContextManager[object]] | None

    # --- enqueuing -----------------------------------------------------------------------------------------------

    def enqueue(self, task: Task) -> Result | ResultGroup: ...
    def enqueue_calls(self, wrapper: TaskWrapper, calls: Sequence[tuple[object, ...]]) -> ResultGroup: ...
    def serialize_task(self, task: Task) -> bytes: ...
    def deserialize_task(self, data: bytes) -> Task: ...
    def ready_to_run(self, task: Task) -> bool: ...
    def _pipeline_results(self, task: Task) -> list[Result]: ...

    # --- executing -----------------------------------------------------------------------------------------------

    def check_result(self, task: Task, value: object) -> None: ...
    def record_metadata(self, task: Task, facts: Mapping[str, object]) -> None: ...
    def put_if_empty(self, key: str, data: object, ttl: float) -> bool: ...
    def get(self, key: str, peek: bool) -> str: ...

    # --- settling ------------------------------------------------------------------------------------------------

    def build_error_result(self, task: Task, exception: BaseException | None) -> dict[str, object]: ...
    def put_result(self, key: str, data: Error) -> None: ...
    def _emit(self, signal: str, task: Task, *args: object) -> None: ...
    def _get_timestamp(self) -> datetime: ...
    def _requeue_task(self, task: Task, timestamp: datetime) -> None: ...
    def _check_chord(self, member: Task, value: Error) -> None: ...
