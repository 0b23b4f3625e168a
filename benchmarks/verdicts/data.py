"""Draws simulated experiments: laws whose truth is known, and the ways in which runs are lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy import optimize, special

from benchmarks.verdicts.statistic import Array, Flags, Scale

Rng = np.random.Generator
Shape = Literal["normal", "t3", "lognormal", "exponential", "binomial"]
Losses = Literal["complete", "crashed", "diverged", "never reached", "lost alike"]

LOSSES: tuple[Losses, ...] = ("complete", "crashed", "diverged", "never reached", "lost alike")

EULER = 0.57721566490153286
"""The log of an exponential value has mean −γ: its typical value is exp(−γ) of its mean."""


@dataclass(frozen=True)
class Law:
    """A distribution of one metric over seeds, the same in each arm but for its place and spread.

    A place is the mean of a real metric, the typical value (geometric mean) of a positive one, else the mean rate.
    """

    name: str
    shape: Shape
    scale: Scale
    middle: float = 0.0
    spread: float = 1.0
    """Standard deviation of real values or, of lognormal ones, of logs."""
    first: float = 1.0
    """By how much the first arm spreads more."""
    luck: float = 0.0
    """Standard deviation of what all arms of a seed share, in the unit of spread; of shares on the logit."""
    own: float = 0.0
    """Of shares: standard deviation on the logit of what each run adds."""

    @property
    def margin(self) -> float:
        """Such a difference of places is claimed where a claim names one."""
        return {"real": 40.0, "positive": 2.0}.get(self.scale.form, -0.3)

    @property
    def ratio(self) -> float:
        """Such a ratio of places is claimed."""
        return 0.6 if self.rates else 1.25

    @property
    def rates(self) -> bool:
        """Whether values are shares or yes and no."""
        return self.shape == "binomial"

    @property
    def worst(self) -> float:
        """A place far worse than the middle: above it where less is better, as ``low`` says."""
        return {"real": self.middle + 60.0 * self.first, "positive": self.middle * 1e4}.get(self.scale.form, 0.02)

    @property
    def low(self) -> bool:
        """Whether less is better."""
        return not self.rates

    def draw(self, rng: Rng, times: int, n: int, places: Sequence[float], *, typical: bool = False) -> Array:
        """Values [experiment, arm, seed]; ``typical``: places of rates are those of the median seed."""
        arms = len(places)
        luck = rng.normal(0, self.luck, (times, 1, n)) if self.luck else 0.0
        if self.rates:
            return self._rates(rng, (times, arms, n), places, luck, typical)
        wide = np.array([self.first] + [1.0] * (arms - 1))[:, None]
        where = np.asarray(places, float)[:, None]
        if self.scale.form == "real":
            return where + luck + self.spread * wide * _noise(rng, self.shape, (times, arms, n))
        if self.shape == "exponential":
            logs = np.log(rng.exponential(size=(times, arms, n))) + EULER
            if self.first != 1.0:  # a skewed arm against quiet ones
                logs[:, 1:] = rng.normal(0, 1 / self.first, (times, arms - 1, n))
        else:
            logs = self.spread * wide * rng.normal(size=(times, arms, n))
        return np.asarray(where * np.exp(logs + luck))

    def _rates(
        self, rng: Rng, size: tuple[int, int, int], places: Sequence[float], luck: Array | float, typical: bool
    ) -> Array:
        items = self.scale.items or 1
        if not self.luck and not self.own:
            rate: Array = np.asarray(places, float)[:, None]
        else:
            sd = 0.0 if typical else math.hypot(self.luck, self.own)
            at = np.array([logit_of_mean(place, sd) for place in places])[:, None]
            rate = special.expit(at + luck + (rng.normal(0, self.own, size) if self.own else 0.0))
        return np.asarray(rng.binomial(items, rate, size) / items)

    def mean(self, place: float) -> float:
        """The mean of the values at a place (of an arm that spreads as the second one does)."""
        if self.scale.form != "positive":
            return place
        return place * (math.exp(EULER) if self.shape == "exponential" else math.exp(self.spread**2 / 2))


def _noise(rng: Rng, shape: Shape, size: tuple[int, ...]) -> Array:
    """Of mean 0 and variance 1."""
    return rng.standard_t(3, size) / math.sqrt(3) if shape == "t3" else rng.normal(size=size)


@cache
def logit_of_mean(rate: float, sd: float) -> float:
    """The centre of a normal logit with that standard deviation whose mean rate is ``rate`` (Gauss–Hermite)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    return float(optimize.brentq(lambda at: (weights * special.expit(at + sd * nodes)).sum() - rate, -20, 20))


def lose(rng: Rng, values: Array, how: Losses) -> tuple[Array, Flags | None]:
    """Takes values away as runs that fare badly lose them: NaN. Bad is high, in the first arm.

    ``crashed``: three in ten of the worse half; ``diverged``: the worst fifth; ``never reached``: the worse half.
    """
    if how == "complete":
        return values, None
    found, first = values.copy(), values[:, 0]
    # Ties of rates are broken by chance, so that as many are lost.
    rank = first + 1e-9 * rng.random(first.shape)
    if how == "lost alike":
        own = values + 1e-9 * rng.random(values.shape)
        found[own > np.quantile(own, 0.8, axis=(0, 2), keepdims=True)] = np.nan
        return found, None
    if how == "crashed":
        gone = (rank > np.quantile(rank, 0.5)) & (rng.random(first.shape) < 0.3)
    else:
        gone = rank > np.quantile(rank, 0.8 if how == "diverged" else 0.5)
    first_found = found[:, 0]
    first_found[gone] = np.nan
    return found, gone


REAL, POSITIVE, YES_NO = Scale("real"), Scale("positive"), Scale("yes_no")


def _shares(items: int, rate: float, luck: float = 0.0, own: float = 0.0) -> Law:
    said = f"share of {items} at {rate:g}" + (", seed luck" if luck else "")
    return Law(said, "binomial", Scale("share", items), rate, luck=luck, own=own)


LAWS: tuple[Law, ...] = (
    Law("normal", "normal", REAL),
    Law("t3", "t3", REAL),
    Law("normal, seed luck", "normal", REAL, luck=6.0),
    Law("t3, seed luck", "t3", REAL, luck=6.0),
    Law("normal, sd 10:1", "normal", REAL, first=10.0),
    Law("lognormal 0.1", "lognormal", POSITIVE, 1.0, 0.1),
    Law("lognormal 0.5", "lognormal", POSITIVE, 1.0, 0.5),
    Law("lognormal 1", "lognormal", POSITIVE, 1.0, 1.0),
    Law("exponential", "exponential", POSITIVE, 1.0),
    Law("lognormal 0.1, nullable", "lognormal", Scale("positive", nullable=True), 1.0, 0.1),
    Law("lognormal, sd 10:1", "lognormal", POSITIVE, 1.0, 0.1, 10.0),
    Law("exponential, sd 10:1", "exponential", POSITIVE, 1.0, 0.1, 10.0),
    *(_shares(items, rate) for items in (24, 256) for rate in (0.5, 0.9, 0.98)),
    *(_shares(items, rate, 1.0, 0.5) for items in (24, 256) for rate in (0.5, 0.9, 0.98)),
    *(Law(f"yes/no at {rate:g}", "binomial", YES_NO, rate) for rate in (0.5, 0.8, 0.98)),
    Law("yes/no at 0.8, seed luck", "binomial", YES_NO, 0.8, luck=1.0, own=0.5),
)
"""All laws of the cells."""


def law(name: str) -> Law:
    """The law of that name."""
    return next(one for one in LAWS if one.name == name)
