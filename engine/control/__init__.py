"""Commands on runs, queues, schedules and consumers."""
