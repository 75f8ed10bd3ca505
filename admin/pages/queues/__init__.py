"""Queues, consumers, tasks and schedules."""

# Importing a module registers its pages on the blueprint.
from admin.pages.queues import queues, schedule, tasks, worker_actions, workers  # noqa: F401
