"""Runs, their errors, dead runs and bulk actions."""

# Importing a module registers its pages on the blueprint.
from admin.pages.runs import bulk, dead_runs, errors, exports, run, run_actions, runs, saved_views  # noqa: F401
