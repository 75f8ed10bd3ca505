"""The sample_tasks of a later version of the program, with one more task."""

from sample_tasks import append_line, probe


@probe.task()
def newcomer(ledger: str, number: int) -> int:
    append_line(ledger, "newcomer", number)
    return number
