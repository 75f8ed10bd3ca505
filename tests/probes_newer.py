"""The probes as a later version of the program has them: with one task more."""

from probes import enter, probe


@probe.task()
def newcomer(ledger: str, number: int) -> int:
    enter(ledger, "newcomer", number)
    return number
