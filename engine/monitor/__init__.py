"""Current state of queues, consumers, tasks and alerts. Changes no run."""
