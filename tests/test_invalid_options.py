"""Invalid options are refused by name at declaration or enqueue, and nothing is stored."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from huey import chord, group

from engine.broker.storage import Storage
from engine.control.arguments import check_arguments
from engine.exceptions import InvalidArguments
from engine.queues.options import InvalidOption
from engine.queues.queue import Queue

NAN, INFINITY, MAX_NUMBER = math.nan, math.inf, 2**31 - 1


@pytest.fixture
def queue(fresh_storage: Storage) -> Queue:
    made = Queue("fresh")
    made.storage = fresh_storage
    return made


INVALID_IDS = [
    "two words",
    "tab\there",
    "nul\0",
    "line\n",
    "ünïcode",
    "\ud800",
    "x" * 65,
    "x" * 9000,
    "\x7f",
    b"bytes",
    7,
]


def build_pipeline(note: Any, run_id: Any) -> Any:
    return note.s(1).then(note, 2).then(note.s(3, id=run_id))


def set_id(note: Any, run_id: Any) -> Any:
    task = note.s(1)
    task.id = run_id
    return task


#: The ways in which a caller may pass an id.
ENQUEUE: dict[str, Callable[[Any, Any], Any]] = {
    "call": lambda note, run_id: note(1, id=run_id),
    "schedule": lambda note, run_id: note.schedule((1,), delay=60, id=run_id),
    "task made by hand": lambda note, run_id: note.huey.enqueue(set_id(note, run_id)),
    "many": lambda note, run_id: note.huey.enqueue_many([note.s(1), set_id(note, run_id)]),
    "group": lambda note, run_id: note.huey.enqueue(group([set_id(note, run_id)])),
    "pipeline": lambda note, run_id: note.huey.enqueue(build_pipeline(note, run_id)),
    "error handler": lambda note, run_id: note.huey.enqueue(note.s(1).error(set_id(note, run_id))),
    "chord": lambda note, run_id: note.huey.enqueue(chord([note.s(1)], set_id(note, run_id))),
    "schedule by hand": lambda note, run_id: note.huey.add_schedule(set_id(note, run_id)),
}


@pytest.mark.parametrize(
    ("how", "run_id"),
    [*(("call", run_id) for run_id in INVALID_IDS), *((how, "two words") for how in ENQUEUE)],
    ids=ascii,
)
def test_unprintable_id_is_rejected(queue: Queue, how: str, run_id: Any) -> None:
    note = queue.task(name="note")(print)
    with pytest.raises(InvalidOption) as refused:
        ENQUEUE[how](note, run_id)
    message = str(refused.value)
    assert message.startswith("id of note must be 1 to 64 printable ASCII characters without a space, not ")
    assert len(message) < 150 and message.isprintable()
    assert (queue.pending_count(), queue.scheduled_count(), queue.storage.events.read(0, 10)) == (0, 0, [])


@pytest.mark.parametrize("run_id", ["a", "~" * 64, 'o"dd\\<id>!', "8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52"])
def test_printable_id_is_kept(queue: Queue, run_id: str) -> None:
    seen: list[str] = []
    note = queue.task(name="note", context=True)(lambda task: seen.append(task.id))
    note(id=run_id)
    queue.set_worker_identity("here", "Worker-1")
    queue.execute(queue.dequeue())
    assert seen == [run_id]
    assert queue.result(run_id) is None and queue.storage.results.has(run_id)


def test_invalid_id_is_rejected_in_immediate_mode(queue: Queue) -> None:
    note = queue.task(name="note")(print)
    queue.immediate = True
    with pytest.raises(InvalidOption, match="id of note"):
        note(1, id="two words")
    queue.immediate = False


INVALID_OPTIONS = [
    *(("retries", value) for value in (MAX_NUMBER + 1, 2**40, -1, 1.5, True, "3", None, NAN)),
    *(("retry_delay", value) for value in (NAN, INFINITY, -0.5, "60", True, 10**12)),
    *(("retry_backoff", value) for value in (NAN, -1, "2")),
    *(("priority", value) for value in (NAN, INFINITY, -INFINITY, "high", True, 10**400)),
    *(("timeout", value) for value in (NAN, -1, "9")),
]


@pytest.mark.parametrize("kind", ["task", "periodic_task"])
@pytest.mark.parametrize(("option", "value"), [*INVALID_OPTIONS, ("time_limit", NAN), ("time_limit", -1)], ids=repr)
def test_invalid_option_is_rejected_at_declaration(kind: str, option: str, value: Any) -> None:
    queue = Queue("fresh")
    decorator = (
        queue.task(**{option: value}) if kind == "task" else queue.periodic_task(lambda at: False, **{option: value})
    )

    def nightly() -> None: ...

    with pytest.raises(InvalidOption, match=f"^{option} of nightly must be a .*number from ") as refused:
        decorator(nightly)
    assert len(str(refused.value)) < 150
    assert queue._registry._registry == {}


@pytest.mark.parametrize(("option", "value"), [case for case in INVALID_OPTIONS if case[1] is not None], ids=repr)
def test_invalid_option_is_rejected_at_the_call(queue: Queue, option: str, value: Any) -> None:
    note = queue.task(name="note")(print)
    with pytest.raises(InvalidOption, match=f"^{option} of note must be a .*number from "):
        note(1, **{option: value})
    assert (queue.pending_count(), queue.storage.events.read(0, 10)) == (0, [])


def test_largest_options_are_kept(queue: Queue) -> None:
    largest = {
        "retries": MAX_NUMBER,
        "retry_delay": MAX_NUMBER,
        "retry_backoff": 0.5,
        "priority": -MAX_NUMBER,
        "timeout": 0,
    }
    note = queue.task(name="note", time_limit=0, **largest)(print)
    note(1, **largest)
    queue.set_worker_identity("here", "Worker-1")
    task = queue.dequeue()
    assert task is not None
    assert {option: getattr(task, option) for option in largest} == largest


@pytest.mark.parametrize("name", ["two words", "dotted.name", "", "x" * 201])
def test_ambiguous_task_name_is_rejected(name: str) -> None:
    def function() -> None: ...

    function.__name__ = name
    with pytest.raises(InvalidOption, match="must be 1 to 200 characters without a space or a dot"):
        Queue("fresh").task()(function)


def typed(
    whole: int = 0,
    number: float = 0,
    text: str = "",
    flag: bool = False,
    pages: list[int] | None = None,
    sizes: dict[int, float] = {},  # noqa: B006
    style: Literal["wash", "ink"] = "ink",
    path: Path = Path(),
    *rest: int,
) -> None: ...


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("whole", True, "must be int, not bool"),
        ("whole", 1.0, "must be int, not float"),
        ("whole", None, "must be int, not NoneType"),
        ("number", True, "must be float, not bool"),
        ("number", "1", "must be float, not str"),
        ("text", 1, "must be str, not int"),
        ("flag", 1, "must be bool, not int"),
        ("pages", ["x"], "must be list[int] | None, not ['x']"),
        ("pages", 1, "must be list[int] | None, not 1"),
        ("sizes", {"x": 1}, "must be dict[int, float], not {'x': 1}"),
        ("style", "oil", "must be Literal['wash', 'ink'], not 'oil'"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_its_name(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        check_arguments(Queue("fresh").task()(typed).task_class, (), {field: value})
    assert (refused.value.field, str(refused.value)) == (field, f"{field}: {message}")


def test_an_argument_that_json_can_hold_is_accepted() -> None:
    task_class = Queue("fresh").task()(typed).task_class
    check_arguments(task_class, (2**70, 1, "\udc80", True, None, {"1": 2}, "wash", "/tmp", "anything"), {})
    check_arguments(task_class, (), {"pages": [1], "number": 1.5})
