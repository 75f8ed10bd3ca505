"""Queues, broker, workers and history. Imports neither Flask nor `reading`."""
