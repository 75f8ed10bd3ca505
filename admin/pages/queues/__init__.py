"""Queues, consumers, tasks and schedules."""

# Each puts its pages on the blueprint by being imported.
from admin.pages.queues import queues, schedule, tasks, worker_actions, workers  # noqa: F401
