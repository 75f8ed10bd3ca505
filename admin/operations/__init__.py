"""What can be asked and done, one file per noun. Pages, JSON and terminal call it."""

from admin.operations import (
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

#: Modules that declare operations by being imported.
NOUNS = (
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
