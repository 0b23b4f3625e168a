"""A search: a sweep whose next point depends on what the earlier ones measured. Knows no optimiser and no database."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from labqueue.domain.canonical import canonical
from labqueue.domain.spec.strict import Strict

How = Literal["uniform", "log_uniform", "int", "choice"]


def _drawable(axis: dict[How, list[Any]]) -> dict[How, list[Any]]:
    if len(axis) != 1:
        raise ValueError("needs exactly one of uniform, log_uniform, int, choice")
    ((name, values),) = axis.items()
    if name == "choice":
        if not values:
            raise ValueError("choice is empty")
        return axis
    number = int if name == "int" else (int, float)
    if len(values) != 2 or not all(isinstance(v, number) and not isinstance(v, bool) for v in values):
        raise ValueError(f"{name} needs [low, high], got {values}")
    low, high = values
    if not low <= high or not math.isfinite(high) or (name == "log_uniform" and low <= 0):
        raise ValueError(f"{name} needs low <= high (and low > 0 for log_uniform), got {values}")
    return axis


Axis = Annotated[dict[How, list[Any]], AfterValidator(_drawable)]
"""``{uniform: [low, high]}``, ``{log_uniform: [low, high]}``, ``{int: [low, high]}`` (both ends included) or
``{choice: [...]}``."""

STARTUP = 10
"""Trials that TPE draws at random before it learns: Optuna's own default (``TPESampler.n_startup_trials``)."""

MAX_TRIALS = 1_000
"""A sampler looks at every earlier trial before each new one; more are an error of typing. Assumption."""

MAX_GRID = 100_000
"""Points of a grid, which is listed in full to be drawn from. Assumption."""


class Search(Strict):
    """What is searched, for what, and how."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """Tree-structured Parzen estimator; independent draws; or every combination in an order drawn once."""
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)]
    """How many points are tried; each is run once per seed."""
    metric: str = Field(min_length=1)
    """Its last value is what a run is worth; a trial is worth the mean over its seeds."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Which end of the metric is sought."""
    pruner: Literal["hyperband", "median", "none"] = "none"
    """What ends a run early that does worse than earlier ones did at the same step."""
    prune_after: Annotated[int, Field(ge=0)] = 0
    """The median pruner ends nothing before this step: slow starters (small learning rates, say) get their chance."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of the sampler, not of the runs."""
    space: dict[str, Axis] = Field(min_length=1)
    """What each varied key may be: ``{log_uniform: [low, high]}`` and so on, as in ``random``."""

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        for key in self.space:
            if not all(key.split(".")):
                raise ValueError(f"space has the axis {key!r}, which is not a dotted key")
            outer = next((other for other in self.space if key.startswith(f"{other}.")), None)
            if outer is not None:
                raise ValueError(f"the axes {outer!r} and {key!r} set the same parameter; keep one")
            choices = [canonical(value) for value in self.space[key].get("choice", [])]
            twice = next((text for at, text in enumerate(choices) if text in choices[:at]), None)
            if twice is not None:
                raise ValueError(f"the axis {key!r} has the value {twice} twice")
        if self.prune_after and self.pruner != "median":
            raise ValueError(f"prune_after is of the pruner median, and the pruner is {self.pruner}")
        if self.sampler == "grid":
            endless = [key for key, axis in self.space.items() if not {"int", "choice"} & set(axis)]
            if endless:
                raise ValueError(f"the sampler grid needs int or choice, and {endless[0]!r} has no end of values")
            if (self.size or 0) > MAX_GRID:
                raise ValueError(f"the grid has {self.size:,} points; at most {MAX_GRID:,} are listed")
        return self

    @property
    def size(self) -> int | None:
        """How many points the space has; None where it has no end of them."""
        sizes = []
        for axis in self.space.values():
            ((name, values),) = axis.items()
            if name == "choice":
                sizes.append(len(values))
            elif name == "int":
                sizes.append(values[1] - values[0] + 1)
            elif values[0] < values[1]:
                return None
        return math.prod(sizes)

    @property
    def planned(self) -> int:
        """How many trials there will be: as asked, and at most one per point of the space."""
        return self.trials if self.size is None else min(self.trials, self.size)

    @property
    def startup(self) -> int:
        """Trials that depend on no result: all but those that TPE learns to choose (at least half of a short one)."""
        return min(STARTUP, (self.planned + 1) // 2) if self.sampler == "tpe" else self.planned

    def holds(self, key: str, value: Any) -> bool:
        """Whether a point of the space can have this value on an axis."""
        ((name, values),) = self.space[key].items()
        if name == "choice":
            return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)
        number = isinstance(value, int if name == "int" else (int, float)) and not isinstance(value, bool)
        return number and values[0] <= value <= values[1]

    def ends(self, inside: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Points at the ends of each axis (at every choice), the other axes as in ``inside``: what to check early."""
        for key, axis in self.space.items():
            ((_, values),) = axis.items()
            for value in values:
                yield {**inside, key: value}
