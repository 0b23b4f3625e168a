"""Pre-registered predictions: a small typed language about metrics of a sweep. Knows no data and judges nothing.

``where``, ``a`` and ``b`` choose sweep points by their varied keys (``{lora.rank: 16}``); keys left out match all.
A metric means its last value unless ``at`` says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain.spec import registration
from labqueue.domain.spec.strict import Strict

Cell = bool | int | float | str | None
"""A value of a varied key that a prediction can name."""

At = Annotated[int, Field(ge=0)] | Literal["first", "last", "min", "max"]
"""Which value of a metric's series: at a step, or by name."""


class _Claim(Strict):
    def selections(self) -> list[tuple[str, dict[str, Cell]]]:
        """Every choice of sweep points that this claim makes, with the field that makes it."""
        return [(name, value) for name in ("a", "b", "where") if (value := getattr(self, name, None))]


class Compare(_Claim):
    """a against b over seeds, paired by seed and by every other varied key. Exactly one bound.

    ``within: d`` claims abs(a - b) < d; ``difference_below: d`` claims a - b < d; ``ratio_below: r`` claims a / b < r.
    """

    metric: str
    """A name that the runs record."""
    a: dict[str, Cell]
    """Sweep points on the left of the comparison."""
    b: dict[str, Cell]
    """Sweep points on the right."""
    at: At = "last"
    """Which value of the series."""
    within: float | None = Field(default=None, gt=0)
    """abs(a - b) is below it."""
    difference_below: float | None = None
    """a - b is below it."""
    difference_above: float | None = None
    """a - b is above it."""
    ratio_below: float | None = Field(default=None, gt=0)
    """a / b is below it."""
    ratio_above: float | None = Field(default=None, gt=0)
    """a / b is above it."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        bounds = ("within", "difference_below", "difference_above", "ratio_below", "ratio_above")
        given = [name for name in bounds if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(bounds)}; got {', '.join(given) or 'none'}")
        if self.a == self.b:
            raise ValueError("a and b choose the same runs")
        return self


class Trend(_Claim):
    """A metric over a numeric axis: rises, falls, is flat (within ``tolerance``), or has its optimum inside."""

    metric: str
    """A name that the runs record."""
    over: str
    """The varied key that is the axis."""
    shape: Literal["rises", "falls", "flat", "minimum_inside", "maximum_inside"]
    """What the metric does along the axis."""
    tolerance: float | None = Field(default=None, gt=0)
    """How much ``flat`` allows."""
    where: dict[str, Cell] = Field(default={})
    """Sweep points that count; empty: all."""
    at: At = "last"
    """Which value of the series."""

    @model_validator(mode="after")
    def _flat_needs_tolerance(self) -> Self:
        if (self.shape == "flat") != (self.tolerance is not None):
            raise ValueError("tolerance goes with shape: flat, and flat needs it")
        return self


class Threshold(_Claim):
    """A metric below or above a value; ``relative_to: first`` divides by the run's own first value."""

    metric: str
    """A name that the runs record."""
    where: dict[str, Cell] = Field(default={})
    """Sweep points that count; empty: all."""
    at: At = "last"
    """Which value of the series."""
    relative_to: Literal["first"] | None = None
    """``first``: divided by the run's own first value."""
    below: float | None = None
    """It is below this."""
    above: float | None = None
    """It is above this."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("needs exactly one of below, above")
        return self


class BestAt(_Claim):
    """The best value of an axis (by the mean over seeds) is one of ``values``."""

    metric: str
    """A name that the runs record."""
    over: str
    """The varied key that is the axis."""
    values: tuple[Cell, ...] = Field(min_length=1)
    """Where on the axis the best is claimed to be."""
    direction: Literal["min", "max"] = "min"
    """Which end of the metric is best."""
    where: dict[str, Cell] = Field(default={})
    """Sweep points that count; empty: all."""
    at: At = "last"
    """Which value of the series."""


class Crosses(_Claim):
    """A metric reaches a value before a step."""

    metric: str
    """A name that the runs record."""
    where: dict[str, Cell] = Field(default={})
    """Sweep points that count; empty: all."""
    below: float | None = None
    """It is below this."""
    above: float | None = None
    """It is above this."""
    before: int = Field(gt=0)
    """The step before which it happens."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("needs exactly one of below, above")
        return self


class Prediction(Strict):
    """One claim, in words and in the typed language."""

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    """Unique in the spec."""
    claim: str
    """The claim in words."""
    compare: Compare | None = None
    """Points against points. Exactly one of the five is given."""
    trend: Trend | None = None
    """A metric over an axis."""
    threshold: Threshold | None = None
    """A metric against a value."""
    best_at: BestAt | None = None
    """Where on an axis the best lies."""
    crosses: Crosses | None = None
    """When a metric reaches a value."""

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        given = [name for name in TESTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(TESTS)}; got {', '.join(given) or 'none'}")
        return self

    @property
    def test(self) -> Compare | Trend | Threshold | BestAt | Crosses:
        """The one test that this prediction states."""
        for name in TESTS:
            test = getattr(self, name)
            if test is not None:
                return test  # type: ignore[no-any-return]  # getattr loses the union
        raise AssertionError("validated: exactly one")

    def digest(self) -> str:
        """SHA-256 (hex) of the id and the typed clause: another wording of ``claim`` is the same registration."""
        return registration.digest(self.model_dump(mode="json"))


TESTS = ("compare", "trend", "threshold", "best_at", "crosses")
