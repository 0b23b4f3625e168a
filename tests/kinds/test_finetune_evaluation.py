"""What a fine-tuning run measures besides its own held-out loss, and how its curve is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from labqueue import kinds
from labqueue.domain.artifacts import Table
from labqueue.domain.kind import Diverged, Stopped, UserError
from labqueue.kinds import finetune
from labqueue.kinds.finetune.evaluation import ItemScores
from labqueue.llm.data.generated.tasks import Row
from labqueue.report.statistics import items
from tests.helpers_recorder import MemoryRecorder

OPTIONS = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}

EXTRA = [
    {"name": "letters", "task": "spell_backward", "items": 4, "score": True},
    {"name": "sums", "task": "chain_sum", "options": OPTIONS, "items": 40, "score_always": True},
    {"name": "text", "corpus": "python_docs", "tokens": 64, "window": 32},
]

TINY = {
    "model": "random-tiny",
    "data": {"task": "chain_sum", "options": OPTIONS, "train_items": 60, "eval_items": 6, "seed": 1},
    "steps": 8,
    "batch": 2,
    "learning_rate": 1e-2,
    "evaluations": 1,
    "samples": 0,
    "scored": 6,
    "gradient_checkpointing": False,
    "max_length": 256,
    "lora": {"rank": 4, "alpha": 8.0},
    "extra_evals": EXTRA,
}


def params(**changes: Any) -> finetune.Params:
    return finetune.Params.model_validate(TINY | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> MemoryRecorder:
    rec = MemoryRecorder(tmp_path_factory.mktemp("extra"))
    finetune.run(params(), rec)
    return rec


def test_each_loss_is_measured_at_every_evaluation_and_each_score_when_asked(finished: MemoryRecorder) -> None:
    metrics = finished.metrics
    for name in ("letters_loss", "sums_loss", "text_loss", "text_perplexity", "sums_exact"):
        assert sorted(metrics[name]) == [0, 4, 8], name
    assert sorted(metrics["letters_exact"]) == [0, 8]
    assert "text_exact" not in metrics
    assert all(math.isclose(metrics["text_perplexity"][s] or 0, math.exp(metrics["text_loss"][s] or 0)) for s in (0, 8))
    table = finished.artifacts["evaluations"]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["letters", "sums", "text"]
    assert [row[3] for row in table.rows] == [4, 40, 2]


def test_the_score_of_each_question_is_kept_and_their_mean_is_the_metric(finished: MemoryRecorder) -> None:
    table = finished.artifacts["item_scores"]
    assert isinstance(table, Table)
    assert table.columns == items.COLUMNS
    sizes = {"exact_answers": 6, "letters_exact": 4, "sums_exact": 40}
    found: dict[tuple[str, int], dict[str, float]] = {}
    for metric, step, item, score in table.rows:
        found.setdefault((str(metric), int(step or 0)), {})[str(item)] = float(score or 0)
    assert found.keys() == {(metric, step) for metric in sizes for step in (0, 8)}
    for (metric, step), scores in found.items():
        assert len(scores) == sizes[metric]
        assert sum(scores.values()) / len(scores) == pytest.approx(finished.metrics[metric][step])
        assert scores.keys() == found[metric, 0].keys()


def test_a_question_that_stands_twice_is_two_items() -> None:
    kept = ItemScores()
    twice = Row("1 + 1", "2", 0)
    for step in (0, 1, 3):
        kept.take("m", step, [twice, twice, Row("1 + 2", "3", 1)], [1.0, 0.0, 1.0])
    table = kept.table()
    assert table is not None
    assert len({row[2] for row in table.rows}) == 3
    other = ItemScores()
    other.restore(json.loads(json.dumps(kept.rows())))
    assert other.table() == table


def test_a_run_records_what_its_kind_declares_and_of_each_family_what_its_parameters_say(
    finished: MemoryRecorder,
) -> None:
    kind = kinds.get("finetune")
    made = kind.family_metrics(params())
    assert made is not None
    assert [name for name in finished.metrics if not kind.metrics.records(name, made)] == []
    assert set(made) <= set(finished.metrics)
    assert set(finished.artifacts) <= set(kind.artifacts)
    for name, points in finished.metrics.items():
        least, most = kind.metrics[name].bounds
        assert all(value is None or least <= value <= most for value in points.values()), name


def test_what_is_measured_is_never_trained_on(finished: MemoryRecorder) -> None:
    assert any("training rows ask what `extra_evals` measures and were left out" in note for note in finished.notes)


def test_measuring_more_changes_nothing_of_the_training(finished: MemoryRecorder, tmp_path: Path) -> None:
    # The same rows are left out, but measured on once only.
    rec = MemoryRecorder(tmp_path)
    quiet = [{**EXTRA[1], "score_always": False}]
    finetune.run(params(extra_evals=quiet, evaluations=0), rec)
    assert rec.metrics["train_loss"] == finished.metrics["train_loss"]
    assert rec.metrics["eval_loss"][8] == finished.metrics["eval_loss"][8]


def test_a_resumed_run_measures_and_reads_the_same(finished: MemoryRecorder, tmp_path: Path) -> None:
    first = MemoryRecorder(tmp_path, stop_at=5)
    with pytest.raises(Stopped):
        finetune.run(params(), first)
    second = MemoryRecorder(tmp_path, resume_from=first.checkpoints[-1], attempt=2)
    finetune.run(params(), second)
    for name in ("letters_loss", "sums_exact", "text_loss", "gap", "overfit_rise", "diverged", "eval_loss_min_step"):
        whole = first.metrics.get(name, {}) | second.metrics.get(name, {})
        assert whole == finished.metrics[name], name
    for name in ("curve_reading", "item_scores"):
        assert second.artifacts[name] == finished.artifacts[name], name


def test_the_curve_is_read_and_says_nothing_that_it_cannot(finished: MemoryRecorder) -> None:
    table = finished.artifacts["curve_reading"]
    assert isinstance(table, Table)
    found = {row[0]: row[1] for row in table.rows}
    assert found["plateau_step"] is None
    assert "plateau_step" not in finished.metrics, "three evaluations are no plateau"
    assert finished.metrics["diverged"] == {8: 0.0}
    assert finished.metrics["gap"].keys() == {8}


def test_a_rate_that_explodes_is_marked_whether_or_not_it_stays_finite(tmp_path: Path) -> None:
    bounded = MemoryRecorder(tmp_path / "bounded")
    finetune.run(params(learning_rate=100.0, schedule="constant", steps=20, extra_evals=[]), bounded)
    assert bounded.metrics["diverged"] == {20: 1.0}
    assert "steps_to_80_percent" not in bounded.metrics
    endless = MemoryRecorder(tmp_path / "endless")
    with pytest.raises(Diverged):
        finetune.run(params(learning_rate=1e30, max_grad_norm=1e30, extra_evals=[]), endless)
    assert list(endless.metrics["diverged"].values()) == [1.0]
    table = endless.artifacts["curve_reading"]
    assert isinstance(table, Table)
    assert table.rows[0][1] == "diverged"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ([{"name": "a", "task": "chain_sum", "corpus": "python_docs"}], "exactly one of task, corpus, path"),
        ([{"name": "a"}], "exactly one of task, corpus, path"),
        ([{"name": "a", "corpus": "python_docs", "score": True}], "text has no scorer"),
        ([{"name": "a", "corpus": "python_docs", "options": {"x": 1}}], "options, which belong to a task"),
        ([{"name": "a", "corpus": "python_docs", "window": 512}], "max_length is 256"),
        ([{"name": "a", "corpus": "python_docs", "window": 32, "tokens": 16}], "more than its 16"),
        ([{"name": "a", "corpus": "python_doc"}], "python_docs"),
        ([{"name": "eval", "task": "chain_sum"}], "eval_loss is a metric of every run"),
        ([EXTRA[0], EXTRA[0]], "letters twice"),
        ([{"name": "A b", "task": "chain_sum"}], "pattern"),
    ],
)
def test_evaluations_that_make_no_sense_are_refused(extra: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        params(extra_evals=extra)


def test_text_that_is_trained_on_is_not_measured_on(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    data = {"path": str(file), "eval_items": 1}
    extra = [{"name": "text", "path": str(tmp_path / "." / "rows.jsonl")}]
    with pytest.raises(ValueError, match="it is trained on"):
        params(data=data, scored=0, extra_evals=extra)


def test_too_small_a_task_is_a_users_error(tmp_path: Path) -> None:
    extra = [{"name": "sums", "task": "chain_sum", "options": OPTIONS, "items": 5000}]
    with pytest.raises(UserError, match="5000 were asked for"):
        finetune.run(params(extra_evals=extra), MemoryRecorder(tmp_path))


def test_a_rehearsal_keeps_the_shape_of_each_evaluation() -> None:
    short = finetune.preflight(params())
    assert [each.name for each in short.extra_evals] == ["letters", "sums", "text"]
    assert not any(each.score or each.score_always for each in short.extra_evals)
    assert short.extra_evals[2].window == short.extra_evals[2].tokens == 32
