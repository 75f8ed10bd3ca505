"""Dewey's queue of the storms: `huey_consumer served.faults`, this folder and the one above being on the path."""

import os

import deeds

from engine.queues import Queue
from engine.schedule import crontab

faults = Queue("faults")
tasks = deeds.on(faults, crontab())

if point := os.environ.get("FAULTS_CRASH_AT"):
    import crashing

    crashing.crash_once(faults, point, os.environ["FAULTS_CRASHED"])
