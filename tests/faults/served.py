"""Dewey's queue of the storms: `huey_consumer served.faults`, this folder and the one above being on the path."""

import os

import deeds

from engine.queues.crontab import crontab
from engine.worker.served_queue import ServedQueue

faults = ServedQueue("faults")
tasks = deeds.on(faults, crontab())

if point := os.environ.get("FAULTS_CRASH_AT"):
    import crashing

    crashing.crash_once(faults, point, os.environ["FAULTS_CRASHED"])
