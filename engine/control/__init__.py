"""Carries out commands on runs, queues, schedules and consumers."""
