"""The reference in ``docs/reference`` is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

MAKER = Path(__file__).resolve().parent.parent / "docs" / "make_reference.py"


@pytest.mark.parametrize("name", ["spec.md", "kinds.md", "commands.md"])
def test_a_page_of_the_reference_is_what_the_code_says(name: str) -> None:
    spec = importlib.util.spec_from_file_location("make_reference", MAKER)
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    kept = (MAKER.parent / "reference" / name).read_text()
    assert maker.pages()[name] == kept, "run `python docs/make_reference.py`"


@pytest.mark.parametrize("name", ["spec.md", "kinds.md"])
def test_every_key_of_a_spec_and_of_a_kind_says_what_it_is(name: str) -> None:
    rows = [line for line in (MAKER.parent / "reference" / name).read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if row.rstrip(" |").endswith("|") or row.endswith("|  |")] == []
