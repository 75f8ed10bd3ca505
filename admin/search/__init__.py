"""Search for runs: syntax, keys and filters."""
