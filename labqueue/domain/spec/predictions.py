"""Pre-registered predictions: a small typed language about metrics of a sweep. Knows no data and judges nothing.

``where``, ``a`` and ``b`` choose sweep points by their varied keys (``{lora.rank: 16}``); keys left out match all.
A metric means its last value unless ``at`` says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Cell = bool | int | float | str | None
"""A value of a varied key that a prediction can name."""

At = Annotated[int, Field(ge=0)] | Literal["first", "last", "min", "max"]
"""Which value of a metric's series: at a step, or by name."""


class _Claim(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def selections(self) -> list[tuple[str, dict[str, Cell]]]:
        """Every choice of sweep points that this claim makes, with the field that makes it."""
        return [(name, value) for name in ("a", "b", "where") if (value := getattr(self, name, None))]


class Compare(_Claim):
    """a against b over seeds, paired by seed and by every other varied key. Exactly one bound.

    ``within: d`` claims abs(a - b) < d; ``difference_below: d`` claims a - b < d; ``ratio_below: r`` claims a / b < r.
    """

    metric: str
    a: dict[str, Cell]
    b: dict[str, Cell]
    at: At = "last"
    within: float | None = Field(default=None, gt=0)
    difference_below: float | None = None
    difference_above: float | None = None
    ratio_below: float | None = Field(default=None, gt=0)
    ratio_above: float | None = Field(default=None, gt=0)

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
    over: str
    shape: Literal["rises", "falls", "flat", "minimum_inside", "maximum_inside"]
    tolerance: float | None = Field(default=None, gt=0)
    where: dict[str, Cell] = {}
    at: At = "last"

    @model_validator(mode="after")
    def _flat_needs_tolerance(self) -> Self:
        if (self.shape == "flat") != (self.tolerance is not None):
            raise ValueError("tolerance goes with shape: flat, and flat needs it")
        return self


class Threshold(_Claim):
    """A metric below or above a value; ``relative_to: first`` divides by the run's own first value."""

    metric: str
    where: dict[str, Cell] = {}
    at: At = "last"
    relative_to: Literal["first"] | None = None
    below: float | None = None
    above: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("needs exactly one of below, above")
        return self


class BestAt(_Claim):
    """The best value of an axis (by the mean over seeds) is one of ``values``."""

    metric: str
    over: str
    values: tuple[Cell, ...] = Field(min_length=1)
    direction: Literal["min", "max"] = "min"
    where: dict[str, Cell] = {}
    at: At = "last"


class Crosses(_Claim):
    """A metric reaches a value before a step."""

    metric: str
    where: dict[str, Cell] = {}
    below: float | None = None
    above: float | None = None
    before: int = Field(gt=0)

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("needs exactly one of below, above")
        return self


class Prediction(BaseModel):
    """One claim, in words and in the typed language."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    claim: str
    compare: Compare | None = None
    trend: Trend | None = None
    threshold: Threshold | None = None
    best_at: BestAt | None = None
    crosses: Crosses | None = None

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


TESTS = ("compare", "trend", "threshold", "best_at", "crosses")
