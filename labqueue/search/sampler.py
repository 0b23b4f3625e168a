"""Samples the next point of a search: Optuna, asked anew each time, on a study rebuilt from the stored trials.

No study is kept anywhere. The sampler's random numbers are seeded by the search, the trial's number and the draw, so
the next point is a pure function of the spec and of what the results store says: a process that dies between two trials
leaves nothing that another one would not find again. Optuna is imported when a point is asked for.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from labqueue.domain.canonical import canonical, digest
from labqueue.domain.spec.search import Search
from labqueue.domain.trials import Trial, TrialState

DRAWS = 50
"""How often a point that stands already, or that the kind refuses, is drawn again. Assumption."""

LISTED = 100_000
"""The largest space of which what is left is listed when draws find nothing new. Assumption."""


def next_point(
    search: Search, trials: Sequence[Trial], taken: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """The point of the next trial; None where no point is left that ``taken`` does not refuse.

    ``trials`` are all before it, numbered from 0. Pure: equal arguments give the equal point.
    """
    tried = {canonical(trial.point) for trial in trials}
    for point in _candidates(search, trials, len(trials)):
        if canonical(point) not in tried and not taken(point):
            return point
    return None


def first_points(search: Search) -> list[dict[str, Any]]:
    """The points that depend on no result, all of them drawn at submission."""
    if search.sampler == "grid":
        return _every(search, "grid")[: search.planned]
    found: dict[str, dict[str, Any]] = {}
    while len(found) < search.startup:
        # Not every point has been tried while the space is larger than what is planned, so one is always new.
        fresh = (point for point in _candidates(search, (), len(found)) if canonical(point) not in found)
        point = next(fresh, None)
        if point is None:
            break
        found[canonical(point)] = point
    return list(found.values())


def _candidates(search: Search, trials: Sequence[Trial], number: int) -> Iterator[dict[str, Any]]:
    if search.sampler == "grid":
        yield from _every(search, "grid")
        return
    learns = trials if search.sampler == "tpe" and number >= search.startup else ()
    for draw in range(DRAWS):
        yield _ask(search, learns, number, draw)
    if search.size is not None and search.size <= LISTED:
        yield from _every(search, f"rest of {number}")


def _every(search: Search, purpose: str) -> list[dict[str, Any]]:
    """Every point of a finite space, in an order drawn by the search's seed: a part of a grid is spread over it."""
    values: list[Sequence[Any]] = []
    for axis in search.space.values():
        ((name, given),) = axis.items()
        values.append(range(given[0], given[1] + 1) if name == "int" else given if name == "choice" else given[:1])
    points = [dict(zip(search.space, row, strict=True)) for row in itertools.product(*values)]
    random.Random(_seed(search, purpose)).shuffle(points)
    return points


def _ask(search: Search, trials: Sequence[Trial], number: int, draw: int) -> dict[str, Any]:
    optuna = quiet()
    seed = _seed(search, f"{number}.{draw}")
    sampler: Any
    if trials:
        # Trials may have failed since the search began to learn; of a few numbers there is nothing to be learned.
        known = max(1, search.startup // 2)
        sampler = optuna.samplers.TPESampler(n_startup_trials=known, multivariate=True, constant_liar=True, seed=seed)
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler, direction=search.direction)
    axes = distributions(search)
    study.add_trials([frozen(trial, axes, search) for trial in trials])
    return read_point(search, study.ask(axes).params)


def quiet() -> Any:
    """Optuna, imported now, without its words on standard error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def distributions(search: Search) -> dict[str, Any]:
    """The space in Optuna's words. Choices are their canonical JSON, since only texts may stand there safely."""
    optuna = quiet()
    found: dict[str, Any] = {}
    for key, axis in search.space.items():
        ((name, values),) = axis.items()
        if name == "choice":
            found[key] = optuna.distributions.CategoricalDistribution([canonical(value) for value in values])
        elif name == "int":
            found[key] = optuna.distributions.IntDistribution(*values)
        else:
            low, high = map(float, values)
            found[key] = optuna.distributions.FloatDistribution(low, high, log=name == "log_uniform")
    return found


def read_point(search: Search, params: dict[str, Any]) -> dict[str, Any]:
    """A point as the spec would write it, from Optuna's parameters."""
    point = {}
    for key, axis in search.space.items():
        value = params[key]
        if "choice" in axis:
            value = next(each for each in axis["choice"] if canonical(each) == value)
        point[key] = value
    return point


def write_point(search: Search, point: dict[str, Any]) -> dict[str, Any]:
    """A point in Optuna's words."""
    return {key: canonical(point[key]) if "choice" in axis else point[key] for key, axis in search.space.items()}


def frozen(trial: Trial, axes: dict[str, Any], search: Search) -> Any:
    """A trial of the results store in Optuna's words."""
    optuna = quiet()
    state = optuna.trial.TrialState
    words: dict[str, Any] = {"params": write_point(search, trial.point), "distributions": axes}
    if trial.state is TrialState.COMPLETE:
        return optuna.trial.create_trial(state=state.COMPLETE, value=trial.value, **words)
    if trial.cut_at is not None and trial.state is TrialState.PRUNED:
        return optuna.trial.create_trial(state=state.PRUNED, intermediate_values=dict([trial.cut_at]), **words)
    return optuna.trial.create_trial(state=state.RUNNING if trial.state is TrialState.OPEN else state.FAIL, **words)


def _seed(search: Search, purpose: str) -> int:
    """32 bits (what NumPy's old generator takes) that are different for every trial and draw."""
    return int(digest([search.seed, purpose])[:8], 16)
