"""The kind that looks where heads attend: what it records is what the scores and losses are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from labqueue import kinds
from labqueue.domain.artifacts import Curve, Grid, Page, Table, Tensor
from labqueue.domain.artifacts.attention_maps import read_head, read_header
from labqueue.domain.errors import LabError
from labqueue.domain.kind import Stopped, UserError
from labqueue.kinds import attention
from tests.commands import call
from tests.conftest import Lab
from tests.helpers_recorder import MemoryRecorder

PLAIN = {
    "model": "random-tiny",
    "dtype": "float32",
    "passages": 2,
    "passage_tokens": 24,
    "repeat_tokens": 8,
    "repeat_batch": 2,
}


def looked(where: Path, seed: int = 0, **changes: Any) -> MemoryRecorder:
    rec = MemoryRecorder(where, seed=seed)
    attention.run(attention.Params.model_validate(PLAIN | changes), rec)
    return rec


def last(rec: MemoryRecorder) -> dict[str, float | None]:
    return {name: points[0] for name, points in rec.metrics.items()}


def test_a_run_scores_every_head_and_measures_what_silencing_some_costs(tmp_path: Path) -> None:
    rec = looked(tmp_path, ablate={"by": "induction", "heads": 2})
    found = last(rec)
    assert {"sink_layer_0", "sink_layer_1", "repeat_loss_change", "text_loss_change"} <= found.keys()
    declared = kinds.get("attention").metrics
    assert all(declared.records(name) for name in found)
    for name in ("induction", "duplicate", "previous_token", "sink", "entropy", "distance"):
        grid = rec.artifacts[name]
        assert isinstance(grid, Grid)
        assert (len(grid.rows), len(grid.columns)) == (2, 4)
    grid = rec.artifacts["induction"]
    assert isinstance(grid, Grid)
    assert found["induction_best"] == pytest.approx(max(map(max, grid.values)), abs=1e-5)  # type: ignore[type-var,arg-type]
    table, curve = rec.artifacts["heads"], rec.artifacts["by_layer"]
    assert isinstance(table, Table)
    assert isinstance(curve, Curve)
    assert table.columns == ("score", "layer.head", "value", "null", "excess")
    sink = rec.artifacts["sink"]
    assert isinstance(sink, Grid)
    assert curve.series["sink"][1] == pytest.approx(sum(sink.values[1]) / 4, abs=1e-5)  # type: ignore[arg-type]  # no null


def test_the_same_seed_is_the_same_run_and_another_draws_other_tokens(tmp_path: Path) -> None:
    one, again, other = (last(looked(tmp_path / str(n), seed=seed)) for n, seed in enumerate((3, 3, 4)))
    assert one == again
    assert one["repeat_loss"] != other["repeat_loss"]
    assert one["text_loss"] != other["text_loss"]


def test_silencing_all_heads_by_zero_is_a_model_without_attention(tmp_path: Path) -> None:
    rec = looked(tmp_path, ablate={"by": "sink", "heads": 8})
    assert last(rec)["repeat_loss_change"] != 0
    assert last(rec)["induction_of_best_ablated"] is None, "the best head is among them"


def test_without_ablation_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert "repeat_loss_change" not in last(looked(tmp_path, ablate=None))


def test_texts_of_ones_own_are_scored(tmp_path: Path) -> None:
    rec = looked(tmp_path, texts=["one text of some length", "another text, longer still"])
    assert "text_loss" in last(rec)


@pytest.mark.parametrize("chunk", [None, 5])
def test_the_maps_of_a_pinned_text_are_kept_with_a_page_that_shows_them(tmp_path: Path, chunk: int | None) -> None:
    from labqueue.llm.attention import extract_attention
    from labqueue.llm.models.load import load_model

    text = "one text of some length, one text of some"
    rec = looked(tmp_path, map_text=text, ablate=None, chunk=chunk)
    maps, page = rec.artifacts["maps"], rec.artifacts["page"]
    assert isinstance(maps, Tensor)
    assert isinstance(page, Page)
    loaded = load_model("random-tiny", backend="hf", quantization="none", device="cpu", dtype="float32")
    wanted = extract_attention(loaded.model, loaded.tokenizer, text)
    header = read_header(maps.path)
    assert (list(header.tokens), list(header.layers)) == (wanted.tokens[0], [0, 1])
    for layer, weights in wanted.weights.items():
        for head in range(4):
            kept = read_head(maps.path, layer, head)
            assert kept == pytest.approx(weights[0, head].numpy(), abs=5e-4)  # type: ignore[union-attr,index]
    assert "random-tiny" in page.html
    assert '"name": "induction"' in page.html


def test_without_a_text_for_it_no_map_is_kept(tmp_path: Path) -> None:
    assert {"maps", "page"}.isdisjoint(looked(tmp_path, ablate=None).artifacts)


def test_a_stop_is_heeded_between_two_measurements(tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path, stop_at=1)
    with pytest.raises(Stopped, match="pause"):
        attention.run(attention.Params.model_validate(PLAIN), rec)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ablate": {"by": "induction", "heads": 9}}, "9 heads are asked for and the model has 8"),
        ({"repeat_tokens": 2000}, "different tokens are needed"),
        ({"texts": ["a", "b"]}, "no text has more than 4 tokens"),
        ({"texts": ["a" * 2000, "b" * 20]}, "has positions for 1024"),
        ({"passage_tokens": 90_000}, "take fewer, or a lower passage_tokens"),
    ],
)
def test_what_cannot_be_looked_at_fails_the_run_in_words(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        looked(tmp_path, **changes)


def test_a_corpus_that_is_not_there_is_refused_at_submission() -> None:
    with pytest.raises(LabError, match="no_such"):
        attention.check(attention.Params.model_validate(PLAIN | {"corpus": "no_such"}), "cpu")


def test_a_sweep_over_what_is_silenced_runs_through_the_queue(lab: Lab) -> None:
    spec = """
name: heads
track: attention
kind: attention
hypothesis: it runs
methodology: as it stands
params: {model: random-tiny, dtype: float32, passages: 2, passage_tokens: 24, repeat_tokens: 8, repeat_batch: 2}
sweep: {grid: {ablate.by: [induction, random], ablate.heads: [1]}}
seeds: [0]
predictions:
  - id: sinks
    claim: the second layer gives the first token less than all
    threshold: {metric: sink_layer_1, below: 1}
"""
    path = lab.root / "heads.yaml"
    path.write_text(spec)
    done = call(lab, "submit", path, "--run")
    assert done.code == 0, done.err
    assert "2/2" in done.out or "succeeded" in done.out


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters of one base, far from it and from each other."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    from labqueue.llm.models import adapter_folder, load

    folders = []
    for seed in (1, 2):
        loaded = load.load_model("random-tiny", dtype="float32")
        torch.manual_seed(seed)
        config = LoraConfig(r=2, target_modules=["q_proj", "k_proj", "v_proj"], init_lora_weights=False)
        adapted = get_peft_model(loaded.model, config)  # type: ignore[arg-type]  # a model of transformers
        assert isinstance(adapted, PeftModel)
        folders.append(tmp_path_factory.mktemp(f"adapter{seed}"))
        adapter_folder.save(adapted, folders[-1], loaded)
    return folders


TASK = {"task": "chain_sum", "options": {"max_terms": 2, "max_digits": 2}, "train_items": 8, "eval_items": 6}


def test_heads_that_tuning_moved_stand_beside_what_another_seed_moves(adapters: list[Path], tmp_path: Path) -> None:
    one, other = map(str, adapters)
    rec = looked(tmp_path, adapter=one, rival=other, moved={"data": TASK, "heads": 2, "draws": 2})
    found = last(rec)
    declared = kinds.get("attention")
    assert all(declared.metrics.records(name) for name in found)
    assert rec.artifacts.keys() == {"moved", "moved_heads"} <= declared.artifacts.keys()
    assert found.keys() == {
        "moved_share", "moved_seeds_rank", "moved_seeds_null", "moved_texts_rank", "moved_texts_null", "tuned_gain",
        "given_back", "given_back_random", "given_back_random_high", "given_back_excess",
    }  # fmt: skip
    back, others, most, excess = (found[f"given_back{name}"] for name in ("", "_random", "_random_high", "_excess"))
    if back is None or others is None or most is None or excess is None:  # nothing was gained that could be given back
        assert found["tuned_gain"] is not None
        assert found["tuned_gain"] <= 0
    else:
        assert excess == pytest.approx(back - others)
        assert others <= most
    grid, table = rec.artifacts["moved"], rec.artifacts["moved_heads"]
    assert isinstance(grid, Grid)
    assert (len(grid.rows), len(grid.columns)) == (2, 4)
    assert isinstance(table, Table)
    assert len(table.rows) == 2
    assert table.rows[0][1] >= table.rows[1][1]  # type: ignore[operator]  # numbers


def test_an_adapter_that_is_left_off_is_the_base(adapters: list[Path], tmp_path: Path) -> None:
    base = last(looked(tmp_path / "base", ablate=None))
    off = last(looked(tmp_path / "off", ablate=None, adapter=str(adapters[0]), adapter_off=True))
    on = last(looked(tmp_path / "on", ablate=None, adapter=str(adapters[0])))
    assert off == base
    assert on != base


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"moved": {"data": TASK}}, "moved needs adapter and rival"),
        ({"moved": {"data": TASK}, "adapter": "a"}, "moved needs adapter and rival"),
        ({"adapter": "a", "rival": "b"}, "rival is for moved"),
        ({"adapter_off": True}, "adapter_off is for an adapter, and none is given"),
    ],
)
def test_what_is_missing_for_a_comparison_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        attention.Params.model_validate(PLAIN | given)


def test_a_rival_that_is_the_adapter_itself_tells_nothing(adapters: list[Path], tmp_path: Path) -> None:
    one = str(adapters[0])
    with pytest.raises(UserError, match="the tuned models attend alike: take adapters of two different training seeds"):
        looked(tmp_path, adapter=one, rival=one, moved={"data": TASK})


def test_rows_are_compared_as_the_tokens_that_training_saw(
    adapters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the loss is that of the answers of the other rows alone."""
    from labqueue.kinds.finetune.data import Data
    from labqueue.llm.data import tokenize
    from labqueue.llm.interp import moved_heads
    from labqueue.llm.models import adapter_folder, load

    seen: dict[str, Any] = {}
    changes = moved_heads.changes

    def watched(base: Any, tuned: Any, tokenizer: Any, texts: Any, tell: Any) -> Any:
        seen.update(texts)
        return changes(base, tuned, tokenizer, texts, tell)

    monkeypatch.setattr(moved_heads, "changes", watched)
    one, other = map(str, adapters)
    found = last(looked(tmp_path, adapter=one, rival=other, moved={"data": TASK, "heads": 2, "draws": 2}))
    loaded = load.load_model("random-tiny", quantization="none", dtype="float32")
    rows = tokenize.encode(loaded.tokenizer, Data.model_validate(TASK).load().held_out, 512, "held-out").rows
    assert [each.input_ids[0].tolist() for each in seen["task"]] == [row["input_ids"] for row in rows[:3]]

    def loss(model: Any) -> float:
        import torch

        total, count = 0.0, 0
        for row in rows[3:]:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            with torch.no_grad():
                mean = float(model(ids, labels=labels).loss)
            total, count = total + mean * tokenize.loss_tokens(row), count + tokenize.loss_tokens(row)
        return total / count

    gain = loss(loaded.model) - loss(adapter_folder.load(loaded, adapters[0]))
    assert found["tuned_gain"] == pytest.approx(gain, abs=1e-5)


def test_a_comparison_stops_between_two_texts(adapters: list[Path], tmp_path: Path) -> None:
    one, other = map(str, adapters)
    rec = MemoryRecorder(tmp_path, stop_at=2)
    moved = {"data": TASK, "heads": 2, "draws": 2}
    with pytest.raises(Stopped, match="pause"):
        attention.run(attention.Params.model_validate(PLAIN | {"adapter": one, "rival": other, "moved": moved}), rec)
    assert not rec.metrics
