"""Queries and actions, one file per noun. Pages, JSON API and terminal call them."""

# Importing a module registers its operations.
from admin.operations import (  # noqa: F401
    account,
    alerts,
    audit,
    books,
    bulk,
    dead_runs,
    errors,
    history,
    library,
    operators,
    queues,
    runs,
    saved_views,
    schedules,
    sessions,
    statistics,
    tasks,
    tokens,
    workers,
)
