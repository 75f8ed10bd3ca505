"""Queues and tasks: enqueue, execute, capture logs, decide ticks, order consumers."""
