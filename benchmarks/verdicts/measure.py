"""Simulates cells and counts false verdicts, refusals, and intervals that miss the truth."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from benchmarks.verdicts import rule
from benchmarks.verdicts.cells import Cell, cells
from benchmarks.verdicts.rule import ALPHA, Outcome
from benchmarks.verdicts.scenarios import scenarios

FALSE, COVERED, CERTAINTY = 0.055, 0.93, 0.99


@dataclass(frozen=True)
class Row:
    """One column of a cell: a number of seeds, or looks."""

    cell: str
    column: str
    times: int
    false: int
    supported: int
    refused: int
    """Verdicts that are blocked whatever the numbers say."""
    shown: int = 0
    covered: int = 0
    complete: bool = True
    may_refuse: bool = False

    @property
    def coverage(self) -> float:
        """The share of intervals that cover the truth; where a claim may be refused, those withheld miss nothing."""
        return 1 - (self.shown - self.covered) / self._intervals

    @property
    def _intervals(self) -> int:
        return max(self.times if self.may_refuse else self.shown, 1)

    @property
    def missed(self) -> list[str]:
        """The bounds that are missed by more than chance."""
        words = []
        if lower(self.false, self.times) > FALSE:
            words.append("false")
        if lower(self.shown - self.covered, self._intervals) > 1 - COVERED:
            words.append("coverage")
        if self.refused and not self.may_refuse:
            words.append("refused")
        return words


@cache
def all_cells() -> dict[str, Cell]:
    """Every cell by its name, the named scenarios first."""
    return {cell.name: cell for cell in [*scenarios(), *cells()]}


def lower(count: int, of: int) -> float:
    """The 99 % lower limit of a rate (Clopper and Pearson 1934)."""
    return float(stats.beta.ppf(1 - CERTAINTY, count, of - count + 1)) if count else 0.0


def measured(times: int, name: str) -> list[Row]:
    """The columns of the cell of that name: cells are functions, which do not travel between processes."""
    return measure(all_cells()[name], times)


def measure(cell: Cell, times: int) -> list[Row]:
    """All columns of a cell; each number of seeds uses the first seeds of the same experiments."""
    times = max(1, round(times * cell.factor))
    drawn = cell.draw(np.random.default_rng([20261201, zlib.crc32(cell.name.encode())]), times, max(cell.sizes))
    drawn = drawn.seeds_outside()
    claims = {n: cell.claims(drawn.first(n)) for n in sorted({*cell.sizes, *sum(cell.looks, ())})}
    rows = [_row(cell, f"n={n}", times, rule.decide(claims[n]), claims[n]) for n in cell.sizes]
    for looks in cell.looks:
        spent = [ALPHA] if cell.unregistered else rule.SHARES_OF_LOOKS[len(looks)]
        stages = [rule.decide(claims[n], share) for n, share in zip(looks, spent, strict=not cell.unregistered)]
        rows.append(_row(cell, ",".join(map(str, looks)), times, rule.first_decision(stages), None))
    return rows


def _row(cell: Cell, column: str, times: int, verdicts: np.ndarray, claims: list[Outcome] | None) -> Row:
    wrong = verdicts > 0 if cell.only_supported else verdicts != 0
    refused = shown = covered = 0
    for claim in claims or []:
        refused += int(claim.refused.sum())
        if cell.covers is not None:
            truth = cell.covers(claim)
            seen = ~np.isnan(claim.low) & ~np.isnan(claim.high)
            shown += int(seen.sum())
            covered += int((seen & (claim.low <= truth + 1e-9) & (truth - 1e-9 <= claim.high)).sum())
    return Row(
        cell.name,
        column,
        times,
        int(wrong.any(0).sum()),
        int((verdicts > 0).any(0).sum()),
        refused,
        shown,
        covered,
        cell.losses == "complete",
        cell.may_refuse,
    )
