"""Answers what is going on: queues, consumers, tasks, alerts. Changes no run."""
