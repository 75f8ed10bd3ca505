"""Dewey's queue of the storms: `huey_consumer storm_queue.faults`, with this folder and its parent on the path."""

import os

import storm_tasks

from engine.queues.crontab import crontab
from engine.worker.served_queue import ServedQueue

faults = ServedQueue("faults")
tasks = storm_tasks.register(faults, crontab())

if point := os.environ.get("FAULTS_CRASH_AT"):
    import crash_points

    crash_points.crash_once(faults, point, os.environ["FAULTS_CRASHED"])
