"""The sample_tasks as a later version of the program has them: with one task more."""

from sample_tasks import append_line, probe


@probe.task()
def newcomer(ledger: str, number: int) -> int:
    append_line(ledger, "newcomer", number)
    return number
