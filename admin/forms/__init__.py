"""Parse forms and filters."""
