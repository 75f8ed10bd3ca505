"""What can be asked and done, one file per noun. Pages, JSON and terminal call it."""

# Each declares its operations by being imported.
from admin.operations import (  # noqa: F401
    account,
    alerts,
    audit,
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
