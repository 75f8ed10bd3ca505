"""How work is carried: queues, broker, workers, history. Knows nothing of Flask or of reading."""
