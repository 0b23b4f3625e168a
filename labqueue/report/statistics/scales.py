"""How the numbers of one metric are tested: by t, on logs, as shares of items, or as yes and no. Judges nothing.

A tested number is a weighted sum of arms within a seed (a − b; a − r·b; the weights of a slope), so that what is known
of an arm's spread carries over to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from labqueue.domain.declarations import Quantity
from labqueue.report.statistics import intervals
from labqueue.report.statistics.exact_tests import Counted, Rate, Signs, Statistic, Strictest, Unvarying

Form = Literal["real", "positive", "share", "yes_no"]

LOG_ALLOWANCE = 1.4
"""How often p counts where a t test is made on logs. Logs of exponential numbers are skewed: without it a claim at its
edge is decided in 6.8 % of simulated experiments, with it in 5.1 % at most (``python -m benchmarks.verdicts``)."""

QUIET = 0.2
"""Standard deviation of the logs over seeds up to which a positive metric may be judged by differences: skewness grows
with it, and above it differences of such numbers are decided too often. Assumption, checked by the same benchmark."""

SKEWED = 2.0
"""Sample skewness from which a verdict by t mentions it: 1.5 % of normal samples of five reach it."""

Part = tuple[float, Mapping[int, float]]
"""Weight and values by seed of one arm."""


@dataclass(frozen=True)
class Scale:
    """The form of a metric's numbers in one claim."""

    form: Form = "real"
    items: int | None = None
    """Of a share: how many items one seed's value is of."""
    certain: bool = False
    """The kind declares the metric deterministic: no spread means certainty."""
    step: float = 0.0
    """Of a real metric: the step of the lattice on which its values lie; 0 where none is seen."""
    noise: float = 0.0
    """Differences up to this are rounding, in the metric's unit."""

    def of_sum(self, sample: Mapping[int, float], parts: Sequence[Part], *, logs: bool = False) -> Statistic:
        """The statistic of one number per seed, the weighted sum of ``parts`` (of their logs with ``logs``).

        At least two seeds.
        """
        seeds, values = list(sample), list(sample.values())
        here = [(weight, [arm[seed] for seed in seeds]) for weight, arm in parts]
        if self.form == "yes_no":
            return self._yes_no(values, here)
        weight_sum = sum(abs(weight) for weight, _ in here) or 1.0
        noise = intervals.FLOAT32_ROUNDING if logs else self.noise * weight_sum
        if self.form == "share":
            return self._share(values, here, noise)
        if max(values) - min(values) <= noise:
            return Unvarying(math.fsum(values) / len(values), len(values), self.certain)
        least = 0.0 if logs else self.step**2 / 12 * sum(weight**2 for weight, _ in here)
        found = intervals.sample(values, least=least)
        return Counted(found, LOG_ALLOWANCE) if logs else found

    def _yes_no(self, values: list[float], parts: Sequence[tuple[float, list[float]]]) -> Statistic:
        rates = [(weight, Rate(sum(value > 0.5 for value in arm), len(arm), len(arm))) for weight, arm in parts]
        if len(rates) == 1:
            return rates[0][1]
        below, above = sum(value < 0 for value in values), sum(value > 0 for value in values)
        # Of two arms the difference of rates is what people read; a slope has no rate of its own.
        known = tuple(rates) if len(rates) == 2 else ()
        return Signs(below, above, len(values), max(values) == min(values), rates=known)

    def _share(self, values: list[float], parts: Sequence[tuple[float, list[float]]], noise: float) -> Statistic:
        same = max(values) - min(values) <= noise
        if self.certain and same:
            return Unvarying(math.fsum(values) / len(values), len(values), certain=True)
        if self.items is None:
            if same:
                return Unvarying(math.fsum(values) / len(values), len(values), certain=False)
            return intervals.sample(values)
        least = sum(weight**2 * self._spread(arm) for weight, arm in parts)
        by_t = intervals.sample(values, least=least)
        if len(parts) > 1:
            return by_t
        total = self.items * len(values)
        yes = min(total, max(0, round(math.fsum(values) * self.items)))
        return Strictest((by_t, Rate(yes, total, len(values))))

    def _spread(self, arm: Sequence[float]) -> float:
        """The least variance of one seed's share: binomial, at the rate (K + ½)/(M + 1), never 0."""
        assert self.items is not None
        total = self.items * len(arm)
        rate = (math.fsum(arm) * self.items + 0.5) / (total + 1)
        return rate * (1 - rate) / self.items


def scale_of(
    metric: Quantity, values: Iterable[float], *, points: int = 1, items: int | None = None, relative: bool = False
) -> Scale:
    """The scale of a metric in one claim.

    Args:
        metric: with what its kind declares of it.
        values: every value of every arm, before they are averaged over sweep points.
        points: how many sweep points a seed's value is the mean of.
        items: what a share is of at one sweep point; None where the kind does not say.
        relative: values are divided by the run's own first one.
    """
    known = list(values)
    noise = intervals.resolution(known)
    declared = None if metric.metric is None else metric.metric.scale
    certain = metric.metric is not None and metric.metric.deterministic
    if relative:
        return Scale("positive" if known and min(known) > 0 else "real", None, certain, 0.0, noise)
    if declared == "yes_no" or (declared in (None, "real") and not certain and _all_yes_or_no(known)):
        return (
            Scale("yes_no", None, certain, 0.0, noise) if points == 1 else Scale("share", points, certain, 0.0, noise)
        )
    if declared == "share":
        points = max(1, points)
        if items is None:
            step = intervals.quantum([0.0, *known, 1.0])
            items = round(1 / step) if step else None
        return Scale("share", None if items is None else items * points, certain, 0.0, noise)
    if declared == "positive" and known and min(known) > 0:
        return Scale("positive", None, certain, intervals.quantum(known) / max(1, points), noise)
    return Scale("real", None, certain, intervals.quantum(known) / max(1, points), noise)


def _all_yes_or_no(values: Sequence[float]) -> bool:
    return len(values) > 1 and all(value in (0.0, 1.0) for value in values)


def too_skewed(arms: Iterable[Mapping[int, float]]) -> float | None:
    """The largest standard deviation of logs over seeds of an arm, where it is above ``QUIET``; else None."""
    worst = 0.0
    for arm in arms:
        logs = [math.log(value) for value in arm.values() if value > 0]
        if len(logs) > 1:
            mean = math.fsum(logs) / len(logs)
            worst = max(worst, math.sqrt(math.fsum((log - mean) ** 2 for log in logs) / (len(logs) - 1)))
    return worst if worst > QUIET else None


def skewness(values: Sequence[float]) -> float:
    """Adjusted sample skewness G1 (Joanes and Gill 1998); 0 below three values or without spread."""
    n = len(values)
    if n < 3:
        return 0.0
    mean = math.fsum(values) / n
    second = math.fsum((value - mean) ** 2 for value in values) / n
    third = math.fsum((value - mean) ** 3 for value in values) / n
    if second <= 0:
        return 0.0
    return float(third / second**1.5 * math.sqrt(n * (n - 1)) / (n - 2))
