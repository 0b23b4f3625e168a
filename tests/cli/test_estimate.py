"""estimate: a line for every run, with what its kind predicts, or that it predicts nothing."""

from __future__ import annotations

from tests.conftest import Lab


def test_every_run_is_listed_with_its_sweep_point_and_no_invented_number(lab: Lab) -> None:
    spec = lab.spec(sweep={"grid": {"steps": [5, 9]}}, seeds=[0, 1])
    found = lab.run("estimate", spec, "--json").json
    assert [(run["seed"], run["varied"]) for run in found["runs"]] == [
        (seed, {"steps": steps}) for seed in (0, 1) for steps in (5, 9)
    ]
    assert all(run["total_gib"] is None and run["items_gib"] is None for run in found["runs"])
    shown = lab.run("estimate", spec).out
    assert "steps=5" in shown
    assert "cannot predict its memory" in shown
    assert "Canonical" not in shown
