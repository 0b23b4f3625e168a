"""What the data say of one prediction, before any correction for asking several. Decides nothing.

``Evidence`` is one number per seed, the region that the claim allows, and the p values of "inside" and "outside".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labqueue.domain.declarations import ArtifactUse, Quantity
from labqueue.domain.measured import averageable, exponential
from labqueue.report.statistics import intervals, items
from labqueue.report.statistics.exact_tests import Statistic
from labqueue.report.statistics.intervals import Region
from labqueue.report.statistics.pairing import Panel, Reading, SeriesReader
from labqueue.report.statistics.scales import SKEWED, Part, Scale, scale_of, skewness

NULLABLE_FROM = 5
"""Seeds from which a metric is judged that a run can succeed without, and a crossing: where half of all seeds never get
there, all of n got there in 0.5^n of experiments, which is 3 % at five and 13 % at three."""


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
    lost: dict[str, set[int]] = field(default_factory=dict)
    """Arm → seeds that count as lost although they have a number: the run diverged by the rule of its curve."""
    log: bool = False
    margin: bool = False
    """The claim is about how far apart arms are, and not only about which is the larger."""
    measure: str = ""
    """What the arms' values are, where that is not the metric in its own unit."""
    tested: str = ""
    """What the sample is, where that is not the estimate's quantity."""
    axis: str | None = None
    positions: list[float] | None = None
    """Where the arms lie on a numeric axis, in the axis' unit."""
    scale: Scale = field(default_factory=Scale)
    """How the metric's numbers are tested."""
    typical: bool = False
    """The claim is about the typical seed: the geometric mean of a positive metric, or the median."""
    statistic: Statistic | None = None
    """Of ``sample``; None below two seeds."""
    comparisons: int = 1
    """Comparisons among which the one shown was found: its interval holds for all of them together (Bonferroni)."""
    estimate: float | None = None
    ci: list[float] | None = None
    """The 95 % interval."""
    contrast: dict[str, float] = field(default_factory=dict)
    """Arm → weight: the estimate is the weighted sum of the arms' means, or with ``of_ratio`` the first of two means
    divided by the second."""
    of_ratio: bool = False
    readings: dict[str, dict[int, list[Reading]]] = field(default_factory=dict)
    """Arm → seed → the runs behind its value."""
    fixed: str = "these data"
    """What further seeds share with these, in words: on that the interval is conditional."""
    item_ci: list[float] | None = None
    """The 95 % interval over further seeds and other items; None where the scores of single items are not known."""
    deciding_ci: list[float] | None = None
    """The interval at the level at which the claim is decided, after all corrections."""
    deciding_level: float | None = None
    p_inside: float = 1.0
    p_outside: float = 1.0
    resolution: float = 0.0
    """Differences of the sample below this are rounding, in the sample's unit."""
    bare: bool = False
    """No interval is shown: the numbers are too skewed for one."""
    blocked: str = ""
    """Why no verdict is possible whatever the numbers say."""
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    """Runs without a number for which both extremes were set, in words."""

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.sample)

    @property
    def identical(self) -> bool:
        """Every seed gave the same number."""
        return self.statistic is not None and self.statistic.identical

    def take(self, panel: Panel) -> None:
        """Moves what the panel says into the evidence; runs that are missing or have yet to end block a verdict."""
        self.arms, self.readings = panel.values, panel.readings
        self.problems += panel.problems
        self.resolution = intervals.resolution(self.values())
        if panel.points > 1:
            self.remarks.append(f"mean over {panel.points} sweep points within each seed")
        if panel.pending:
            self.block(f"{panel.pending} of its runs {'has' if panel.pending == 1 else 'have'} yet to end")
        elif panel.absent:
            more = f" and {len(panel.absent) - 3} more" if len(panel.absent) > 3 else ""
            self.block(f"no result for {'; '.join(panel.absent[:3])}{more}")
        elif panel.lost:
            more = f" and {len(panel.lost) - 3} more" if len(panel.lost) > 3 else ""
            # Said here in full, and not again among the problems.
            self.problems = [problem for problem in self.problems if problem not in panel.lost]
            self.block(f"{'; '.join(panel.lost[:3])}{more}, so what is left is a biased sample")

    def measure_by(self, metric: Quantity, panel: Panel, of: int | None, *, relative: bool = False) -> None:
        """Sets the scale from what the kind declares of the metric and from the numbers themselves; ``of`` is how many
        items a share is of."""
        values = [value for arm in panel.pairs.values() for seed in arm.values() for value in seed]
        self.scale = scale_of(metric, values, points=panel.points, items=of, relative=relative)
        if self.scale.form == "share" and of is not None:
            self.fixed = f"these {of} items" if of > 1 else "this one item"
        nullable = metric.metric is not None and metric.metric.nullable
        if nullable and 0 < len(panel.seeds) < NULLABLE_FROM:
            self.block(
                f"a claim about {metric.name}, which a run can succeed without, needs {NULLABLE_FROM} seeds, here are "
                f"{len(panel.seeds)}: with fewer, seeds that never get there could be missed"
            )

    def fill(self, sample: dict[int, float], parts: Sequence[Part], *, logs: bool = False) -> None:
        """Sets estimate, interval and p values from one number per seed, the weighted sum of ``parts``; without two
        seeds there is no interval. With ``log``, or ``logs`` where the estimate stays one, the parts are logs."""
        self.sample = sample
        if not sample:
            return
        self.estimate = math.fsum(sample.values()) / len(sample)
        if len(sample) > 1:
            self.statistic = self.scale.of_sum(sample, parts, logs=self.log or logs, margin=self.margin)
            self.p_inside = intervals.p_inside(self.statistic, self.region)
            self.p_outside = intervals.p_outside(self.statistic, self.region)
            self.ci = self.interval(1 - intervals.ALPHA / self.comparisons)
            skew = _strong_skewness(self)
            if skew is not None:
                self.remarks.append(
                    f"the seeds are strongly skewed (skewness {skew:.1f}), which a t interval leaves out"
                )
        if self.log:
            self.estimate = exponential(self.estimate)

    def interval(self, level: float) -> list[float] | None:
        """The two-sided interval of the estimate, in its unit; None where there is none that numbers can hold."""
        found = None if self.statistic is None or self.bare else self.statistic.interval(level)
        if found is None:
            return None
        ends = [exponential(end) if self.log else end for end in found]
        return ends if all(map(averageable, ends)) else None

    def ask_other_items(self, artifacts: Mapping[str, ArtifactUse], series: SeriesReader) -> None:
        """Sets ``item_ci`` where every run behind the estimate left the scores of the same items."""
        if self.scale.form != "share" or not self.contrast or self.ci is None or self.estimate is None:
            return
        arms = []
        for name, weight in self.contrast.items():
            behind = [reading for seed in self.sample for reading in self.readings[name][seed]]
            found = [
                scores
                for reading in behind
                if reading.value is not None
                and (scores := items.scores_of(reading.run, self.metric, reading.value, artifacts, series)) is not None
            ]
            pooled = items.pooled(found) if len(found) == len(behind) else None
            if pooled is None:
                return
            arms.append((weight, pooled))
        if all(scores.keys() == arms[0][1].keys() for _, scores in arms):
            level = 1 - intervals.ALPHA / self.comparisons
            self.item_ci = items.with_other_items(arms, self.estimate, self.ci, level, ratio=self.of_ratio)

    def decide_at(self, p: float) -> None:
        """Sets the interval that decides; ``p`` is the corrected one, which is to be at most ``ALPHA``."""
        if self.statistic is None or not self.sample:
            return
        own = min(intervals.p_inside(self.statistic, self.region), intervals.p_outside(self.statistic, self.region))
        if 0 < own < 1 and p > 0:
            self.deciding_level = 1 - intervals.ALPHA * min(1.0, own / p)
            self.deciding_ci = self.interval(self.deciding_level)

    def block(self, why: str) -> None:
        """Notes why no verdict is possible; the first reason stands."""
        self.blocked = self.blocked or why

    def values(self) -> list[float]:
        """Every per-seed mean of every arm."""
        return [value for arm in self.arms.values() for value in arm.values()]


def _strong_skewness(found: Evidence) -> float | None:
    """The sample's skewness where it was tested by t and is strong; else None."""
    if not isinstance(found.statistic, intervals.Sample) or found.n < 5:
        return None
    skew = skewness(list(found.sample.values()))
    return skew if abs(skew) > SKEWED else None
