"""From a spec to its runs: every sweep point with every seed, seed by seed. Knows no kind and no database."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError
from labqueue.domain.spec.schema import RandomSweep, Spec, Sweep, assign

MAX_RUNS = 100_000
"""More runs than one person reads in a lifetime; past it a sweep is a typing error. Assumption."""


class RunPlan(NamedTuple):
    """One run to be: the raw parameters of a sweep point, and a seed."""

    varied: dict[str, Any]
    params: dict[str, Any]
    seed: int


def count(sweep: Sweep | None) -> int:
    """How many points a sweep has, without making them."""
    if sweep is None:
        return 1
    sizes = [len(values) for values in (sweep.grid or {}).values()]
    if sweep.zipped:
        sizes.append(max(len(values) for values in sweep.zipped.values()))
    if sweep.points:
        sizes.append(len(sweep.points))
    if sweep.random:
        sizes.append(sweep.random.samples)
    if sweep.search:
        sizes.append(sweep.search.planned)
    return math.prod(sizes)


def expand(spec: Spec, proposed: Sequence[dict[str, Any]] = ()) -> list[RunPlan]:
    """All runs of a spec, ordered seed by seed so that half a night is still a comparison.

    Of a search, the runs of the points ``proposed`` so far, ordered point by point: it learns from whole trials.

    Raises:
        LabError: an axis is empty, repeats a value or stands in two blocks; zipped axes differ in length; or the
            sweep has more than MAX_RUNS runs (the message gives the count).
    """
    total = count(spec.sweep) * len(spec.seeds)
    if total > MAX_RUNS:
        raise LabError(
            f"sweep of experiment {spec.name!r} has {total:,} runs; at most {MAX_RUNS:,} are accepted. "
            "Sweep fewer keys, or draw from the space with sweep.random.",
            key="sweep",
        )
    searching = spec.sweep is not None and spec.sweep.search is not None
    points = list(proposed) if searching else _points(spec.sweep) if spec.sweep else [{}]
    planned = []
    for point in points:
        params = spec.params
        for key, value in point.items():
            params = assign(params, key, value)
        planned.append((point, params))
    if searching:
        return [RunPlan(point, params, seed) for point, params in planned for seed in spec.seeds]
    return [RunPlan(point, params, seed) for seed in spec.seeds for point, params in planned]


def axes(sweep: Sweep | None) -> list[str]:
    """The varied keys, in the order written."""
    return sweep.axes if sweep else []


def _points(sweep: Sweep) -> list[dict[str, Any]]:
    blocks: list[list[dict[str, Any]]] = []
    for key, values in (sweep.grid or {}).items():
        _check_axis(f"sweep.grid.{key}", values)
        blocks.append([{key: value} for value in values])
    if sweep.zipped:
        lengths = {key: len(values) for key, values in sweep.zipped.items()}
        if len(set(lengths.values())) > 1:
            raise LabError(f"sweep.zip needs lists of equal length, got {lengths}", key="sweep.zip")
        if not min(lengths.values()):
            raise LabError("sweep.zip has no values", key="sweep.zip")
        blocks.append([dict(zip(sweep.zipped, row, strict=True)) for row in zip(*sweep.zipped.values(), strict=True)])
    if sweep.points:
        blocks.append(sweep.points)
    if sweep.random:
        blocks.append(list(_draw(sweep.random)))
    seen: dict[str, int] = {}
    for number, block in enumerate(blocks):
        for key in {key: None for point in block for key in point}:
            if not all(key.split(".")):
                raise LabError(f"sweep axis {key!r} is not a dotted key", key="sweep")
            if seen.setdefault(key, number) != number:
                raise LabError(f"sweep axis {key!r} stands in two places of the sweep; keep one", key=f"sweep.{key}")
    for key in seen:
        outer = next((other for other in seen if key.startswith(f"{other}.")), None)
        if outer is not None:
            raise LabError(f"sweep axes {outer!r} and {key!r} set the same parameter; keep one", key=f"sweep.{key}")
    for block in blocks:
        # No two blocks share a key, so the product repeats a point only where a block does.
        twice = _repeated(block)
        if twice is not None:
            raise LabError(f"sweep has the point {twice} twice; each is run once per seed", key="sweep")
    return [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*blocks)]


def _check_axis(key: str, values: list[Any]) -> None:
    if not values:
        raise LabError(f"{key} is an empty axis; give it at least one value", key=key)
    twice = _repeated(values)
    if twice is not None:
        raise LabError(f"{key} has the value {twice} twice", key=key)


def _repeated(values: list[Any]) -> str | None:
    """The first value that has stood before, as text; None where all differ."""
    seen: set[str] = set()
    for value in values:
        text = canonical(value)
        if text in seen:
            return text
        seen.add(text)
    return None


def _draw(sweep: RandomSweep) -> Iterator[dict[str, Any]]:
    source = random.Random(sweep.seed)
    for _ in range(sweep.samples):
        point: dict[str, Any] = {}
        for key, how in sweep.space.items():
            ((name, values),) = how.items()
            if name == "choice":
                point[key] = source.choice(values)
            elif name == "int":
                point[key] = source.randint(*values)
            elif name == "uniform":
                point[key] = source.uniform(*values)
            else:
                point[key] = math.exp(source.uniform(math.log(values[0]), math.log(values[1])))
        yield point
