"""What `huey_consumer` runs: the consumer, its workers and its scheduler."""
