"""Queues and tasks: enqueue, execute, capture logs, classify ticks, command consumers."""
