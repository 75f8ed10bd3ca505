"""Queues, consumers, tasks and schedules."""

from admin.pages.queues import queues, schedule, tasks, worker_actions, workers

PAGES = (queues, schedule, tasks, worker_actions, workers)
