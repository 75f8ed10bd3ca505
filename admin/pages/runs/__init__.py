"""Runs, their errors, dead runs and bulk actions."""

from admin.pages.runs import bulk, dead_runs, errors, exports, run, run_actions, runs, saved_views

PAGES = (bulk, dead_runs, errors, exports, run, run_actions, runs, saved_views)
