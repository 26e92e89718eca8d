"""What came of many proofs, model by model."""

from collections import Counter, defaultdict
from typing import Any, Literal

Result = Literal["identical", "diverged", "sampled", "gone", "failed"]
"""`sampled`: diverged too, but it was drawn by lot. `gone`: no longer kept. `failed`: the model could not be asked."""

COLUMNS: tuple[Result, ...] = ("identical", "diverged", "sampled", "gone", "failed")
_FORM = "{:32} {:>9} {:>9} {:>9} {:>9} {:>9}"


class Tally:
    """Counts."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, Counter[Result]] = defaultdict(Counter)
        self.failures_in_a_row = 0

    def proved(self, proof: dict[str, Any]) -> None:
        """One answer was asked again."""
        drawn = proof["outcome"] == "diverged" and not proof["reproducible"]
        self.add(proof["model"], "sampled" if drawn else proof["outcome"])

    def add(self, model: str, result: Result) -> None:
        """One more."""
        self._counts[model][result] += 1
        self.failures_in_a_row = self.failures_in_a_row + 1 if result == "failed" else 0

    def count(self, result: Result) -> int:
        """Of all models."""
        return sum(counted[result] for counted in self._counts.values())

    @property
    def line(self) -> str:
        """In short."""
        return ", ".join(f"{self.count(result)} {result}" for result in COLUMNS if self.count(result))

    @property
    def table(self) -> list[str]:
        """A row for each model."""
        rows = [(model, *(counted[result] for result in COLUMNS)) for model, counted in sorted(self._counts.items())]
        return [_FORM.format("MODEL", *(column.upper() for column in COLUMNS)), *(_FORM.format(*row) for row in rows)]

    @property
    def status(self) -> int:
        """The exit status: 1 when some answer diverged, 2 when none did but some could not be verified."""
        if self.count("diverged") or self.count("sampled"):
            return 1
        return 2 if self.count("failed") or self.count("gone") else 0
