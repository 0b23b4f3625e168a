"""Lists the cells: every form of prediction × law of the data × ways to lose runs, each at the edge of its claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.verdicts import rule, rule_axis
from benchmarks.verdicts.data import EULER, LAWS, LOSSES, Law, Losses, Rng, lose
from benchmarks.verdicts.rule import Outcome
from benchmarks.verdicts.statistic import Array, Flags

SIZES = (2, 3, 5, 6, 8, 10)
LOOKS = ((3, 5), (3, 5, 8))


@dataclass(frozen=True)
class Draw:
    """Simulated experiments of one cell."""

    values: Array
    """[experiment, arm, seed], NaN lost."""
    lost: Flags | None = None
    """[experiment, arm, seed]: lost although there is a number."""

    def seeds_outside(self) -> Draw:
        """The same with experiments contiguous in memory: sums over a few seeds are several times faster."""
        return Draw(np.asfortranarray(self.values), None if self.lost is None else np.asfortranarray(self.lost))

    def first(self, n: int) -> Draw:
        """The first n seeds."""
        return Draw(self.values[..., :n], None if self.lost is None else self.lost[..., :n])


@dataclass(frozen=True)
class Cell:
    """Simulated experiments whose truth lies on the edge of what is claimed: every decision is false."""

    form: str
    data: str
    losses: str
    draw: Callable[[Rng, int, int], Draw]
    """(source, experiments, seeds)."""
    claims: Callable[[Draw], list[Outcome]]
    covers: Callable[[Outcome], Array] | None = None
    """[experiment]: the true value of what the interval is of."""
    may_refuse: bool = False
    only_supported: bool = False
    """Whether a refutation is no error: the truth lies outside the claim."""
    sizes: tuple[int, ...] = SIZES
    looks: tuple[tuple[int, ...], ...] = LOOKS
    unregistered: bool = False
    """Whether looks are unregistered ones: only the first can decide."""
    factor: float = 1.0
    """How many experiments are simulated, relative to the others."""

    @property
    def name(self) -> str:
        """Form, data and losses."""
        return f"{self.form} · {self.data} · {self.losses}"


@dataclass(frozen=True)
class Form:
    """A form of prediction at its edge: the places of the arms, the judgement, the true value."""

    name: str
    places: Callable[[Law], Sequence[float]]
    judge: Callable[[Law, Draw], Outcome]
    truth: Callable[[Law, Outcome], Array | float] | None
    """Of what the interval is of; None where that depends on which arms are compared."""
    refuses: Callable[[Law], bool] = lambda _: False


def _yes_no(law: Law) -> bool:
    return law.scale.form == "yes_no"


def _refused_always(form: Form, law: Law) -> bool:
    return _yes_no(law) and form.refuses(law)


def _margins(law: Law) -> bool:
    """Claims about a difference other than 0: not of yes and no, nor of positive values that are skewed."""
    return law.scale.form in ("yes_no", "positive")


def edge(law: Law) -> float:
    """The difference of the means of two arms that are the margin apart."""
    return law.mean(law.middle + law.margin) - law.mean(law.middle)


def edge_of_first(law: Law) -> float:
    """The same, where the first arm's spread differs (a mean of lognormal values grows with it)."""
    if law.scale.form != "positive" or law.first == 1.0:
        return edge(law)
    wide = math.exp((law.spread * law.first) ** 2 / 2) if law.shape == "lognormal" else math.exp(EULER)
    return (law.middle + law.margin) * wide - law.middle * math.exp((1 / law.first) ** 2 / 2)


def _scaled(law: Law) -> float:
    """A middle from which values stay above 0."""
    return law.middle if law.scale.form != "real" else 100.0


def _below(edge: float) -> rule.Region:
    return (-math.inf, edge)


def _difference(law: Law, draw: Draw) -> Outcome:
    return rule.compare(draw.values, law.scale, region=_below(0.0))


def _by_margin(law: Law, draw: Draw) -> Outcome:
    return rule.compare(draw.values, law.scale, region=_below(edge_of_first(law)))


def _within(law: Law, draw: Draw) -> Outcome:
    margin = abs(edge_of_first(law))
    return rule.compare(draw.values, law.scale, region=(-margin, margin))


def _ratio(law: Law, draw: Draw) -> Outcome:
    return rule.compare(draw.values, law.scale, ratio=_below(law.ratio))


def _threshold(law: Law, draw: Draw) -> Outcome:
    return rule.threshold(draw.values, _below(law.middle), law.scale)


def _rises(law: Law, draw: Draw) -> Outcome:
    return rule_axis.trend(draw.values, range(1, draw.values.shape[1] + 1), law.scale, rises=True)


def _flat(law: Law, draw: Draw) -> Outcome:
    return rule_axis.flat(draw.values, abs(edge(law)), law.scale)


def _inside(law: Law, draw: Draw) -> Outcome:
    return rule_axis.optimum(draw.values, [1, 2, 3], law.scale, low=law.low)


def _best(law: Law, draw: Draw) -> Outcome:
    return rule_axis.optimum(draw.values, [0], law.scale, low=law.low, lost=draw.lost)


def _best_two(law: Law, draw: Draw) -> Outcome:
    return rule_axis.optimum(draw.values, [0, 1], law.scale, low=law.low, lost=draw.lost)


def _nothing(*_: object) -> float:
    return 0.0


def _margin(law: Law, _: Outcome) -> float:
    return edge_of_first(law)


def _typical(law: Law, _: Outcome) -> float:
    return math.log(law.middle) if law.scale.form == "positive" else law.middle


def _log_ratio(law: Law, _: Outcome) -> float:
    return math.log(law.ratio)


def _widest(law: Law, found: Outcome) -> Array:
    """The true difference of the pair of arms that was shown; the last arm is the one at the edge."""
    assert found.pair is not None
    means = np.array([law.mean(place) for place in [law.middle] * 3 + [law.middle + law.margin]])
    if law.scale.form == "positive" and law.first != 1.0:
        means[0] = law.middle * math.exp(
            (law.spread * law.first) ** 2 / 2 if law.shape == "lognormal" else 0.5772156649
        )
    return np.asarray(means[found.pair[0]] - means[found.pair[1]])


FORMS: tuple[Form, ...] = (
    Form("difference_below 0", lambda law: [law.middle] * 2, _difference, _nothing),
    Form(
        "difference_below margin",
        lambda law: [law.middle + law.margin, law.middle],
        _by_margin,
        _margin,
        _margins,
    ),
    Form(
        "within",
        lambda law: [law.middle + law.margin, law.middle],
        _within,
        _margin,
        _margins,
    ),
    Form("ratio_below", lambda law: [_scaled(law) * law.ratio, _scaled(law)], _ratio, _log_ratio, _yes_no),
    Form("threshold", lambda law: [law.middle], _threshold, _typical),
    Form("rises", lambda law: [law.middle] * 4, _rises, _nothing),
    Form("flat", lambda law: [law.middle] * 3 + [law.middle + law.margin], _flat, _widest, _margins),
    Form("minimum_inside", lambda law: [law.middle] * 5, _inside, _nothing),
    Form("best_at, all tied", lambda law: [law.middle] * 5, _best, _nothing),
    Form("best_at, two tied", lambda law: [law.middle] * 2 + [law.worst] * 3, _best, None),
    Form("best_at, two claimed", lambda law: [law.middle] * 5, _best_two, _nothing),
)


def _cell(form: Form, law: Law, how: Losses) -> Cell:
    def draw(rng: Rng, times: int, n: int) -> Draw:
        # A threshold on a share is one of the typical seed.
        typical = form.name == "threshold" and law.scale.form == "share"
        values = law.draw(rng, times, n, form.places(law), typical=typical)
        if how == "diverged" and form.name.startswith("best_at"):
            # By the rule of their curves: the worst fifth of the second arm's runs have numbers and are lost.
            turned = values[:, [1, 0, *range(2, values.shape[1])]]
            _, gone = lose(rng, turned if law.low else -turned, how)
            marks = np.zeros(values.shape, bool)
            marks[:, 1] = gone
            return Draw(values, marks)
        return Draw(lose(rng, values, how)[0])

    truth = form.truth if how == "complete" and not _refused_always(form, law) else None
    return Cell(
        form.name,
        law.name,
        how,
        draw,
        lambda drawn: [form.judge(law, drawn)],
        None if truth is None else lambda found: np.broadcast_to(truth(law, found), found.low.shape),
        may_refuse=form.refuses(law) or law.scale.nullable or how != "complete",
    )


# ---- crosses: the first step at which a value is reached, before step 100

STEPS: dict[str, Callable[[Rng, tuple[int, int]], Array]] = {
    "normal": lambda rng, size: 100 + 15 * rng.normal(size=size),
    "t3": lambda rng, size: np.maximum(100 + 8 * rng.standard_t(3, size), 1),
    "lognormal 0.5": lambda rng, size: 100 * np.exp(0.5 * rng.normal(size=size)),
    "exponential": lambda rng, size: 100 * np.exp(EULER) * rng.exponential(size=size),
    "exponential, at its median": lambda rng, size: 100 / math.log(2) * rng.exponential(size=size),
    "every tenth step": lambda rng, size: 10 * np.ceil(10 * np.exp(0.5 * rng.normal(size=size))) - 9,
}


def crossing_steps(name: str, how: str, rng: Rng, times: int, n: int) -> Array:
    """Steps [experiment, seed] at which half of all runs are in time; inf is never, NaN a run that was lost."""
    values = STEPS[name](rng, (times, n))
    if how == "some never":  # one in ten, and one in two of all gets there in time
        never = rng.random(values.shape) < 0.1
        return np.where(never, np.inf, values * (100 / np.quantile(values, 0.5 / 0.9)))
    if how == "half never":
        return np.where(rng.random(values.shape) < 0.5, np.inf, np.minimum(values, 99.0))
    if how == "crashed":
        return lose(rng, values[:, None], "crashed")[0][:, 0]
    return values


def _crossing(name: str, how: str) -> Cell:
    def draw(rng: Rng, times: int, n: int) -> Draw:
        return Draw(crossing_steps(name, how, rng, times, n)[:, None])

    return Cell(
        "crosses",
        name,
        how,
        draw,
        lambda drawn: [rule_axis.crosses(drawn.values[:, 0], 100.0)],
        (lambda found: np.full(found.low.shape, math.log(100.0)))
        if how == "complete" and name not in ("exponential, at its median", "every tenth step")
        else None,
        may_refuse=True,
    )


def cells() -> list[Cell]:
    """All cells of the grid; the named ones are in ``scenarios``."""
    found = [
        _cell(form, law, how)
        for form in FORMS
        for law in LAWS
        for how in LOSSES
        if not (form.name == "threshold" and (how == "lost alike" or "10:1" in law.name))
    ]
    found += [_crossing(name, how) for name in STEPS for how in ("complete", "some never", "half never", "crashed")]
    return found
