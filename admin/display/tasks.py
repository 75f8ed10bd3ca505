"""Rows of the task pages: statistics of the last days and pauses."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import tasks
from admin.display.sparkline import Bar, Sparkline, build_sparkline, week_bars
from admin.problems import outage_text
from engine.exceptions import BrokerUnavailable
from engine.history import run_counts, task_stats
from engine.history.run_counts import Percentiles
from engine.history.task_stats import TaskWeek
from engine.monitor.registered_tasks import TaskInfo


@dataclass
class TaskRow:
    """A task. `pause`: author, time and reason if the task is paused."""

    task: TaskInfo
    week: TaskWeek
    pause: Mapping[str, object] | None
    bars: list[Bar]

    @property
    def sparkline(self) -> Sparkline:
        return build_sparkline(self.bars)

    @property
    def waited(self) -> Percentiles | None:
        return run_counts.percentiles(self.week.waited)

    @property
    def ran(self) -> Percentiles | None:
        return run_counts.percentiles(self.week.ran)


def task_rows(facts: list[TaskInfo], at: datetime) -> tuple[list[TaskRow], str | None]:
    """Return the rows, and the error text if the broker is unavailable and pauses are unknown."""
    weeks = task_stats.load_task_weeks([fact.name for fact in facts], at)
    pauses, error_text = {}, None
    try:
        pauses = {queue: tasks.queues[queue].pauses() for queue in {fact.queue for fact in facts}}
    except BrokerUnavailable as error:
        error_text = outage_text(error)
    return [
        TaskRow(fact, weeks[fact.name], pauses.get(fact.queue, {}).get(fact.name), week_bars(weeks[fact.name], at))
        for fact in facts
    ], error_text
