"""The broker: messages, results, locks and heartbeats, in Redis or in one SQLite file."""
