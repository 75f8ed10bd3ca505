"""A scheduler with a driven clock. Each input line is a minute of Unix time, confirmed once it was checked."""

import sys
from datetime import UTC, datetime
from multiprocessing import Value

from huey.consumer import ForkSafeFlag
from storm_queue import faults

from engine.worker.scheduler import Scheduler

scheduler = Scheduler(faults, ForkSafeFlag(), 1, True)
scheduler.seen_at = Value("d", 0.0)
print("ready", flush=True)
for line in sys.stdin:
    scheduler.poll(datetime.fromtimestamp(int(line) * 60, UTC))
    print(line.strip(), flush=True)
