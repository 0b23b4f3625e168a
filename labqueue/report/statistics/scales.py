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
from labqueue.domain.measured import exponential
from labqueue.domain.views import RunView
from labqueue.report.statistics import intervals
from labqueue.report.statistics.exact_tests import Counted, Rate, Signs, Statistic, Strictest, Unvarying
from labqueue.report.statistics.pairing import items_of

Form = Literal["real", "positive", "share", "yes_no"]

LOG_ALLOWANCE = 1.4
"""How often p counts where a t test is made on logs. Logs of exponential numbers are skewed: without it a claim at its
edge is decided in 6.8 % of simulated experiments, with it in 5.1 % at most (``python -m benchmarks.verdicts``)."""

QUIET = 0.3
"""Standard deviation of the logs over seeds up to which a positive metric may be judged by differences: skewness grows
with it, and above it differences of such numbers are decided too often. The upper 90 % limit of what is seen must lie
below it. Assumption, checked by the same benchmark."""

NEAR_END, END_ALLOWANCE = 0.1, 2.0
"""How often p counts where a claim with a margin is about shares this near to 0 or 1: they are skewed where seeds
differ by more than their items explain. Without it 9 % of such claims are decided at their edge (same benchmark)."""

LATTICE_ALLOWANCE, COARSE = 1.1, 0.04
"""How often p counts where values lie on a lattice whose rounding alone makes more than that share of their variance.
Of values rounded to their own standard deviation eight seeds decide at the edge in 5.7 % of experiments without it,
with it at most in 5.4 % (same benchmark)."""

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

    def of_sum(
        self, sample: Mapping[int, float], parts: Sequence[Part], *, logs: bool = False, margin: bool = False
    ) -> Statistic:
        """The statistic of one number per seed, the weighted sum of ``parts`` (of their logs with ``logs``).

        At least two seeds. With ``margin`` the claim is about how far apart the parts are.
        """
        seeds, values = list(sample), list(sample.values())
        here = [(weight, [arm[seed] for seed in seeds]) for weight, arm in parts]
        if self.form == "yes_no":
            return self._yes_no(values, here)
        weight_sum = sum(abs(weight) for weight, _ in here) or 1.0
        noise = intervals.FLOAT32_ROUNDING if logs else self.noise * weight_sum
        if self.form == "share":
            return self._share(values, here, noise, margin=margin)
        if max(values) - min(values) <= noise:
            return Unvarying(math.fsum(values) / len(values), len(values), self.certain)
        least = 0.0 if logs else self.step**2 / 12 * sum(weight**2 for weight, _ in here)
        found = intervals.sample(values, least=least)
        if logs:
            return Counted(found, LOG_ALLOWANCE)
        return Counted(found, LATTICE_ALLOWANCE) if least > COARSE * found.se**2 * found.n else found

    def _yes_no(self, values: list[float], parts: Sequence[tuple[float, list[float]]]) -> Statistic:
        rates = [(weight, Rate(sum(value > 0.5 for value in arm), len(arm), len(arm))) for weight, arm in parts]
        if len(rates) == 1:
            return rates[0][1]
        below, above = sum(value < 0 for value in values), sum(value > 0 for value in values)
        # Of two arms the difference of rates is what people read; a slope has no rate of its own.
        known = tuple(rates) if len(rates) == 2 else ()
        return Signs(below, above, len(values), max(values) == min(values), rates=known)

    def _share(
        self, values: list[float], parts: Sequence[tuple[float, list[float]]], noise: float, *, margin: bool
    ) -> Statistic:
        same = max(values) - min(values) <= noise
        if self.certain and same:
            return Unvarying(math.fsum(values) / len(values), len(values), certain=True)
        if self.items is None:
            if same:
                return Unvarying(math.fsum(values) / len(values), len(values), certain=False)
            return intervals.sample(values)
        items = self.items
        rates = [(weight, _rate(arm, items)) for weight, arm in parts]
        if len(parts) > 1:
            found = intervals.sample(values, least=sum(w**2 * rate * (1 - rate) / items for w, rate in rates))
            near = any(min(rate, 1 - rate) < NEAR_END for _, rate in rates)
            if margin and near:
                return Counted(found, END_ALLOWANCE)
            # Of a ratio the arms have different weights, so that their skewness does not cancel.
            return Counted(found, LOG_ALLOWANCE) if margin and any(abs(w) != 1 for w, _ in parts) else found
        (_, rate) = rates[0]
        counts = [value * items for value in values]
        logits = [math.log((count + 0.5) / (items - count + 0.5)) for count in counts]
        total = items * len(values)
        yes = min(total, max(0, round(math.fsum(counts))))
        by_logit = Logits(intervals.sample(logits))
        by_t = intervals.sample(values, least=rate * (1 - rate) / items)
        # Each is wrong somewhere: the exact test where seeds differ by more than their items explain, t where shares
        # are skewed, logits at the ceiling, which cuts them off.
        return Strictest((by_t, by_logit, Rate(yes, total, len(values))), (0.0, 1.0))


def _rate(arm: Sequence[float], items: int) -> float:
    """(K + ½)/(M + 1) after K of M over all seeds: never 0 or 1, so that its binomial spread is none of them."""
    return (math.fsum(arm) * items + 0.5) / (items * len(arm) + 1)


@dataclass(frozen=True)
class Logits:
    """A t test of shares by their empirical logits log((k + ½)/(m − k + ½)) (Cox 1970), asked in shares: where seeds
    differ by more than their items explain, logits are far less skewed than the shares themselves."""

    of: intervals.Sample

    @property
    def n(self) -> int:
        """Number of seeds."""
        return self.of.n

    @property
    def identical(self) -> bool:
        """Every seed has the same share."""
        return self.of.identical

    def p_below(self, bound: float) -> float:
        """See ``Statistic``; a bound that no logit has is left to the exact test beside."""
        return self.of.p_below(math.log(bound / (1 - bound))) if 0 < bound < 1 else 0.0

    def p_above(self, bound: float) -> float:
        """See ``Statistic``."""
        return self.of.p_above(math.log(bound / (1 - bound))) if 0 < bound < 1 else 0.0

    def interval(self, level: float) -> tuple[float, float]:
        """See ``Statistic``."""
        low, high = (1 / (1 + exponential(-end)) for end in self.of.interval(level))
        return low, high


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
            # Where all are 0 or 1 they show no step of their own.
            step = intervals.quantum([0.0, *known, 1.0]) if set(known) - {0.0, 1.0} else 0.0
            items = round(1 / step) if step else None
        return Scale("share", None if items is None else items * points, certain, 0.0, noise)
    if declared == "positive" and known and min(known) > 0:
        return Scale("positive", None, certain, intervals.quantum(known) / max(1, points), noise)
    return Scale("real", None, certain, intervals.quantum(known) / max(1, points), noise)


def interval_of_mean(
    metric: Quantity, values: Mapping[int, float], runs: Iterable[RunView] = (), level: float = 1 - intervals.ALPHA
) -> tuple[float, float] | None:
    """The interval of a mean over seeds, as tables and figures show it: exact for yes and no, of shares never narrower
    than their items allow, and by t for all other numbers. None with one seed, and where seeds agree by chance.

    ``runs`` say how many items a share is of.
    """
    if len(values) < 2:
        return None
    scale = scale_of(metric, values.values(), items=items_of(metric, runs))
    found = scale.of_sum(values, [(1.0, values)]).interval(level)
    if found is None:
        return None
    least, most = metric.bounds
    return max(least, found[0]), min(most, found[1])


def _all_yes_or_no(values: Sequence[float]) -> bool:
    return len(values) > 1 and all(value in (0.0, 1.0) for value in values)


def too_skewed(arms: Iterable[Mapping[int, float]]) -> float | None:
    """The largest standard deviation of logs over seeds of an arm, where its upper 90 % limit is above ``QUIET``; else
    None."""
    from scipy.special import chdtri

    worst = None
    for arm in arms:
        logs = [math.log(value) for value in arm.values() if value > 0]
        if len(logs) > 1:
            mean = math.fsum(logs) / len(logs)
            squares = math.fsum((log - mean) ** 2 for log in logs)
            # chdtri inverts the upper tail: 0.9 of a chi-squared lies above.
            if math.sqrt(squares / float(chdtri(len(logs) - 1, 0.9))) > QUIET:
                worst = max(worst or 0.0, math.sqrt(squares / (len(logs) - 1)))
    return worst


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
