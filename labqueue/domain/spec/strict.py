"""Models of what people write and the lab stores: strict types, no unknown key, only finite numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen model. The text "1" is not a number, an unknown key is an error, NaN is refused.

    Docstrings beneath fields are their help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Returns the model of plain values, such as YAML or the results store holds: a list may be a tuple.

        Raises:
            ValidationError: a key is unknown or missing, or a value is not what its field takes.
        """
        # Strict types take no list for a tuple, but in JSON, which has no tuples. Not canonical: the order in which
        # axes are written is the order in which points are run and shown.
        return cls.model_validate_json(json.dumps(data, ensure_ascii=False))

    def __hash__(self) -> int:
        """Hashes the values, dictionaries and lists included, so that a function's cache can be keyed by a model."""
        return hash(_frozen(self.model_dump()))


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return frozenset((key, _frozen(inner)) for key, inner in value.items())
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list | tuple) else value
