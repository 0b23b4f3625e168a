"""How often a verdict is wrong at no effect, and how often it is found where there is one: simulated sweeps.

    python -m benchmarks.verdicts [--times 2000]

Two arms over n seeds share each seed's luck (standard deviation 0.3) and differ by noise (0.05 each) and the effect;
the claim is "a is below b". At no effect supported and refuted together must stay at or below 5 %. Power is beside
that of an exact paired t test at 5 %, from the noncentral t distribution. Exit 1 when a rate is above its bound.
"""

from __future__ import annotations

import argparse
import math
import sys

import numpy
from scipy import stats

from labqueue.report.statistics.verdicts import judge
from tests.report.factories import Series, make_experiment, make_run, prediction

SEED_SD, NOISE_SD, ALPHA = 0.3, 0.05, 0.05


def rates(effect: float, n: int, times: int) -> tuple[float, float]:
    """(share supported, share refuted) of ``times`` experiments with ``n`` paired seeds."""
    claim = prediction(compare={"metric": "loss", "a": {"x": 1}, "b": {"x": 2}, "difference_below": 0.0})
    source = numpy.random.default_rng([n, round(1000 * abs(effect))])
    luck = source.normal(2, SEED_SD, (times, n))
    a = luck + effect + source.normal(0, NOISE_SD, (times, n))
    b = luck + source.normal(0, NOISE_SD, (times, n))
    found = []
    for pair in zip(a, b, strict=True):
        runs = [
            make_run(100 * arm + seed, {"x": arm}, seed, {"loss": float(value)})
            for arm, values in enumerate(pair, start=1)
            for seed, value in enumerate(values)
        ]
        found.append(judge(make_experiment(runs, [claim]), Series())[0].verdict)
    return found.count("supported") / times, found.count("refuted") / times


def exact_power(effect: float, n: int) -> float:
    """Power of a two-sided paired t test on the side of the effect (noncentral t; Cohen 1988, chapter 2)."""
    centre = -effect / (NOISE_SD * math.sqrt(2)) * math.sqrt(n)
    return float(stats.nct.sf(stats.t.ppf(1 - ALPHA / 2, n - 1), n - 1, centre))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2000)
    times = parser.parse_args().times
    missed = 0
    print(f"no effect, {times} simulated experiments each: share of verdicts that are false")
    for n in (2, 3, 4, 5, 6, 8, 10):
        supported, refuted = rates(0.0, n, times)
        bad = supported + refuted > ALPHA
        missed += bad
        word = "MISS" if bad else "ok  "
        print(f"{word} n={n:2}: supported {supported:.4f}, refuted {refuted:.4f}, together {supported + refuted:.4f}")
    print("power: share supported where a is really below b (exact paired t beside it)")
    for effect in (-0.05, -0.1, -0.2):
        line = [f"n={n} {rates(effect, n, times)[0]:.2f} ({exact_power(effect, n):.2f})" for n in (2, 3, 5, 8)]
        print(f"  effect {effect:+.2f} ({-effect / (NOISE_SD * math.sqrt(2)):.1f} sd): " + ", ".join(line))
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
