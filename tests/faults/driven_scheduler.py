"""A scheduler whose clock is driven: each line of input is a minute of Unix time, answered once it was looked at."""

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
