"""The storms. Each is a function of a system and of its size, and returns a report.

A kill counts only if it hit a busy worker. A worker is busy if its run has begun and not ended in the ledger.
"""

import os
import signal
import time
from random import Random

from consumers import ConsumerProcess
from delivery_log import is_alive
from freezing import frozen_at_work
from redis.exceptions import RedisError
from refusing_redis import RefusingRedis
from reports import Report, report
from storm_systems import LEASE_SECONDS, Dewey
from systems import Hit, System
from waiting import wait_until

from engine.exceptions import BrokerUnavailable


def workers_killed(
    system: System, how: str, tasks: int, seconds: float, kills: int, seed: int, workers: int = 2, within: float = 60
) -> Report:
    """Kill while tasks run. `how`: `worker` (one of them), `tree` (the whole consumer) or `parent` (it alone)."""
    chance = Random(seed)
    system.put(tasks, seconds)
    consumer = system.start("-n", workers=workers)
    for number in range(1, kills + 1):
        while wait_until_ended(system, tasks * number // (kills + 1)) and system.kills < number:
            consumer = kill_busy_worker(system, consumer, how, chance, workers)
    return report(f"{kills} kills: {how}", system, within)


def wait_until_ended(system: System, count: int, within: float = 300) -> bool:
    """Wait until this many runs have ended. Return false if no more will end."""
    system.busy_at = time.monotonic()
    return wait_until(lambda: idle_or(system, len(system.delivery_log.read().ends) >= count), within) != "at rest"


def idle_or(system: System, condition: object) -> object:
    return "at rest" if system.is_at_rest() else condition


def kill_busy_worker(
    system: System, consumer: ConsumerProcess, how: str, chance: Random, workers: int
) -> ConsumerProcess:
    """Kill a busy worker. Return the consumer that runs afterwards."""
    busy = wait_until(lambda: idle_or(system, system.delivery_log.busy()))
    if not isinstance(busy, dict):
        return consumer
    at, victim = time.time(), chance.choice(sorted(busy))
    if how == "worker":
        system.struck += 1
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_alive(victim))
        busy = {victim: busy[victim]}
    else:
        system.struck += workers
        system.kill(consumer, whole=how == "tree")
    hits = [Hit(run_id, pid, at) for pid, run_id in busy.items() if system.delivery_log.is_on(pid, run_id)]
    system.hits += hits
    system.kills += bool(hits)
    return consumer if how == "worker" else system.start("-n", workers=workers)


def due_at_once(system: System, tasks: int, lead: float, within: float = 60) -> Report:
    """Let many runs fall due at once. Kill the scheduler as the first ones move, and then the whole consumer."""
    consumer = enqueue_due_together(system, tasks, lead)
    system.children(consumer)[0].kill()
    system.kills += 1
    wait_until(lambda: idle_or(system, system.delivery_log.read().ends), 60)
    system.kill(consumer)
    system.kills += 1
    system.struck += 2
    system.start("-n")
    return report(f"{tasks} due at once, scheduler killed", system, within)


def enqueue_due_together(system: System, tasks: int, lead: float) -> ConsumerProcess:
    """Enqueue, and wait until the first runs are due. `lead` is the allowed time to enqueue, in seconds."""
    due = time.time() + lead
    system.put_due(tasks, due)
    consumer = system.start("-n")
    # Stock Huey's messages reach the schedule by way of the queue and a worker.
    wait_until(lambda: system.scheduled() == tasks, lead)
    assert time.time() < due, "enqueue exceeded the lead time"
    while system.scheduled() == tasks:
        assert time.time() < due + 30, "no run has left the schedule"
    return consumer


def broker_killed(system: System, tasks: int, seconds: float, kills: int, within: float = 60) -> Report:
    """Kill and restart the broker as the queue drains. The last outage is longer than a lease."""
    system.put(tasks, seconds)
    system.start("-n")
    for number in range(1, kills + 1):
        if wait_until_ended(system, tasks * number // (kills + 1)) and wait_until(system.delivery_log.busy):
            restart_broker(system, LEASE_SECONDS + 1 if number == kills else 0)
    return report(f"broker killed {kills} times", system, within)


def broker_killed_when_due(system: System, tasks: int, lead: float, within: float = 60) -> Report:
    """Kill the broker as many runs fall due, and restart it."""
    enqueue_due_together(system, tasks, lead)
    restart_broker(system, 0)
    return report(f"{tasks} due at once, broker killed", system, within)


def restart_broker(system: System, seconds: float) -> None:
    assert system.broker
    system.broker.kill()
    sleep_through(seconds)
    system.broker.start()
    system.kills += 1
    back = time.time()
    wait_until(lambda: idle_or(system, first_start(system, back)), 30)
    system.waited += [first - back for first in (first_start(system, back),) if first]


def broker_refuses(
    system: System, tasks: int, seconds: float, chance: float, seed: int, lasts: float = 60, within: float = 60
) -> Report:
    """Make the broker refuse commands with this chance, during claims, settlements, moves of due runs, and enqueues.

    `lasts` is the maximum time in seconds.
    """
    assert isinstance(system.broker, RefusingRedis)
    system.put(tasks // 2, seconds)
    system.put_due(tasks // 4, time.time() + 2)
    system.start("-n")
    system.broker.refuse_some(chance, seed)
    for _ in range(tasks // 4):
        enqueue_if_accepted(system, seconds)
    until = time.monotonic() + lasts
    wait_until(lambda: idle_or(system, have_all_ended(system) or time.monotonic() > until), lasts + 5)
    system.broker.accept_all()
    system.kills = system.broker.refused
    return report(f"{system.kills} commands refused", system, within)


def have_all_ended(system: System) -> bool:
    return len(system.delivery_log.read().ends) >= len(system.accepted)


def enqueue_if_accepted(system: System, seconds: float) -> None:
    """Enqueue a run. It counts as accepted unless the broker refuses it."""
    task = system.tasks.work.s(str(system.delivery_log.path), seconds)
    try:
        system.queue.enqueue(task)
    except (BrokerUnavailable, RedisError):
        return
    system.accepted.append(task.id)


def rows_refused(system: System, tasks: int, seconds: float, one_in: int = 100, within: float = 60) -> Report:
    """Make the database refuse the rows of one run in so many. All others become history."""
    system.put(tasks, seconds)
    if isinstance(system, Dewey):
        system.refuse_rows(one_in)
    system.start("-n")
    return report(f"{len(system.refused)} rows refused", system, within)


def sleep_through(seconds: float) -> None:
    """Sleep for a fixed time, because the length of the outage is the fault itself."""
    time.sleep(seconds)


def first_start(system: System, after: float) -> float:
    """Return the time at which the next run began (Unix seconds), or 0."""
    entries = [entry for entries in system.delivery_log.read().starts.values() for entry in entries]
    return min((entry.at for entry in entries if entry.at > after), default=0.0)


def rolling_restarts(
    system: System, tasks: int, seconds: float, rounds: int, long: float, within: float = 60
) -> Report:
    """Stop with SIGTERM and start a new consumer, repeatedly. One run is longer than the grace of half a second."""
    grace = ("-t", "0.5") if isinstance(system, Dewey) else ()
    system.put(1, long)
    system.put(tasks, seconds)
    consumer, broken = system.start("-n", *grace), []
    for number in range(1, rounds + 1):
        if wait_until_ended(system, tasks * number // (rounds + 1)) and wait_until(system.delivery_log.busy):
            stopped_at = time.monotonic()
            code = system.stop(consumer)
            if code or time.monotonic() - stopped_at > 3.5:
                broken.append(f"SIGTERM: exit code {code} after {time.monotonic() - stopped_at:.1f} s")
            consumer = system.start("-n", *grace)
            system.kills += 1
    seen = report(f"{rounds} rolling restarts", system, within)
    if isinstance(system, Dewey):
        seen.broken += broken
        if set(states := system.attempts(system.accepted[0])) != {"returned", "succeeded"}:
            seen.broken.append(f"the long run was not handed back at each shutdown: {states}")
    return seen


def frozen(system: System, tasks: int, seconds: float, rounds: int, within: float = 60) -> Report:
    """Freeze one of two busy consumers for longer than a lease. It wakes after the other has taken over."""
    system.put(tasks, seconds)
    pair = [system.start("-n"), system.start("-n")]
    for number in range(1, rounds + 1):
        if not wait_until_ended(system, tasks * number // (rounds * 4)):
            break
        with frozen_at_work(system, pair[number % 2]) as hits:
            system.hits += hits
            system.kills += 1
            system.struck += 2
            until = time.time() + LEASE_SECONDS + (15 if isinstance(system, Dewey) else 1)
            wait_until(lambda hits=hits, until=until: all_restarted(system, hits) or time.time() > until)
    return report(f"{rounds} times frozen past the lease", system, within)


def all_restarted(system: System, hits: list[Hit]) -> bool:
    starts = system.delivery_log.read().starts
    return all(any(entry.at > hit.at for entry in starts[hit.run_id]) for hit in hits)


def poisoned(system: System, tasks: int, seconds: float, poison: int, within: float = 60) -> Report:
    """Enqueue runs that kill every worker, and messages that cannot run, among good ones."""
    system.put(tasks // 2, seconds)
    system.put_poison(poison)
    system.put(tasks - tasks // 2, seconds)
    system.start("-n")
    seen = report("poison", system, within)
    disturbed = [run_id for run_id, starts in system.delivery_log.starts.items() if len(starts) > 1]
    if disturbed and isinstance(system, Dewey):
        seen.broken.append(f"good runs were started again: {disturbed}")
    return seen


def ticking(system: System, minutes: int, seed: int, every: float = 25.0) -> Report:
    """Run three consumers with a task each minute. Kill and restart one of them repeatedly."""
    chance = Random(seed)
    trio = [system.start() for _ in range(3)]
    system.accepted += [str(int(time.time()) // 60 + number) for number in range(minutes + 1)]
    end = (int(time.time()) // 60 + minutes) * 60 + 10
    while time.time() < end:
        sleep_through(min(every, max(end - time.time(), 0)))
        number = chance.randrange(3)
        system.kill(trio[number])
        system.kills += 1
        trio[number] = system.start()
    for consumer in trio:
        system.stop(consumer)
    runs = {minute: len(entries) for minute, entries in system.delivery_log.read().entries["tick"].items()}
    lost = sum(minute not in runs for minute in system.accepted)
    again = sum(runs.values()) - len(runs)
    broken = [f"runs in a minute: {runs}"] if (lost or again) and isinstance(system, Dewey) else []
    return Report(
        f"{minutes} minutes of three consumers", system.title, len(system.accepted), lost, again, 0, system.kills,
        system.struck, None, system.survivors(), broken,
    )  # fmt: skip
