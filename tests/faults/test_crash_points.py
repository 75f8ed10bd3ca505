"""A process dies at an exact step, or a reply is lost there. The outcome is always the same."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_points import POINTS
from reports import report
from storm_systems import Dewey, create_dewey

#: Point → of three runs on one worker: times begun, and the outcome of each delivery.
OUTCOMES = {
    "after_take": ([1, 1, 1], [["died", "succeeded"], ["succeeded"], ["succeeded"]]),
    "before_result": ([2, 1, 1], [["died", "succeeded"], ["succeeded"], ["succeeded"]]),
    "before_settle": ([2, 1, 1], [["died", "succeeded"], ["succeeded"], ["succeeded"]]),
    "after_settle": ([1, 1, 1], [["succeeded"], ["died", "succeeded"], ["succeeded"]]),
    "answer_lost": ([1, 1, 1], [["succeeded"], ["succeeded"], ["succeeded"]]),
    "settling_answer_lost": ([1, 1, 1], [["succeeded"], ["succeeded"], ["succeeded"]]),
    "after_due_move": ([1, 1, 1], [["succeeded"], ["succeeded"], ["succeeded"]]),
}


@pytest.fixture(params=POINTS)
def point(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sqlite", "redis"])
def system(request: pytest.FixtureRequest, point: str, tmp_path: Path) -> Iterator[Dewey]:
    crash = {"FAULTS_CRASH_AT": point, "FAULTS_CRASHED": str(tmp_path / "crashed")}
    with create_dewey(request, tmp_path, **crash) as dewey:
        yield dewey


def test_run_continues_after_a_crash_at_each_point(system: Dewey, point: str) -> None:
    if point == "after_due_move":
        system.put_due(3, time.time() + 2)
    else:
        system.put(3, 0)
    system.struck = 1
    system.start("-n", workers=1)
    assert report(point, system).broken == []
    assert (system.folder / "crashed").exists()
    starts, attempts = OUTCOMES[point]
    assert [len(system.delivery_log.starts[run_id]) for run_id in system.accepted] == starts
    assert [system.attempts(run_id) for run_id in system.accepted] == attempts
