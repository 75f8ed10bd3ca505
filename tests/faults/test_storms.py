"""The short form of every storm, on both brokers: no run is lost. `make faults` runs the long form."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import storms
from storm_systems import Dewey, create_dewey


@pytest.fixture(params=["sqlite", "redis"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dewey]:
    with create_dewey(request, tmp_path) as dewey:
        yield dewey


@pytest.mark.parametrize("how", ["worker", "tree", "parent"])
def test_no_run_is_lost_when_processes_are_killed(system: Dewey, how: str) -> None:
    report = storms.workers_killed(system, how, tasks=80, seconds=0.15, kills=5, seed=7)
    assert (report.broken, report.kills) == ([], 5)


def test_no_run_is_lost_when_the_scheduler_is_killed_as_many_become_due(system: Dewey) -> None:
    assert storms.due_at_once(system, tasks=600, lead=4).broken == []


@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_no_run_is_lost_when_the_broker_is_killed(system: Dewey) -> None:
    report = storms.broker_killed(system, tasks=100, seconds=0.03, kills=4)
    assert (report.broken, report.kills) == ([], 4)


@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_no_run_is_lost_when_the_broker_is_killed_as_many_become_due(system: Dewey) -> None:
    assert storms.broker_killed_when_due(system, tasks=600, lead=4).broken == []


@pytest.mark.parametrize("system", ["refusing"], indirect=True)
def test_no_run_is_lost_when_the_broker_refuses_at_random(system: Dewey) -> None:
    report = storms.broker_refuses(system, tasks=120, seconds=0.02, chance=0.2, seed=3)
    assert (report.broken, report.twice) == ([], 0)
    assert report.kills > 20


def test_history_is_complete_except_for_rows_the_database_refuses(system: Dewey) -> None:
    report = storms.rows_refused(system, tasks=300, seconds=0, one_in=30)
    assert (report.broken, report.twice, len(system.refused)) == ([], 0, 10)


@pytest.mark.alone
def test_restarts_lose_and_repeat_no_run_and_count_no_delivery(system: Dewey) -> None:
    report = storms.rolling_restarts(system, tasks=100, seconds=0.03, rounds=3, long=2)
    assert (report.broken, report.twice, report.kills) == ([], 0, 3)


def test_late_wakeup_of_a_frozen_worker_changes_nothing(system: Dewey) -> None:
    report = storms.frozen(system, tasks=120, seconds=0.1, rounds=2)
    assert (report.broken, report.kills) == ([], 2)


def test_poison_messages_end_as_dead_letters_without_harm(system: Dewey) -> None:
    report = storms.poisoned(system, tasks=60, seconds=0.02, poison=2)
    assert (report.broken, report.dead) == ([], 6)
