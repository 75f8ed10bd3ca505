"""Queues, consumers, tasks and schedules."""
