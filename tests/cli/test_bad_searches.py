"""Searches that cannot be carried out: refused at submission with file, line and key, and nothing recorded."""

from __future__ import annotations

import pytest

from tests.commands import call, refused, rows
from tests.conftest import Lab

SPEC = """\
name: srch
kind: drill
params: {steps: 5}
sweep:
  search:
    sampler: tpe
    trials: 8
    metric: value
    direction: minimize
    pruner: median
    space:
      distance: {uniform: [-2, 2]}
      steps: {int: [2, 9]}
predictions:
  - id: falls
    claim: it falls
    threshold: {metric: value, where: {steps: 3}, below: 2}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "words"),
    [
        ("{int: [2, 9]}", "{int: [9, 2]}", 13, "sweep.search.space.steps", "low <= high"),
        ("{int: [2, 9]}", "{int: [2, 9.5]}", 13, "sweep.search.space.steps", "needs [low, high]"),
        ("{int: [2, 9]}", "{choice: []}", 13, "sweep.search.space.steps", "choice is empty"),
        ("{uniform: [-2, 2]}", "{log_uniform: [0, 2]}", 12, "sweep.search.space.distance", "low > 0"),
        ("{uniform: [-2, 2]}", "{unifrom: [-2, 2]}", 12, "sweep.search.space.distance.unifrom", "'uniform'"),
        ("{uniform: [-2, 2]}", "[-2, 2]", 12, "sweep.search.space.distance", "a list"),
        ("sampler: tpe", "sampler: tpa", 6, "sweep.search.sampler", "did you mean 'tpe'?"),
        ("pruner: median", "pruner: medain", 10, "sweep.search.pruner", "did you mean 'median'?"),
        ("direction: minimize", "direction: minimise", 9, "sweep.search.direction", "did you mean 'minimize'?"),
        ("    metric: value\n", "", 5, "sweep.search.metric", "is missing"),
        ("trials: 8", "trials: 0", 7, "sweep.search.trials", "greater than or equal to 1"),
        ("pruner: median", "prunner: median", 10, "sweep.search.prunner", "did you mean 'pruner'?"),
        ("sampler: tpe", "sampler: grid", 5, "sweep.search", "'distance' has no end of values"),
        # What only the kind knows: an axis that it has not, and ends of an axis that it does not take.
        ("distance:", "distanse:", 12, "sweep.search.space.distanse", "did you mean 'distance'?"),
        ("{int: [2, 9]}", "{int: [0, 9]}", 13, "sweep.search.space.steps", "greater than or equal to 1"),
        ("{int: [2, 9]}", "{choice: [2, 9, many]}", 13, "sweep.search.space.steps", "valid integer"),
        # A prediction on a point that the search can never try.
        ("where: {steps: 3}", "where: {steps: 30}", 15, "predictions.0", "matches no run"),
        ("where: {steps: 3}", "where: {steps: 2.5}", 15, "predictions.0", "matches no run"),
    ],
)
def test_a_bad_search_is_refused_where_it_stands(lab: Lab, old: str, new: str, line: int, key: str, words: str) -> None:
    assert SPEC.count(old) == 1
    error = refused(call(lab, "submit", lab.text(SPEC.replace(old, new)), "--profile", "cpu", "--json"))
    assert words in error["message"]
    assert (error["line"], error["key"]) == (line, key)
    assert rows(lab) == {}


def test_the_search_itself_is_accepted(lab: Lab) -> None:
    dry = call(lab, "submit", lab.text(SPEC), "--profile", "cpu", "--dry-run")
    assert dry.code == 0, dry.err
    assert "its search would propose 4 more runs" in dry.out


def test_another_axis_cannot_be_added_to_a_search_on_the_command_line(lab: Lab) -> None:
    error = refused(call(lab, "submit", lab.text(SPEC), "--sweep", "checkpoint_every=2,3", "--json"))
    assert "stands alone" in error["message"]
    assert error["file"] == "command line"


def test_a_search_beside_a_grid_is_refused(lab: Lab) -> None:
    both = SPEC.replace("sweep:\n", "sweep:\n  grid: {checkpoint_every: [2, 3]}\n")
    error = refused(call(lab, "submit", lab.text(both), "--json"))
    assert "stands alone" in error["message"]
    assert (error["line"], error["key"]) == (4, "sweep")
