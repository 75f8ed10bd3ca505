"""A run ends within its retries, and its worker continues, for every result, error and log line of a task."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from consumers import ConsumerProcess, consumer, share_with_consumers
from databases import create_postgresql
from huey import chord
from huey.exceptions import TaskException
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from odd_tasks import follow, gather, misbehave, odd
from sample_tasks import read_lines
from servers import RedisServer
from waiting import wait_until

from engine.history import writer
from engine.models import ENDED, LogLine, Run

HERE = Path(__file__).parent
#: Generated outcomes on each broker. `make fuzz` runs 2,000.
EXAMPLES = int(os.environ.get("FUZZ_OUTCOMES", "100"))
KB = 1 << 10


class OddConsumer:
    """The queue of odd tasks, and a consumer with one worker for it."""

    def __init__(self, consumer: ConsumerProcess, ledger: Path) -> None:
        self.consumer, self.delivery_log = consumer, ledger

    def run(self, outcome: list[Any] | None, retries: int = 0, **points: Any) -> Run:
        """Enqueue a run with this outcome. Return its row once it has ended."""
        task = misbehave.s({"outcome": outcome, **points}, retries=retries)
        odd.enqueue(task)
        return self.ended(task.id)

    def ended(self, run_id: str, within: float = 20) -> Run:
        def record() -> Run | None:
            writer.flush_events(odd)
            return Run.get_or_none((Run.id == run_id) & Run.state.in_(ENDED))

        return wait_until(record, within)

    def executions(self, run_id: str) -> int:
        return [words[0] for words in read_lines(self.delivery_log)].count(run_id)

    def worker(self) -> int:
        """Return the process of the worker, which was started after the scheduler."""
        return max(self.consumer.children(), key=lambda process: process.create_time()).pid

    def works_on(self) -> bool:
        """Assert that the worker holds no run and takes the next one."""
        wait_until(lambda: not odd.storage.deliveries.held())
        return bool(follow().get(blocking=True, timeout=10) == "followed")


@pytest.fixture(scope="module", params=["sqlite", "redis and postgresql"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OddConsumer]:
    folder = tmp_path_factory.mktemp("odd")
    path = os.pathsep.join(map(str, (HERE.parent.parent, HERE.parent, HERE)))
    with ExitStack() as stack:
        urls = [] if request.param == "sqlite" else start_own_servers(request, folder, stack)
        environment = stack.enter_context(share_with_consumers(odd, folder, *urls))
        environment |= {"ODD_LEDGER": str(folder / "ledger"), "MAX_DELIVERIES": "2", "PYTHONPATH": path}
        options = ("-k", "process", "-w", "1", "-n")
        running = consumer("odd_tasks.odd", *options, environment=environment, log=folder / "log")
        yield OddConsumer(stack.enter_context(running), folder / "ledger")


def start_own_servers(request: pytest.FixtureRequest, folder: Path, stack: ExitStack) -> list[str]:
    """Start a separate Redis and a separate database. Return their URLs."""
    redis = RedisServer(folder, "no")
    redis.start()
    stack.callback(redis.kill)
    return [redis.url, stack.enter_context(create_postgresql(request.getfixturevalue("postgresql_url")))]


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (["long", 2 * KB], "NotStorable: the result of misbehave cannot be stored: 2,097,164 bytes are too many"),
        (["power", 70], "an integer is beyond 64 bits"),
        (["tuple key"], "a key of a dictionary is neither text nor a number"),
        (["deep", 400], "it is nested more than 250 deep, or holds itself"),
        (["cycle"], "it is nested more than 250 deep, or holds itself"),
        (["surrogate"], "a text is not valid UTF-8"),
        (["list", ["json", 1], ["number", "nan"]], "it[1] is nan, which JSON cannot carry"),
        (["object"], "cannot be stored: Type is not JSON serializable: BadObject"),
        (["value", ["surrogate"]], r"ValueError: caf\udce9.epub"),
        (["value", ["nul"]], "ValueError: a\N{REPLACEMENT CHARACTER}b"),
        (["bad str"], "BadStr: <BadStr, whose __str__ raised RuntimeError>"),
        (["bad repr"], "BadRepr: "),
        (["cancelled"], "CancelledError: gone"),
        (["generator"], "GeneratorExit: "),
        (["keyboard"], "KeyboardInterrupt: "),
        (["own base"], "OwnBase: a library's own"),
        (["exit", 3], "TaskCalledExit: the task called sys.exit(3)"),
        (["chained"], "ValueError: first"),
        (["grouped", 300], "ExceptionGroup: level 299"),
        (["retry", ["json", 10**12]], "InvalidDelay: RetryTask(delay=1000000000000) is no time"),
        (["retry", ["json", "soon"]], "InvalidDelay: RetryTask(delay='soon') is no time"),
        (["retry", ["number", "nan"]], "InvalidDelay: RetryTask(delay=nan) is no time"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_odd_outcome_fails_its_run_or_is_stored(served: OddConsumer, outcome: list[Any], error: str) -> None:
    run = served.run(outcome, retries=1)
    assert error in run.error
    assert (run.state, run.attempts, run.deliveries, served.executions(run.id)) == ("failed", 2, 2, 2)
    assert all(attempt.traceback for attempt in run.history)
    assert served.works_on()


def test_long_error_is_truncated_and_states_its_length(served: OddConsumer) -> None:
    run = served.run(["value", ["long", 3 * KB]])
    assert len(run.error.encode()) < 65 * KB
    assert "… cut: 3,145,740 bytes in all …" in run.error
    assert "bytes in all …" in run.history[0].traceback


def test_odd_log_lines_are_stored(served: OddConsumer) -> None:
    run = served.run(["json", 1], lines=[["surrogate"], ["nul"], ["long", 5 * KB]])
    texts = [line.text for line in LogLine.select().where(LogLine.run_id == run.id).order_by(LogLine.number)]
    assert run.state == "succeeded"
    assert texts[:2] == [r"caf\udce9.epub", "a\N{REPLACEMENT CHARACTER}b"]
    assert "… cut: 5,242,880 bytes in all …" in texts[2]


def test_pipeline_with_an_unserializable_result_fails_its_first_task(served: OddConsumer) -> None:
    task = misbehave.s({"outcome": ["set"]}, retries=1).then(follow)
    odd.enqueue(task)
    run = served.ended(task.id)
    assert "NotStorable: the result cannot be handed on to follow" in run.error
    assert (run.state, served.executions(run.id)) == ("failed", 2)


def test_failed_result_hook_that_raises_keeps_the_original_error(served: OddConsumer) -> None:
    task = misbehave.s({"outcome": ["value", ["json", "first"]], "failed result": ["own base"]})
    handle = odd.enqueue(task)
    assert served.ended(task.id).error == "ValueError: first"
    with pytest.raises(TaskException, match="first"):
        handle.get()


def test_raising_hooks_and_receivers_do_not_change_the_outcome(served: OddConsumer) -> None:
    for name in ("before", "after", "signal complete"):
        for error in (["own base"], ["exit", 3], ["keyboard"], ["value", ["json", "x"]]):
            run = served.run(["json", 1], **{name: error})
            assert (run.state, served.executions(run.id)) == ("succeeded", 1), (name, error)


def test_chord_with_results_too_large_for_a_message_fails(served: OddConsumer) -> None:
    members = [misbehave.s({"outcome": ["long", 600]}) for _ in range(3)]
    handle = odd.enqueue(chord(members, gather.s()))
    states = sorted(served.ended(member.id).state for member in members)
    assert states == ["failed", "succeeded", "succeeded"]
    with pytest.raises(TaskException, match="too many for one message"):
        handle.get(blocking=True, timeout=5)


@pytest.mark.parametrize("served", ["sqlite"], indirect=True)
def test_outcome_refused_by_the_broker_counts_as_a_delivery(served: OddConsumer) -> None:
    task = misbehave.s({"outcome": ["json", 1]})
    odd.storage.database.execute(
        f"CREATE TRIGGER refuse BEFORE INSERT ON kv WHEN NEW.key = '{task.id}' BEGIN SELECT RAISE(FAIL, 'no'); END"
    )
    odd.enqueue(task)
    run = served.ended(task.id)
    odd.storage.database.execute("DROP TRIGGER refuse")
    assert (run.state, served.executions(run.id)) == ("dead", 2)
    assert "its outcome could not be stored: IntegrityError: no" in run.error
    assert served.works_on()


@pytest.mark.parametrize(
    "outcome", [["json", 1], ["value", ["json", "late"]], ["retry", ["json", 0]], ["surrogate"], ["own base"]]
)
def test_cancel_wins_until_the_outcome_is_stored(served: OddConsumer, outcome: list[Any]) -> None:
    """The task cancels itself and ends before its consumer checks for cancellations."""
    task = misbehave.s({"outcome": outcome, "cancels itself": True}, retries=3).then(follow)
    odd.enqueue(task)
    run = served.ended(task.id)
    assert (run.state, run.error) == ("cancelled", "CancelExecution: cancelled by itself")
    assert (served.executions(run.id), [attempt.state for attempt in run.history]) == (1, ["cancelled"])
    assert Run.get_or_none(Run.id == task.on_complete.id) is None
    assert served.works_on()


# --- generated outcomes --------------------------------------------------------------------------------------

plain_values = st.one_of(
    st.builds(lambda value: ["json", value], st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=20)),
    st.sampled_from([["surrogate"], ["surrogate key"], ["cycle"], ["tuple key"], ["nan key"], ["set"], ["bytes"]]),
    st.sampled_from([["object"], ["nul"]]),
    st.builds(lambda text: ["number", text], st.sampled_from(["nan", "inf", "-inf", "-0", "1e308"])),
    st.builds(lambda bits: ["power", bits], st.integers(1, 200)),
    st.builds(lambda kilobytes: ["long", kilobytes], st.sampled_from([1, 63, 65, 1023, 1025, 3000])),
    st.builds(lambda levels: ["deep", levels], st.sampled_from([1, 250, 255, 400])),
)
values = st.recursive(
    plain_values,
    lambda parts: st.builds(
        lambda kind, some: [kind, *some], st.sampled_from(["list", "dict"]), st.lists(parts, max_size=3)
    ),
    max_leaves=4,
)
#: Immediately or never. A run that is due in many years has not ended when the test checks.
delays = st.sampled_from(
    [["json", 0], ["json", 10**12], ["json", "soon"], ["json", -5], ["number", "nan"], ["surrogate"], ["set"]]
)
failures = st.one_of(
    st.builds(lambda word, value: [word, value], st.sampled_from(["value", "task"]), values),
    st.builds(
        lambda word: [word],
        st.sampled_from(
            ["bad str", "bad repr", "cancelled", "generator", "keyboard", "own base", "memory", "stop", "chained"]
        ),
    ),
    st.sampled_from([["locked"], ["timeout"]]),
    st.builds(lambda levels: ["grouped", levels], st.sampled_from([1, 50, 900])),
    st.builds(lambda code: ["exit", code], st.sampled_from([None, 0, 3, "text"])),
    st.builds(lambda retry: ["cancel", retry], st.sampled_from([None, False])),
    st.builds(lambda delay: ["rate", delay], delays),
)
outcomes = st.one_of(values, failures, st.builds(lambda delay: ["retry", delay], delays))  # fmt: skip
points = st.dictionaries(
    st.sampled_from(
        ["before", "after", "failed result", "signal complete", "signal error", "signal retrying", "cancels itself"]
    ),
    values | failures,
    max_size=2,
)
runs = st.fixed_dictionaries(
    {
        "outcome": outcomes,
        "points": points,
        "lines": st.lists(values, max_size=2),
        "retries": st.integers(0, 2),
    }
)


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 100, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(what=runs, follows=st.booleans(), handles=st.booleans())
def test_generated_outcome_ends_within_its_retries(
    served: OddConsumer, what: dict[str, Any], follows: bool, handles: bool
) -> None:
    task = misbehave.s({"outcome": what["outcome"], "lines": what["lines"], **what["points"]}, retries=what["retries"])
    if follows:
        task.then(follow)
    if handles:
        task.error(follow)
    worker = served.worker()
    odd.enqueue(task)
    run = served.ended(task.id)
    allowed = 1 + what["retries"] + (2 if what["outcome"][0] == "retry" else 0)
    if what["points"].get("before", [""])[0] == "cancel":  # A hook may cancel a run before its code has begun.
        assert (run.state, served.executions(run.id)) == ("cancelled", 0)
    else:
        assert 1 <= served.executions(run.id) <= allowed
        assert run.deliveries == run.attempts == served.executions(run.id)
        assert run.state in ("succeeded", "failed", "cancelled")
        assert (run.state == "succeeded") == (run.error is None)
    assert served.works_on()
    assert served.worker() == worker
