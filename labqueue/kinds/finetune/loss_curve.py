"""Summarizes a loss curve by stated rules: drop, plateau, divergence, overfitting, gap. Pure; knows no model, no run.

A held-out curve is ``(step, loss)`` by step, its first point before the first step; training loss comes as means over
equal parts of the run (``Smoothed``). Losses are nats per token of the same kind of token in both. A rule that has too
little to go on answers None, which is "cannot be said", never "no".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

Point = tuple[int, float]

MIN_POINTS = 8
"""Held-out points below which no plateau is looked for: with five, a window of one point always looks flat."""
MIN_WINDOW = 5
"""Held-out points that a plateau must span: the slope of fewer is noise."""
FLAT_SHARE = 0.1
"""A plateau's slope, kept up for a whole run, would move the loss by less than this share of the total drop."""
MIN_DROP_SHARE = 0.05
"""A total drop below this share of the first loss is no learning: there are no phases to read."""
LOST_SHARE = 0.5
"""A run that has lost this share of what it had gained has diverged, finite or not."""
ABOVE_START = 1.01
"""As has one whose held-out loss ends above this many times the untrained model's, with training loss above it too."""
EXPLODED = 1.5
"""As has one whose training loss was, over a tenth of the run, this many times the untrained model's: a falling rate
can bring such a run back to a poor loss, but what the model was is gone."""
RISE_SHARE = 0.05
"""A held-out rise is overfitting from this share of the total drop on."""
NOISE_SIGMAS = 4.0
"""And from this many standard deviations of the held-out curve's own roughness."""

PARTS = 200
"""Means of training loss that are kept at most; 20 in each tenth of the run, over which it is smoothed."""


@dataclass
class Smoothed:
    """Training loss as sums over at most ``PARTS`` equal parts of a run: small enough for every checkpoint."""

    steps: int
    sums: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sums = self.sums or [0.0] * min(self.steps, PARTS)
        self.counts = self.counts or [0] * min(self.steps, PARTS)

    def take(self, step: int, loss: float) -> None:
        """The training loss of a step, 1 to ``steps``."""
        part = (step - 1) * len(self.sums) // self.steps
        self.sums[part] += loss
        self.counts[part] += 1

    def tenth(self, step: int) -> float | None:
        """Mean over the tenth of the run that ends with ``step`` (one part at least); None where nothing was told."""
        last = max(0, step - 1) * len(self.sums) // self.steps
        width = max(1, len(self.sums) // 10)
        chosen = slice(max(0, last + 1 - width), last + 1)
        count = sum(self.counts[chosen])
        return math.fsum(self.sums[chosen]) / count if count else None

    def tenths(self) -> list[float]:
        """The means of ``tenth`` after each part, from the first whole tenth on."""
        width = max(1, len(self.sums) // 10)
        told = [part for part, count in enumerate(self.counts) if count]
        whole = [part for part in range(width - 1, len(self.sums)) if told and part <= told[-1]]
        means = []
        for part in whole:
            chosen = slice(part + 1 - width, part + 1)
            if count := sum(self.counts[chosen]):
                means.append(math.fsum(self.sums[chosen]) / count)
        return means


@dataclass(frozen=True)
class CurveSummary:
    """What a curve shows; None where it cannot be said. Steps are optimizer steps, losses nats per token."""

    total_drop: float
    """First held-out loss minus the lowest."""
    eval_loss_min_step: int
    steps_to_80_percent: float | None
    plateau_step: int | None
    overfit_rise: float
    """Last held-out loss minus the lowest."""
    overfit: bool | None
    gap: float | None
    """Last held-out loss minus the training loss of the last tenth of the run."""
    diverged: bool


MEASURED = ("gap", "eval_loss_min_step", "plateau_step", "overfit_rise", "overfit", "steps_to_80_percent", "diverged")
"""Readings that are recorded as metrics, at a run's last step; yes is 1, no is 0."""


def read(held_out: Sequence[Point], train: Smoothed, *, finite: bool = True) -> CurveSummary:
    """Reads a curve by the rules of this module; ``finite`` is False for a run that ended at a NaN or an infinity.

    Raises:
        ValueError: there is no held-out point, or one is not finite.
    """
    if not held_out or not all(math.isfinite(loss) for _, loss in held_out):
        raise ValueError("a curve is read from at least one finite held-out loss")
    first, (last_step, last) = held_out[0][1], held_out[-1]
    low_step, low = min(held_out, key=lambda point: (point[1], point[0]))
    broken = not finite or diverged(first, last, train.tenths())
    end = train.tenth(last_step)
    return CurveSummary(
        total_drop=first - low,
        eval_loss_min_step=low_step,
        steps_to_80_percent=None if broken else steps_to_share(held_out, 0.8),
        plateau_step=None if broken else plateau_step(held_out),
        overfit_rise=last - low,
        overfit=None if broken else overfitted(held_out, train),
        gap=None if end is None else last - end,
        diverged=broken,
    )


def steps_to_share(held_out: Sequence[Point], share: float) -> float | None:
    """The step at which ``share`` of the curve's own total drop is reached, on the line between two evaluations.

    None for a curve that drops by less than ``MIN_DROP_SHARE``: a rate that learns nothing is not fast.
    """
    first, low = held_out[0][1], min(loss for _, loss in held_out)
    if not _learned(first, low):
        return None
    target = first - share * (first - low)
    (step, loss) = held_out[0]
    for later, then in held_out[1:]:
        if then <= target:
            return step + (later - step) * (loss - target) / (loss - then)
        step, loss = later, then
    return None


def plateau_step(held_out: Sequence[Point]) -> int | None:
    """The first evaluation from which on the curve is flat to its end.

    Flat: the Theil–Sen slope (median of the slopes of all pairs) over the rest, times the length of the run, is below
    ``FLAT_SHARE`` of the total drop, either way, and its first loss is that near to the median of the rest: a median
    of slopes alone lets a third of the points still fall. None with fewer than ``MIN_POINTS`` evaluations, without a
    drop, or where no rest of ``MIN_WINDOW`` evaluations is flat.
    """
    first, low = held_out[0][1], min(loss for _, loss in held_out)
    if len(held_out) < MIN_POINTS or not _learned(first, low):
        return None
    length = held_out[-1][0] - held_out[0][0]
    near = FLAT_SHARE * (first - low)
    flat: int | None = None
    # From the end: a curve that moves again after a rest has not reached its plateau there.
    for start in range(len(held_out) - MIN_WINDOW, -1, -1):
        rest = held_out[start:]
        if abs(theil_sen(rest)) * length >= near:
            break
        if abs(rest[0][1] - statistics.median(loss for _, loss in rest)) < near:
            flat = rest[0][0]
    return flat


def theil_sen(points: Sequence[Point]) -> float:
    """Median of the slopes of all pairs (Theil 1950; Sen 1968): one odd point does not move it. Per step."""
    slopes = [
        (loss - points[one][1]) / (step - points[one][0])
        for other, (step, loss) in enumerate(points)
        for one in range(other)
    ]
    return statistics.median(slopes)


def diverged(untrained: float, last: float, tenths: Sequence[float]) -> bool:
    """Whether training exploded or collapsed though its loss stayed finite.

    ``untrained`` and ``last`` are the held-out losses before the first step and after the last, ``tenths`` running
    means of training loss over a tenth of the run. True when the run ends worse than the untrained model
    (``ABOVE_START``) on held-out and training rows alike, when training loss was ``EXPLODED`` times ``untrained`` over
    a tenth of the run, or when it has given back ``LOST_SHARE`` of the way from there to its lowest, if that is at
    least ``2 * MIN_DROP_SHARE`` of ``untrained``. A short spike that heals is neither, nor is a model that memorizes
    its training rows.
    """
    if not tenths:
        return False
    end, low = tenths[-1], min(tenths)
    worse = last > ABOVE_START * untrained and end > untrained
    exploded = max(tenths) > EXPLODED * untrained
    return worse or exploded or end - low >= max(LOST_SHARE * (untrained - low), 2 * MIN_DROP_SHARE * untrained)


def overfitted(held_out: Sequence[Point], train: Smoothed) -> bool | None:
    """Whether held-out loss turned up while training loss went on falling.

    The rise from its lowest to its end, each the median of three evaluations, is at least ``RISE_SHARE`` of the total
    drop and ``NOISE_SIGMAS`` times the curve's roughness, and training loss is lower in the last tenth than in the
    tenth that ends at the turn. None with fewer than ``MIN_POINTS`` evaluations.
    """
    if len(held_out) < MIN_POINTS:
        return None
    at = min(range(len(held_out)), key=lambda number: held_out[number][1])
    low_step, low = held_out[at]
    then, now = train.tenth(low_step), train.tenth(held_out[-1][0])
    if low_step == 0 or then is None or now is None:
        return False
    losses = [loss for _, loss in held_out]
    # The lowest of many noisy values is low by luck: its neighbours say how low the curve is there.
    rise = statistics.median(losses[-3:]) - statistics.median(losses[max(0, at - 1) : at + 2])
    return rise >= max(RISE_SHARE * (held_out[0][1] - low), NOISE_SIGMAS * roughness(held_out)) and now < then


def roughness(held_out: Sequence[Point]) -> float:
    """Standard deviation of the curve about itself, from second differences over its later half: what is smooth in it
    (drop, slope, a slow rise) cancels."""
    losses = [loss for _, loss in held_out[len(held_out) // 2 :]]
    bends = [losses[n - 1] - 2 * losses[n] + losses[n + 1] for n in range(1, len(losses) - 1)]
    # A second difference of independent values has 1 + 4 + 1 = 6 times their variance.
    return math.sqrt(math.fsum(bend**2 for bend in bends) / (6 * len(bends))) if bends else 0.0


def table(reading: CurveSummary, steps: int) -> tuple[tuple[str, str | int | float | bool | None, str], ...]:
    """``(feature, value, rule)`` rows, for people."""
    return (
        ("phases", _phases(reading, steps), "fast until 80 % of the total drop, slow until the plateau, flat after it"),
        ("diverged", reading.diverged, DIVERGED_RULE),
        ("total_drop", reading.total_drop, "first held-out loss minus the lowest, nats per token"),
        ("steps_to_80_percent", reading.steps_to_80_percent, "step at 80 % of that drop; none if diverged or no drop"),
        ("plateau_step", reading.plateau_step, PLATEAU_RULE),
        ("eval_loss_min_step", reading.eval_loss_min_step, "step of the lowest held-out loss"),
        ("overfit", reading.overfit, OVERFIT_RULE),
        ("overfit_rise", reading.overfit_rise, "last held-out loss minus the lowest, nats per token"),
        ("gap", reading.gap, "last held-out loss minus mean training loss of the last tenth, nats per token"),
    )


DIVERGED_RULE = (
    f"not finite; or held-out loss ends above {ABOVE_START:g} times the untrained model's and training loss above it; "
    f"or training loss was {EXPLODED:g} times it over a tenth of the run, or has given back {LOST_SHARE:.0%} of its "
    f"fall and at least {2 * MIN_DROP_SHARE:.0%} of the untrained model's loss"
)
PLATEAU_RULE = (
    f"first of at least {MIN_WINDOW} evaluations to the end whose Theil-Sen slope, over a whole run, is below "
    f"{FLAT_SHARE:.0%} of the total drop, the first within that of their median; none below {MIN_POINTS} evaluations"
)
OVERFIT_RULE = (
    f"held-out loss (median of three) ends at least {RISE_SHARE:.0%} of the total drop and {NOISE_SIGMAS:g} times its "
    f"roughness above its lowest while training loss fell; none below {MIN_POINTS} evaluations"
)


def _phases(reading: CurveSummary, steps: int) -> str:
    if reading.diverged:
        return "diverged"
    if reading.steps_to_80_percent is None:
        return "no drop"
    fast = reading.steps_to_80_percent
    if reading.plateau_step is None:
        return f"fast to step {fast:.0f}, slow to the end ({steps})"
    slow = max(float(reading.plateau_step), fast)
    return f"fast to step {fast:.0f}, slow to step {slow:.0f}, flat to the end ({steps})"


def _learned(first: float, low: float) -> bool:
    return first - low >= MIN_DROP_SHARE * first
