"""Reads what people type into forms and filters."""
