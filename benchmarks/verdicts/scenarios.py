"""Names single scenarios: those of the audit that this rule answers, families of claims, looks, and odd metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.verdicts import rule, rule_axis
from benchmarks.verdicts.cells import Cell, Draw
from benchmarks.verdicts.data import POSITIVE, REAL, Law, Rng, law, lose
from benchmarks.verdicts.rule import Outcome, Region
from benchmarks.verdicts.statistic import Array, Scale

BELOW_0: Region = (-math.inf, 0.0)
NORMAL, T3, WIDE = (replace(law(name), luck=6.0) for name in ("normal", "t3", "normal, sd 10:1"))
COMPARED = 8
"""Claims of one experiment."""


def _cell(name: str, draw: Any, *claims: Callable[[Array], Outcome], losses: str = "complete", **fields: Any) -> Cell:
    def drawn(rng: Rng, times: int, n: int) -> Draw:
        return Draw(draw(rng, times, n))

    return Cell("scenario", name, losses, drawn, lambda data: [claim(data.values) for claim in claims], **fields)


def _of(one: Law, places: Sequence[float]) -> Any:
    return lambda rng, times, n: one.draw(rng, times, n, places)


def _difference(scale: Scale) -> Callable[[Array], Outcome]:
    return lambda values: rule.compare(values, scale, region=BELOW_0)


def _half(scale: Scale) -> Callable[[Array], Outcome]:
    return lambda values: rule.threshold(values, (-math.inf, 0.5), scale)


def _family(scale: Scale) -> list[Callable[[Array], Outcome]]:
    """Each of eight arms against the first one."""
    return [
        lambda values, arm=arm: rule.compare(values[:, [0, arm]], scale, region=BELOW_0)  # type: ignore[misc]  # arm has its default
        for arm in range(1, COMPARED + 1)
    ]


def _mixed(one: Law) -> list[Callable[[Array], Outcome]]:
    """Eight claims of several forms about the same arms."""
    scale, below = one.scale, (-math.inf, one.middle)
    return [
        lambda values: rule.compare(values[:, [0, 1]], scale, region=BELOW_0),
        lambda values: rule.compare(values[:, [0, 2]], scale, region=BELOW_0),
        lambda values: rule.compare(values[:, [1, 2]], scale, region=(0.0, math.inf)),
        lambda values: rule.threshold(values[:, [0]], below, scale),
        lambda values: rule.threshold(values[:, [3]], below, scale),
        lambda values: rule_axis.trend(values, [1, 2, 3, 4], scale, rises=True),
        lambda values: rule_axis.optimum(values, [1, 2], scale, low=True),
        lambda values: rule_axis.optimum(values, [3], scale, low=False),
    ]


def _missing() -> Any:
    """The worse half of the first arm's runs ends without a number, as its own part of the noise says."""

    def draw(rng: Rng, times: int, n: int) -> Array:
        own, rest = rng.normal(size=(times, n)), rng.normal(size=(times, 2, n))
        first = np.where(own > 0, np.nan, rest[:, 0] + own)
        return np.stack([first, own + rest[:, 1]], 1)

    return draw


def _steps_or_never(rng: Rng, times: int, n: int) -> Array:
    return np.where(rng.random((times, 1, n)) < 0.5, rng.normal(12, 2, (times, 1, n)), np.nan)


def _ended_early(rng: Rng, times: int, n: int) -> Array:
    return np.where(rng.random((times, 1, n)) < 0.5, np.inf, rng.integers(40, 60, (times, 1, n)).astype(float))


def _rounded(step: float, luck: float = 0.0) -> Any:
    def draw(rng: Rng, times: int, n: int) -> Array:
        values = rng.normal(size=(times, 2, n)) + luck * rng.normal(size=(times, 1, n))
        return np.rint(values / step) * step

    return draw


def _undeclared_share(items: int, rate: float) -> Any:
    return lambda rng, times, n: rng.binomial(items, rate, (times, 2, n)) / items


def _one_losing_rival(rng: Rng, times: int, n: int) -> Array:
    values = rng.normal(size=(times, 2, n))
    found, _ = lose(rng, values, "crashed")
    return found


def _same_seeds_lost(rng: Rng, times: int, n: int) -> Array:
    luck = rng.normal(size=(times, 1, n))
    values = 6 * luck + rng.normal(size=(times, 2, n))
    return np.where(luck > 0.84, np.nan, values)


def _skewed_against_quiet(rng: Rng, times: int, n: int) -> Array:
    spread = np.array([1.0, 0.1])[None, :, None]
    return np.exp(spread * rng.normal(size=(times, 2, n)) + rng.normal(size=(times, 1, n)))


def scenarios() -> list[Cell]:
    """All named scenarios."""
    shares, certain = law("share of 24 at 0.9"), Scale("real", deterministic=True)
    equal, normal = [0.0] * 5, law("normal")
    in_all = Scale("real", lattice=1 / 24)
    return [
        *(
            _cell(f"compare, no effect, {one.name}, seed luck", _of(one, [0.0, 0.0]), _difference(REAL))
            for one in (NORMAL, T3, WIDE)
        ),
        _cell(
            "within 3 at its edge (supported is false)",
            _of(NORMAL, [3.0, 0.0]),
            lambda values: rule.compare(values, REAL, region=(-3.0, 3.0)),
            only_supported=True,
        ),
        _cell(
            "best_at, 5 equal values, one claimed",
            _of(normal, equal),
            lambda values: rule_axis.optimum(values, [0], REAL, low=True),
        ),
        _cell(
            "minimum_inside, all equal",
            _of(normal, equal),
            lambda values: rule_axis.optimum(values, [1, 2, 3], REAL, low=True),
        ),
        _cell(
            "flat, one value exactly at the tolerance",
            _of(normal, [0.0, 0.0, 0.0, 3.0]),
            lambda values: rule_axis.flat(values, 3.0, REAL),
            only_supported=True,
        ),
        _cell(
            "trend rises, all equal",
            _of(normal, [0.0] * 4),
            lambda values: rule_axis.trend(values, [1, 2, 3, 4], REAL, rises=True),
        ),
        _cell("share of 24 items, two arms at 0.9", _of(shares, [0.9, 0.9]), _difference(shares.scale)),
        _cell(
            "lognormal 0.5, declared positive, threshold at its typical value",
            _of(law("lognormal 0.5"), [1.0]),
            lambda values: rule.threshold(values, (-math.inf, 1.0), POSITIVE),
        ),
        _cell("lognormal 1 against a quiet arm, declared positive", _skewed_against_quiet, _difference(POSITIVE)),
        _cell(
            "share of 24 items at its bound 0.98",
            _of(shares, [0.98]),
            lambda values: rule.threshold(values, (0.98, math.inf), shares.scale),
        ),
        _cell(
            "yes/no, true rate at the bound 0.5",
            _of(law("yes/no at 0.5"), [0.5]),
            lambda values: rule.threshold(values, (0.5, math.inf), Scale("yes_no")),
        ),
        *(
            _cell(f"a's worse half ends {how}", _missing(), _difference(REAL), losses=how, may_refuse=True)
            for how in ("diverged", "crashed", "timed out", "without the metric")
        ),
        _cell(
            "threshold on steps, half of all runs never get there",
            _steps_or_never,
            # Of three seeds all get there once in eight times, and then nothing is missing.
            lambda values: rule.threshold(values, (-math.inf, 40.0), replace(POSITIVE, nullable=True)),
            losses="without the metric",
            may_refuse=True,
        ),
        _cell(
            "crosses before 100, half of all runs stop at 90 without crossing",
            _ended_early,
            lambda values: rule_axis.crosses(values[:, 0], 100.0),
            losses="never reached",
            may_refuse=True,
        ),
        _cell(
            "unregistered looks: at 3, then more seeds while undecided",
            _of(NORMAL, [0.0, 0.0]),
            _difference(REAL),
            looks=((3, 5), (3, 5, 8, 10)),
            unregistered=True,
        ),
        *(
            _cell(f"any of {COMPARED} claims against one arm, {name}", _of(law(name), [law(name).middle] * 9), *claims)
            for name in ("normal", "t3", "normal, seed luck", "lognormal 0.5", "exponential", *SHARES, "yes/no at 0.5")
            for claims in [_family(law(name).scale)]
        ),
        *(
            _cell(f"any of {COMPARED} claims of several forms, {name}", _of(law(name), [law(name).middle] * 4), *claims)
            for name in ("normal", "t3", "lognormal 0.5", "exponential", *SHARES, "yes/no at 0.5")
            for claims in [_mixed(law(name))]
        ),
        *(
            _cell(f"rounded to {step:g} sd", _rounded(step, luck), _difference(Scale("real", lattice=step)))
            for step, luck in ((0.5, 0.0), (1.0, 0.0), (2.0, 0.0))
        ),
        *(
            _cell(f"share of 24 at {rate:g}, declared real", _undeclared_share(24, rate), _difference(in_all))
            for rate in (0.5, 0.9, 0.98)
        ),
        _cell("deterministic and equal", lambda _, times, n: np.full((times, 2, n), 7.0), _difference(certain)),
        _cell(
            "seeds lost in all arms by their common luck",
            _same_seeds_lost,
            _difference(REAL),
            losses="lost alike",
            may_refuse=True,
        ),
        _cell(
            "ratio 1 of values near 0, declared real",
            lambda rng, times, n: 2.0 + rng.normal(size=(times, 2, n)),
            lambda values: rule.compare(values, REAL, ratio=(-math.inf, 1.0)),
            may_refuse=True,  # where b has a value that is not above 0
        ),
        *(
            _cell(
                f"yes/no averaged over {points} sweep points, seed luck {luck:g}: {what}",
                _of(Law("", "binomial", Scale("share", points), 0.5, luck=luck), [0.5] * arms),
                claim,
            )
            for points in (3, 5)
            for luck in (0.0, 1.0)
            for what, arms, claim in (
                ("difference", 2, _difference(Scale("share", points))),
                ("threshold", 1, _half(Scale("share", points))),
            )
        ),
    ]


SHARES = ("share of 24 at 0.9", "share of 256 at 0.9")
