"""Faults of a file that could still be read."""

from typing import TypedDict


class Warning(TypedDict):
    code: str
    detail: str


class Findings:
    """Collect warnings. Each code appears once, with its first detail and the number of further cases."""

    def __init__(self) -> None:
        self.details: dict[str, str] = {}
        self.counts: dict[str, int] = {}

    def add(self, code: str, detail: str) -> None:
        self.details.setdefault(code, detail)
        self.counts[code] = self.counts.get(code, 0) + 1

    def warnings(self) -> list[Warning]:
        return [{"code": code, "detail": self.describe(code)} for code in self.details]

    def copy(self) -> "Findings":
        other = Findings()
        other.replace(self)
        return other

    def replace(self, other: "Findings") -> None:
        """Take over what the other has, in place of the own warnings."""
        self.details, self.counts = dict(other.details), dict(other.counts)

    def describe(self, code: str) -> str:
        more = self.counts[code] - 1
        return f"{self.details[code]} ({more} more)" if more else self.details[code]
