"""From events to runs, attempts and counts in the database."""
