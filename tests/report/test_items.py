"""Other items of their kind: the error of having asked these, beside that of having run these seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from labqueue.domain.views import ArtifactView
from labqueue.report.document.export import report_data
from labqueue.report.statistics import items
from labqueue.report.statistics.verdicts import judge
from labqueue.store.db import create_or_migrate
from labqueue.store.queries.experiment import Series as Stored
from tests.report.factories import Series, make_experiment, make_run, prediction

Array = np.ndarray[Any, np.dtype[Any]]
BELOW = prediction(threshold={"metric": "task_exact", "where": {"x": 1}, "below": 0.5})
DIFFERENCE = prediction(
    compare={"metric": "task_exact", "a": {"x": 1}, "b": {"x": 2}, "difference_below": 0.0},
)
RATIO = prediction(compare={"metric": "task_exact", "a": {"x": 1}, "b": {"x": 2}, "ratio_below": 1.0})


def judged(scores: Array, claim: dict[str, Any], **changes: Any) -> Any:
    """The verdict on right and wrong answers [arm, seed, item]."""
    arms, seeds, size = scores.shape
    params = {"extra_evals": [{"name": "task", "items": size}]}
    runs, tables = [], {}
    for arm, seed in np.ndindex(arms, seeds):
        number = 100 * arm + seed + 1
        row = scores[arm, seed]
        runs.append(
            make_run(number, {"x": arm + 1}, seed, {"task_exact": float(row.mean())}, params=params | {"x": arm + 1})
        )
        rows = [("task_exact", 100, f"item{at}", float(score)) for at, score in enumerate(row)]
        tables[number, "item_scores"] = (items.COLUMNS, rows)
    tables |= changes.pop("tables", {})
    return judge(make_experiment(runs, [claim]), Series(tables=tables))[0]


def answers(rng: np.random.Generator, arms: int, seeds: int, size: int, effect: float = 0.0) -> Array:
    """Right and wrong answers to items of different difficulty, which each arm finds differently hard."""
    hard = rng.normal(0.5, 4.0, (1, 1, size)) + rng.normal(0, 3.0, (arms, 1, size))
    luck = rng.normal(0, 0.2, (arms, seeds, 1))
    shift = effect * np.arange(arms)[:, None, None]
    return (rng.random((arms, seeds, size)) < special.expit(hard + luck + shift)).astype(float)


def mean_rate(shift: float) -> float:
    """The share of right answers over all seeds and items that could be: logits are normal (Gauss–Hermite)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.sqrt(4.0**2 + 3.0**2 + 0.2**2)
    return float((weights * special.expit(0.5 + shift + spread * nodes)).sum() / weights.sum())


@pytest.mark.parametrize(("right", "of"), [(0, 24), (5, 24), (23, 24), (24, 24), (200, 256)])
def test_items_that_are_right_or_wrong_have_the_exact_interval_of_a_rate(right: int, of: int) -> None:
    scores = {str(at): float(at < right) for at in range(of)}
    found = items.with_other_items([(1.0, scores)], right / of, [right / of] * 2, 0.95, ratio=False)
    known = stats.binomtest(right, of).proportion_ci(0.95, "exact")
    assert found == pytest.approx([known.low, known.high], abs=0.006)


def test_a_difference_of_items_that_all_agree_is_not_certain_for_other_items() -> None:
    same = {str(at): float(at < 12) for at in range(24)}
    found = items.with_other_items([(1.0, same), (-1.0, same)], 0.0, [0.0, 0.0], 0.95, ratio=False)
    # None of 24 items differs: the rate of items that do is below 14 % (Clopper and Pearson 1934).
    most = stats.binomtest(0, 24).proportion_ci(0.95, "exact").high
    assert found == pytest.approx([-most, most], abs=0.006)


@pytest.mark.parametrize(("seeds", "size"), [(3, 60), (10, 24)])
@pytest.mark.parametrize(("claim", "arms"), [(BELOW, 1), (DIFFERENCE, 2)], ids=["threshold", "difference"])
def test_the_interval_covers_the_share_over_all_items_that_could_be_and_that_over_many_seeds_does_not(
    claim: dict[str, Any], arms: int, seeds: int, size: int
) -> None:
    times, effect = 100, 1.0
    truth = mean_rate(0.0) - (mean_rate(effect) if arms == 2 else 0.0)
    rng = np.random.default_rng([3, seeds, arms])
    covered = narrow = 0
    for _ in range(times):
        found = judged(answers(rng, arms, seeds, size, effect), claim)
        (low, high), (least, most) = found.item_ci, found.ci
        assert low <= least <= most <= high
        covered += low <= truth <= high
        narrow += least <= truth <= most
    # Three standard errors of the simulations below 93 %.
    assert covered / times >= 0.93 - 3 * np.sqrt(0.93 * 0.07 / times)
    # With three seeds the interval over seeds is wide enough for both; ten that agree on these items know nothing more.
    assert seeds == 3 or narrow / times < 0.9


def test_items_are_paired_between_arms() -> None:
    rng = np.random.default_rng(5)
    one = (rng.random((1, 1, 200)) < 0.5).astype(float).repeat(3, axis=1)
    alike = judged(np.concatenate([one, one]), RATIO | {"id": "p"})
    other = (rng.random((1, 1, 200)) < 0.5).astype(float).repeat(3, axis=1)
    unlike = judged(np.concatenate([one, other]), RATIO)
    assert alike.item_ci[1] - alike.item_ci[0] < 0.5 * (unlike.item_ci[1] - unlike.item_ci[0])


def test_the_sentence_says_what_the_interval_takes_as_given_and_the_document_has_both() -> None:
    scores = answers(np.random.default_rng(1), 1, 3, 24)
    found = judged(scores, BELOW)
    assert f"{found.ci[1]:.4g} for other seeds on these 24 items, {found.item_ci[0]:.4g} to" in found.why
    assert "for other items too" in found.why
    (verdict,) = report_data(make_experiment(), [found])["verdicts"]
    assert verdict["item_ci"] == found.item_ci
    assert found == judged(scores, BELOW)  # drawn with a fixed seed


@pytest.mark.parametrize(
    "table",
    [
        None,
        (("metric", "step", "item", "score"), [("task_exact", 100, "item0", 0.123)]),
        (("question", "answer"), [("1+1", "2")]),
        (("metric", "step", "item", "score"), [("task_exact", 100, "item0", None), ("short",)]),
    ],
    ids=["none", "another value", "another table", "no scores"],
)
def test_without_the_scores_behind_the_value_of_every_run_nothing_is_said_of_other_items(table: Any) -> None:
    scores = answers(np.random.default_rng(1), 1, 3, 24)
    found = judged(scores, BELOW, tables={(1, "item_scores"): table})
    assert found.item_ci is None
    assert "for other seeds on these 24 items, n = 3 seeds" in found.why


def test_runs_that_answered_other_items_have_that_error_in_their_seeds() -> None:
    scores = answers(np.random.default_rng(1), 1, 3, 24)
    rows = [("task_exact", 100, f"other{at}", float(score)) for at, score in enumerate(scores[0, 0])]
    assert judged(scores, BELOW, tables={(1, "item_scores"): (items.COLUMNS, rows)}).item_ci is None


def test_tables_are_read_from_the_workspace_and_damaged_ones_are_none(tmp_path: Path) -> None:
    db = create_or_migrate(tmp_path / "results.db")
    (tmp_path / "outputs").mkdir()
    texts = {"item_scores": json.dumps({"columns": ["a"], "rows": [[1]]}), "damaged": '{"columns":', "empty": "{}"}
    for name, text in texts.items():
        (tmp_path / "outputs" / name).write_text(text)
    listed = [ArtifactView(name, "table", f"outputs/{name}", "c" * 64, 1) for name in (*texts, "gone")]
    run, series = make_run(artifacts=listed), Stored(db)
    assert series.table(run, "item_scores") == (["a"], [[1]])
    assert [series.table(run, name) for name in ("damaged", "empty", "gone", "unknown")] == [None] * 4
