"""A task as the pages show it: how it has fared in the last days, and who paused it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import tasks
from admin.display.sparkline import Bar, Sparkline, bars, sparkline
from admin.problems import trouble_in_words
from engine.exceptions import BrokerAway
from engine.history import run_counts, task_stats
from engine.history.run_counts import Percentiles
from engine.history.task_stats import Week
from engine.monitor.registered_tasks import TaskFacts


@dataclass
class Row:
    """`pause`: who, when and why, where the task itself is paused."""

    task: TaskFacts
    week: Week
    pause: Mapping[str, object] | None
    bars: list[Bar]

    @property
    def sparkline(self) -> Sparkline:
        return sparkline(self.bars)

    @property
    def waited(self) -> Percentiles | None:
        return run_counts.percentiles(self.week.waited)

    @property
    def ran(self) -> Percentiles | None:
        return run_counts.percentiles(self.week.ran)


def rows_of(facts: list[TaskFacts], at: datetime) -> tuple[list[Row], str | None]:
    """And what is wrong with the broker, which then cannot tell of pauses."""
    weeks = task_stats.weeks([fact.name for fact in facts], at)
    pauses, error_text = {}, None
    try:
        pauses = {queue: tasks.queues[queue].pauses() for queue in {fact.queue for fact in facts}}
    except BrokerAway as error:
        error_text = trouble_in_words(error)
    return [
        Row(fact, weeks[fact.name], pauses.get(fact.queue, {}).get(fact.name), bars(weeks[fact.name], at))
        for fact in facts
    ], error_text
