"""What came of a storm, and which promises it broke."""

from contextlib import suppress
from dataclasses import dataclass, field

from systems import LEASE_SECONDS, Ours, System
from waiting import wait_until

from engine.records import ENDED

#: How soon a run must start again when all of its consumer is gone.
SOON = LEASE_SECONDS + 15.0


@dataclass
class Report:
    """`kills`: those that hit a busy worker, or a broker; `struck`: worker processes that were killed or frozen;
    `recovery`: the longest time from a fault to the new start of what it interrupted; `left`: processes that outlived
    their parent; `broken`: what Dewey promises and did not keep.
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


def report(storm: str, system: System, within: float = 60.0, recovery: float = SOON) -> Report:
    """Wait until the storm is over, and judge. `recovery`: the seconds that it may take."""
    system.drain(within)
    ended, twice = set(system.ledger.read().ends), system.ledger.twice()
    lost = set(system.accepted) - ended - system.dead()
    broken = list(promises_broken(system, lost, twice)) if isinstance(system, Ours) else []
    for consumer in list(system.running):
        if (code := system.stop(consumer)) and isinstance(system, Ours):
            broken.append(f"a consumer ended with exit code {code}")
    seen = Report(
        storm,
        system.title,
        accepted=len(system.accepted),
        lost=len(lost),
        twice=len(twice),
        dead=len(system.dead()),
        kills=system.kills,
        struck=system.struck,
        recovery=longest(system),
        left=system.survivors(),
        broken=broken,
    )
    if isinstance(system, Ours):
        if seen.left:
            seen.broken.append(f"{seen.left} processes outlived their parent")
        if (seen.recovery or 0) > recovery:
            seen.broken.append(f"an interrupted run started again after {seen.recovery:.1f} s, not {recovery:g}")
    return seen


def longest(system: System) -> float | None:
    again = [
        min(later) - hit.at
        for hit in system.hits
        if (later := [entry.at for entry in system.ledger.starts[hit.run_id] if entry.at > hit.at])
    ]
    return max([*again, *system.waited], default=None)


def promises_broken(system: Ours, lost: set[str], twice: set[str]) -> list[str]:
    """What the ledger shows, and whether the records tell the same."""
    broken = []
    if lost:
        broken.append(f"{len(lost)} lost, such as {sorted(lost)[:3]}")
    if len(twice) > system.struck:
        broken.append(f"{len(twice)} finished twice, with {system.struck} workers killed or frozen")
    with suppress(AssertionError):
        wait_until(lambda: system.recorded(ENDED) == len(system.accepted), 20)
    runs = system.runs(system.accepted)
    if unended := [one for one in system.accepted if one not in runs or runs[one].state not in ENDED]:
        broken.append(f"{len(unended)} not ended on record, such as {[(one, runs[one].state if one in runs else None, system.attempts(one)) for one in unended[:3]]}")
    if unmarked := [one for one in twice if runs[one].deliveries < 2]:
        broken.append(f"finished twice and not marked as delivered again: {unmarked}")
    if (dead := system.dead()) != system.poison:
        broken.append(f"dead {sorted(dead)}, where {sorted(system.poison)} should be")
    if waiting := system.unfinished():
        broken.append(f"{waiting} still wait, are scheduled or held at rest")
    for run_id, entries in system.ledger.read().ends.items():
        if run_id in runs and runs[run_id].result not in {entry.pid for entry in entries}:
            broken.append(f"{run_id}: its result {runs[run_id].result!r} is of none of those who finished it")
    for hit in system.hits:
        if hit.run_id in runs and runs[hit.run_id].result == hit.pid:
            broken.append(f"{hit.run_id}: the result of process {hit.pid}, which was struck, stands")
    return broken
