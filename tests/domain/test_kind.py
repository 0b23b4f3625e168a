"""Parameters of a kind, as the lab reads them."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import ValidationError

from labqueue.domain import kind
from labqueue.submission import specfile


class Inner(kind.Params):
    """Below."""

    RENAMED: ClassVar = {"old": "new"}

    new: int = 1
    """A number."""


class Outer(kind.Params):
    """Above."""

    RENAMED: ClassVar = {"under": "inner"}

    inner: Inner | None = None
    """One below."""
    several: tuple[Inner, ...] = ()
    """More of them."""


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("inner.old", "inner.new"),
        ("under.old", "inner.new"),
        ("under.new", "inner.new"),
        ("under", "inner"),
        ("inner.new", None),
        ("old", None),
        ("inner.other", None),
        ("nothing.old", None),
    ],
)
def test_a_dotted_key_is_known_by_its_new_name_at_every_depth(key: str, now: str | None) -> None:
    assert Outer.renamed(key) == now


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("inner:\n  old: 1\n", 2, "params.inner.old"),
        ("several:\n- new: 1\n- old: 1\n", 3, "params.several.1.old"),
    ],
)
def test_a_renamed_key_below_others_is_refused_at_its_line(text: str, line: int, key: str) -> None:
    source = specfile.parse(text, "spec.yaml")
    lines = {f"params.{name}" if name else "params": at for name, at in source.lines.items()}
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(source.data, strict=False)
    error = specfile.first_error(caught.value, specfile.Source("spec.yaml", {}, lines), "params", Outer)
    assert (error.line, error.key) == (line, key)
    assert error.message == f"{key} is called {key.replace('old', 'new')} now: write new"
