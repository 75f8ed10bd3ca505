"""The storms. Each is a plain function of a system and of its size, and gives a report.

A kill counts only when it hit a worker at work: one that had begun a run, as the ledger says, and never ended it.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psutil
from consumers import Consumer
from ledger import lives
from reports import Report, report
from systems import LEASE_SECONDS, Hit, Ours, System
from waiting import wait_until


def workers_killed(
    system: System, how: str, tasks: int, seconds: float, kills: int, seed: int, workers: int = 2, within: float = 60
) -> Report:
    """`kill -9` while tasks run. `how`: `worker` (one of them), `tree` (the whole consumer) or `parent` (it alone)."""
    chance = Random(seed)
    system.put(tasks, seconds)
    consumer = system.start("-n", workers=workers)
    for number in range(1, kills + 1):
        while ended(system, tasks * number // (kills + 1)) and system.kills < number:
            consumer = strike(system, consumer, how, chance, workers)
    return report(f"{kills} kills: {how}", system, within)


def ended(system: System, count: int, within: float = 300) -> bool:
    """Wait until so many runs have ended. False when no more will."""
    system.busy_at = time.monotonic()
    enough = lambda: len(system.ledger.read().ends) >= count  # noqa: E731
    wait_until(lambda: enough() or system.is_done(), within)
    return enough() and not system.is_done()


def strike(system: System, consumer: Consumer, how: str, chance: Random, workers: int) -> Consumer:
    """Kill when somebody works. Gives the consumer that is up afterwards."""
    busy = wait_until(lambda: system.ledger.busy() or (system.is_done() and {0: ""}))
    if 0 in busy:
        return consumer
    at, victim = time.time(), chance.choice(sorted(busy))
    if how == "worker":
        system.struck += 1
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not lives(victim))
        busy = {victim: busy[victim]}
    else:
        system.struck += workers
        system.kill(consumer, whole=how == "tree")
        consumer = system.start("-n", workers=workers)
    hits = [Hit(run_id, pid, at) for pid, run_id in busy.items() if system.ledger.is_on(pid, run_id)]
    system.hits += hits
    system.kills += bool(hits)
    return consumer


def due_at_once(system: System, tasks: int, lead: float, within: float = 60) -> Report:
    """Many fall due together; the scheduler is killed as the first of them move, and then the whole consumer."""
    consumer = fall_due(system, tasks, lead)
    system.kills += 1
    scheduler = system.children(consumer)[0]
    scheduler.kill()
    wait_until(lambda: system.ledger.read().ends or system.is_done())
    system.struck += 2
    system.kill(consumer)
    system.start("-n")
    return report(f"{tasks} due at once, scheduler killed", system, within)


def fall_due(system: System, tasks: int, lead: float) -> Consumer:
    """Returns when the first have left the schedule. `lead`: the seconds that enqueuing may take."""
    due = time.time() + lead
    system.put_due(tasks, due)
    consumer = system.start("-n")
    assert time.time() < due, "enqueuing took too long for this machine"
    while system.scheduled() == tasks:
        assert time.time() < due + 30, "nothing has left the schedule"
    return consumer


def broker_killed(system: System, tasks: int, seconds: float, kills: int, within: float = 60) -> Report:
    """The broker is killed and started again while the queue drains; the last time it is away for longer than a lease."""
    system.put(tasks, seconds)
    system.start("-n")
    for number in range(1, kills + 1):
        if ended(system, tasks * number // (kills + 1)) and wait_until(system.ledger.busy):
            broker_away(system, LEASE_SECONDS + 1 if number == kills else 0)
    return report(f"broker killed {kills} times", system, within)


def broker_killed_when_due(system: System, tasks: int, lead: float, within: float = 60) -> Report:
    """The broker is killed as many runs fall due, and started again."""
    fall_due(system, tasks, lead)
    broker_away(system, 0)
    return report(f"{tasks} due at once, broker killed", system, within)


def broker_away(system: System, seconds: float) -> None:
    assert system.broker
    system.broker.kill()
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, seconds + 1)
    system.broker.start()
    system.kills += 1
    back = time.time()
    begun = lambda: [one.at for entries in system.ledger.read().starts.values() for one in entries if one.at > back]  # noqa: E731
    wait_until(lambda: begun() or system.is_done(), 30)
    system.waited += [min(begun()) - back] if begun() else []


def rolling_restarts(
    system: System, tasks: int, seconds: float, rounds: int, long: float, within: float = 60
) -> Report:
    """SIGTERM and a new consumer, again and again; one run is longer than the grace of half a second."""
    grace = ("-t", "0.5") if isinstance(system, Ours) else ()
    system.put(1, long)
    system.put(tasks, seconds)
    consumer, broken = system.start("-n", *grace), []
    for number in range(1, rounds + 1):
        if ended(system, tasks * number // (rounds + 1)) and wait_until(system.ledger.busy):
            asked = time.monotonic()
            code = system.stop(consumer)
            if code or time.monotonic() - asked > 3.5:
                broken.append(f"SIGTERM: exit code {code} after {time.monotonic() - asked:.1f} s")
            consumer = system.start("-n", *grace)
            system.kills += 1
    seen = report(f"{rounds} rolling restarts", system, within)
    if isinstance(system, Ours):
        seen.broken += broken
        if set(states := system.attempts(system.accepted[0])) != {"returned", "succeeded"}:
            seen.broken.append(f"the long run was not handed back at each shutdown: {states}")
    return seen


def frozen(system: System, tasks: int, seconds: float, rounds: int, within: float = 60) -> Report:
    """Of two consumers one is frozen at work for longer than a lease, and wakes when the other has taken over."""
    system.put(tasks, seconds)
    pair = [system.start("-n"), system.start("-n")]
    for number in range(1, rounds + 1):
        if not ended(system, tasks * number // (rounds + 1)):
            break
        with frozen_at_work(system, pair[number % 2]) as hits:
            system.hits += hits
            system.kills += bool(hits)
            system.struck += 2
            until = time.time() + LEASE_SECONDS + (15 if isinstance(system, Ours) else 1)
            wait_until(lambda hits=hits, until=until: all_again(system, hits) or time.time() > until, 30)
    return report(f"{rounds} times frozen past the lease", system, within)


def all_again(system: System, hits: list[Hit]) -> bool:
    starts = system.ledger.read().starts
    return all(any(one.at > hit.at for one in starts[hit.run_id]) for hit in hits)


@contextmanager
def frozen_at_work(
    system: System, consumer: Consumer, chosen: Callable[[psutil.Process], bool] = bool
) -> Iterator[list[Hit]]:
    """The chosen processes of a consumer (all, unless said otherwise) are stopped for the length of a block.

    Not while one of them is writing to a SQLite file, for then it would stop everybody.
    """
    family = [one for one in (psutil.Process(consumer.pid), *system.children(consumer)) if chosen(one)]
    pids = {one.pid for one in family}
    while not system.is_done():
        if not system.ledger.busy().keys() & pids:
            continue
        for one in family:
            one.suspend()
        wait_until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in family))
        hits = [Hit(run_id, pid, time.time()) for pid, run_id in system.ledger.busy().items() if pid in pids]
        if hits and not writing(pids):
            yield hits
            break
        for one in family:
            one.resume()
    else:
        yield []
    for one in family:
        one.resume()


def writing(pids: set[int]) -> bool:
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line)
    return any(lock[3] == "WRITE" and int(lock[4]) in pids for lock in locks)


def poisoned(system: System, tasks: int, seconds: float, poison: int, within: float = 60) -> Report:
    """Runs that kill every worker, and messages that nobody can run, among good ones."""
    system.put(tasks // 2, seconds)
    system.put_poison(poison)
    system.put(tasks - tasks // 2, seconds)
    system.start("-n")
    seen = report("poison", system, within)
    if disturbed := [run_id for run_id, starts in system.ledger.starts.items() if len(starts) > 1]:
        seen.broken += [f"good runs were started again: {disturbed}"] if isinstance(system, Ours) else []
    return seen
