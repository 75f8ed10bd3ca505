"""Runs, their errors, dead runs and bulk actions."""

# Each puts its pages on the blueprint by being imported.
from admin.pages.runs import bulk, dead_runs, errors, exports, run, run_actions, runs, saved_views  # noqa: F401
