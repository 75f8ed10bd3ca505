"""The registered tasks: lookup, description, parameters, next tick."""

import inspect
from datetime import datetime
from typing import NamedTuple

from config import settings
from engine.exceptions import UnknownTask
from engine.queues.queue import Queue, Queues
from engine.queues.task import QueueTask
from engine.secret_arguments import SecretParameters


class TaskInfo(NamedTuple):
    """A registered task. `parameters`: a caller's. Limits in seconds, 0: none. `rate_limit`: `10/m` or empty."""

    name: str
    queue: str
    doc: str
    priority: float | None
    retries: int
    retry_delay: int
    schedule: str | None
    parameters: list[inspect.Parameter]
    secret_parameters: SecretParameters
    soft_limit: float
    hard_limit: float
    rate_limit: str
    unique: bool
    retry_backoff: float
    periodic: bool
    catch_up: bool


def registered_classes(queue: Queue) -> list[type[QueueTask]]:
    return list(queue._registry._registry.values())


def periodic_tasks(queue: Queue) -> list[type[QueueTask]]:
    return list(queue._registry._periodic_tasks)


def find_task(queues: Queues, name: str) -> tuple[Queue, type[QueueTask]]:
    """Return the task of this name: bare, `tasks.<name>` or `app.tasks.<name>`. Raises UnknownTask."""
    for queue in queues.values():
        for task_class in registered_classes(queue):
            if name in accepted_names(task_class.__name__):
                return queue, task_class
    raise UnknownTask("No task is named %(name)s. List the tasks with `dewey tasks list`.", name=repr(name))


def accepted_names(name: str) -> tuple[str, str, str]:
    return name, f"tasks.{name}", f"app.tasks.{name}"


def list_tasks(queues: Queues) -> list[TaskInfo]:
    return [describe_task(queue, task_class) for queue in queues.values() for task_class in registered_classes(queue)]


def describe_task(queue: Queue, task_class: type[QueueTask]) -> TaskInfo:
    return TaskInfo(
        name=task_class.__name__,
        queue=queue.name,
        doc=inspect.getdoc(task_class.function) or "",
        priority=task_class.default_priority,
        retries=task_class.default_retries,
        retry_delay=task_class.default_retry_delay,
        schedule=getattr(task_class.schedule, "expression", None),
        parameters=task_parameters(task_class),
        secret_parameters=task_class.secret_parameters,
        soft_limit=float(task_class.default_timeout or settings.soft_time_limit),
        hard_limit=queue.time_limit(task_class.__name__),
        rate_limit=task_class.rate_limit,
        unique=task_class.unique,
        retry_backoff=task_class.default_retry_backoff or 0,
        periodic=task_class.schedule is not None,
        catch_up=task_class.catch_up,
    )


def task_parameters(task_class: type[QueueTask]) -> list[inspect.Parameter]:
    """Return the caller's parameters: the function's, without the `task` that Huey fills in."""
    signature = inspect.signature(task_class.function)
    fills_in_task = task_class.context
    return [
        parameter for parameter in signature.parameters.values() if not (fills_in_task and parameter.name == "task")
    ]


def next_tick(queues: Queues, name: str, after: datetime) -> datetime | None:
    _, task_class = find_task(queues, name)
    return task_class.schedule.next(after) if hasattr(task_class.schedule, "next") else None
