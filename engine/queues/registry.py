"""Registry: Huey's task registry, with one task per name in all queues of a program.

History, limits, pauses and ticks are keyed by a task's bare name. Two tasks with one name would share them.
"""

import inspect
import sys
from collections.abc import Iterable, Iterator

from huey import Huey
from huey.api import Task
from huey.exceptions import HueyException
from huey.registry import Registry as HueyRegistry


class DuplicateName(SystemExit):
    """Two tasks have one name. Ends the program with exit code 2 and one line.

    Not an Exception, because `huey_consumer` swallows the first one of an import and imports again.
    """

    def __init__(self, line: str) -> None:
        print(f"dewey: {line}", file=sys.stderr)
        super().__init__(2)


class NotRegistered(HueyException):
    """A message names a task that this code lacks: its own, or a follower."""

    def __init__(self, task: str, line: str) -> None:
        super().__init__(line)
        self.task = task


class Registry(HueyRegistry):
    """`program`: the registries of all queues of the program, including this one."""

    program: Iterable["Registry"]

    def __init__(self) -> None:
        super().__init__()
        self.program = (self,)

    def register(self, task_class: type[Task]) -> bool:
        name = task_class.__name__
        for registry, other in self.find_named(name):
            if registry is not self or locate_code(other) != locate_code(task_class):
                modules = " and ".join(sorted({other.__module__, task_class.__module__}))
                raise DuplicateName(f"two tasks are named {name}, in {modules}. Rename one, or set its name=")
        return bool(super().register(task_class))

    def find_named(self, name: str) -> Iterator[tuple["Registry", type[Task]]]:
        for registry in self.program:
            yield from ((registry, task) for task in registry._registry.values() if task.__name__ == name)

    def string_to_task(self, task_str: str) -> type[Task]:
        try:
            return super().string_to_task(task_str)
        except HueyException as error:
            raise NotRegistered(task_str, str(error)) from None


def share_names(queues: Iterable[Huey]) -> None:
    registries = tuple(queue._registry for queue in queues)
    for registry in registries:
        registry.program = registries


def locate_code(task_class: type[Task]) -> object:
    """Return the place of a task's code. A module that is executed again registers the same task."""
    function = inspect.unwrap(task_class.function)
    code = getattr(function, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else function
