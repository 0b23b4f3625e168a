"""compare: runs and experiments side by side, paired by seed and by what both vary."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from tests.conftest import Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Two experiments of drills that differ in steps; both vary what they allocate."""
    made = Lab(tmp_path_factory.mktemp("compare"))
    sweep = {"grid": {"allocate_mib": [1, 2]}}
    for name, steps in (("first", 6), ("second", 12)):
        spec = made.spec(name, params={"steps": steps, "step_s": 0.0}, sweep=sweep, seeds=[0, 1, 2])
        assert made.run("submit", spec).code == 0
    assert made.run("worker", "--drain").code == 0
    return made


def test_experiments_are_paired_by_seed_and_shared_axis_and_differences_are_over_seeds(lab: Lab) -> None:
    found = lab.run("compare", "first", "second", "--json").json
    assert found["paired_by"] == ["seed", "allocate_mib"]
    assert {row["key"]: row["values"] for row in found["config"]} == {"steps": [[6], [12]]}
    (metric,) = found["metrics"]
    assert (metric["name"], metric["experiment"], metric["n"], metric["pairs"]) == ("value", "second", 3, 6)
    runs = {name: lab.run("report", name, "--json").json["runs"] for name in ("first", "second")}

    def last(name: str, seed: int) -> float:
        values = [run["metrics"]["value"]["last"] for run in runs[name] if run["seed"] == seed]
        return sum(values) / len(values)

    differences = [last("second", seed) - last("first", seed) for seed in (0, 1, 2)]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert metric["difference"] == pytest.approx(sum(differences) / 3)
    assert metric["ci"] == pytest.approx([expected.low, expected.high])


def test_a_comparison_can_be_written_with_its_curves(lab: Lab, tmp_path: Path) -> None:
    for targets in (("first", "second"), ("1", "2", "7")):
        folder = tmp_path / targets[0]
        answer = lab.run("compare", *targets, "--output", folder)
        assert answer.code == 0, answer.err
        assert "What differs" in (folder / "comparison.md").read_text()
        page = (folder / "comparison.html").read_text()
        assert "<svg" in page or "data:image" in page
        assert sorted(path.name for path in (folder / "plots").iterdir()) == [
            "value_compared.png",
            "value_compared.svg",
        ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1"], "at least two"),
        (["1", "1"], "at least two"),
        (["1", "first"], "not both"),
        (["first", "secnod"], "did you mean 'second'"),
        (["1", "999"], "999"),
    ],
)
def test_a_wrong_comparison_is_one_clear_sentence(lab: Lab, words: list[str], said: str) -> None:
    answer = lab.run("compare", *words)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
