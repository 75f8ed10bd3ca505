"""The result of a storm and the guarantees that it broke."""

from contextlib import suppress
from dataclasses import dataclass, field

from storm_systems import LEASE_SECONDS, Dewey
from systems import System
from waiting import wait_until

from engine.models import ENDED

#: Seconds until a run starts again after its whole consumer is killed.
MAX_RECOVERY = LEASE_SECONDS + 15.0


@dataclass
class Report:
    """The result of a storm.

    `kills`: kills of a busy worker or of a broker. `struck`: worker processes killed or frozen. `recovery`: the longest
    time from a fault to the next start of an interrupted run. `left`: processes that outlived their parent. `broken`:
    guarantees that Dewey did not keep.
    """

    storm: str
    system: str
    accepted: int
    lost: int
    twice: int
    dead: int
    kills: int
    struck: int
    recovery: float | None
    left: int
    broken: list[str] = field(default_factory=list)


def report(storm: str, system: System, within: float = 60.0, recovery: float = MAX_RECOVERY) -> Report:
    """Wait for the end of the storm and build its report. `recovery` is the allowed time in seconds."""
    system.drain(within)
    broken = promises_broken(system) if isinstance(system, Dewey) else []
    ended, twice, dead = set(system.delivery_log.read().ends), system.delivery_log.twice(), system.dead()
    codes = [system.stop(consumer) for consumer in list(system.running)]
    seen = Report(
        storm,
        system.title,
        accepted=len(system.accepted),
        lost=len(set(system.accepted) - ended - dead),
        twice=len(twice),
        dead=len(dead),
        kills=system.kills,
        struck=system.struck,
        recovery=longest_recovery(system),
        left=system.survivors(),
        broken=broken,
    )
    if isinstance(system, Dewey):
        facts = {
            f"consumers ended with {codes}": any(codes),
            f"{seen.lost} were lost": seen.lost,
            f"{seen.twice} finished twice, of {seen.struck} workers struck": seen.twice > seen.struck,
            f"{seen.left} processes outlived their parent": seen.left,
            f"a run started again after {seen.recovery} s, not {recovery:g}": (seen.recovery or 0) > recovery,
        }
        seen.broken += [fact for fact, holds in facts.items() if holds]
    return seen


def longest_recovery(system: System) -> float | None:
    """Return the longest time from a hit, or a later kill of a consumer, to the next start (seconds)."""
    times = list(system.waited)
    for hit in system.hits:
        if later := [entry.at for entry in system.delivery_log.starts[hit.run_id] if entry.at > hit.at]:
            again = min(later)
            times.append(again - max([hit.at, *(down for down in system.downs if down < again)]))
    return max(times, default=None)


def promises_broken(system: Dewey) -> list[str]:
    """Return the broken guarantees, read from broker and database at rest."""
    with suppress(AssertionError):
        wait_until(lambda: system.recorded(ENDED) == len(system.accepted) - len(system.refused), 20)
    runs, ledger = system.runs(), system.delivery_log.read()
    broken = [
        f"{run_id}: stored as {runs[run_id].state if run_id in runs else 'missing'}, {system.attempts(run_id)}"
        for run_id in system.accepted
        if run_id not in system.refused and (run_id not in runs or runs[run_id].state not in ENDED)
    ]
    broken += rejections_broken(system)
    broken += [
        f"{run_id}: finished twice, but stored as delivered once"
        for run_id in ledger.twice()
        if run_id in runs and runs[run_id].deliveries < 2
    ]
    broken += [
        f"{run_id}: its result {run.result!r} is not from a process that finished it"
        for run_id, run in runs.items()
        if run_id in ledger.ends and run.result not in {entry.pid for entry in ledger.ends[run_id]}
    ]
    broken += [
        f"{hit.run_id}: its result is from process {hit.pid}, which was hit during the run"
        for hit in system.hits
        if hit.run_id in runs
        and runs[hit.run_id].result == hit.pid
        and not any(entry.pid == hit.pid and entry.at > hit.at for entry in ledger.starts[hit.run_id])
    ]
    if (dead := system.dead()) != system.poison:
        broken.append(f"dead runs are {sorted(dead)}, expected {sorted(system.poison)}")
        broken += [f"{run_id}: {system.story(run_id)}" for run_id in dead - system.poison]
    if left := system.unfinished():
        broken.append(f"{left} messages remain at rest")
    return broken


def rejections_broken(system: Dewey) -> list[str]:
    """Return the fault if the rejected events are not exactly those of refused rows and forged messages."""
    rejected, expected = system.rejected(), {run_id: {"enqueued"} for run_id in system.forged}
    expected |= {run_id: {"enqueued", "ended"} for run_id in system.refused}
    return [] if rejected == expected else [f"rejected events are {rejected}, expected {expected}"]
