"""What is stored where, in Redis or SQLite: messages, results, locks, consumers."""
