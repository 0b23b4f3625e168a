"""What the data say of one prediction, before any correction for asking several. Decides nothing.

``Evidence`` is one number per seed, the region that the claim allows, and the p values of "inside" and "outside".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from labqueue.domain.measured import averageable, exponential
from labqueue.report.statistics import intervals
from labqueue.report.statistics.intervals import Region
from labqueue.report.statistics.pairing import Panel


@dataclass
class Evidence:
    """Per-seed numbers behind a verdict.

    ``sample`` maps seed → the number that is tested against ``region``; with ``log`` both are natural logs of a
    ratio. ``arms`` maps the label of each arm → seed → mean of the metric, for plots and tables.
    """

    metric: str
    quantity: str
    """What the estimate is, in words: ``value of depth=16 minus depth=64``."""
    claimed: str
    """What the claim asks of it: ``between −0.02 and 0.02``."""
    region: Region
    arms: dict[str, dict[int, float]] = field(default_factory=dict)
    sample: dict[int, float] = field(default_factory=dict)
    also: list[dict[int, float]] = field(default_factory=list)
    """Samples of further comparisons with the same region, which must hold as well; their p is part of p_inside."""
    lost: dict[str, set[int]] = field(default_factory=dict)
    """Arm → seeds that count as lost although they have a number: the run diverged by the rule of its curve."""
    log: bool = False
    measure: str = ""
    """What the arms' values are, where that is not the metric in its own unit."""
    tested: str = ""
    """What the sample is, where that is not the estimate's quantity."""
    axis: str | None = None
    positions: list[float] | None = None
    """Where the arms lie on a numeric axis, in the axis' unit."""
    estimate: float | None = None
    ci: list[float] | None = None
    p_inside: float = 1.0
    p_outside: float = 1.0
    identical: bool = False
    resolution: float = 0.0
    """Differences of the sample below this are rounding, in the sample's unit."""
    span: float = 1.0
    """For slopes: the axis' length, since a slope resolves what its metric resolves over that length."""
    blocked: str = ""
    """Why no verdict is possible whatever the numbers say."""
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.sample)

    def take(self, panel: Panel) -> None:
        """Moves what the panel says into the evidence; arms missing or diverged block a verdict."""
        self.arms = panel.values
        self.problems += panel.problems
        self.resolution = intervals.resolution(self.values())
        if panel.points > 1:
            self.remarks.append(f"mean over {panel.points} sweep points within each seed")
        if panel.diverged:
            self.block(f"{' and '.join(panel.diverged)} diverged, so what is left is a biased sample")
        elif panel.absent:
            more = f" and {len(panel.absent) - 3} more" if len(panel.absent) > 3 else ""
            self.block(f"no result for {'; '.join(panel.absent[:3])}{more}")

    def fill(self, sample: dict[int, float]) -> None:
        """Sets estimate, interval and p values from one number per seed; without two seeds there is no interval."""
        self.sample = sample
        if not sample:
            return
        self.estimate = math.fsum(sample.values()) / len(sample)
        if len(sample) > 1:
            summary = self.summary(sample)
            self.identical = summary.identical
            self.ci = list(summary.interval())
            self.p_inside = intervals.p_inside(summary, self.region)
            self.p_outside = intervals.p_outside(summary, self.region)
        if self.log:
            self.estimate = exponential(self.estimate)
            self.ci = [exponential(edge) for edge in self.ci] if self.ci else None
            if self.ci and not all(map(averageable, self.ci)):
                self.ci = None
                self.remarks.append("the interval of this ratio is wider than numbers go")

    def summary(self, sample: dict[int, float]) -> intervals.Sample:
        """Mean and standard error of one number per seed, with the metric's own graininess in mind."""
        # Arms that are each the same in every seed come from a deterministic metric: there no spread is the truth.
        rounding = self.resolution * self.span
        fixed = all(max(arm.values()) - min(arm.values()) <= rounding for arm in self.arms.values() if arm)
        step = 0.0 if fixed or self.log else intervals.quantum(self.values()) / self.span
        return intervals.sample(list(sample.values()), step, self.resolution)

    def block(self, why: str) -> None:
        """Notes why no verdict is possible; the first reason stands."""
        self.blocked = self.blocked or why

    def values(self) -> list[float]:
        """Every per-seed mean of every arm."""
        return [value for arm in self.arms.values() for value in arm.values()]
