"""Events become runs, attempts and counts in the database."""
