"""Runs, their errors, dead runs and bulk actions."""
