"""Which heads fine-tuning moved, as the kind records it: of both adapters, on rows that neither was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from labqueue import kinds
from labqueue.domain.artifacts import Grid, Table
from labqueue.domain.errors import LabError
from labqueue.domain.kind import Stopped, UserError
from labqueue.kinds import attention
from labqueue.kinds.finetune.data import Data
from labqueue.llm.data import tokenize
from labqueue.llm.models import adapter_folder, load
from tests.helpers_recorder import MemoryRecorder

SUMS = {
    "task": "chain_sum",
    "options": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    "train_items": 16,
    "eval_items": 8,
}
ROWS = {"rows": 3, "scored_rows": 2, "heads": 2, "draws": 3}


def adapter(folder: Path, seed: int, targets: tuple[str, ...] = ("q_proj", "k_proj", "o_proj")) -> Path:
    """One whose both parts are drawn by the seed, so that it changes what the model does."""
    loaded = load.load_model("random-tiny", quantization="none", dtype="float32", backend="hf")
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=32, target_modules=list(targets), init_lora_weights=False, task_type="CAUSAL_LM"
    )
    adapter_folder.save(get_peft_model(loaded.model, config), folder, loaded)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    there = tmp_path_factory.mktemp("adapters")
    return [adapter(there / str(seed), seed) for seed in (0, 1)]


def params(one: Path, rival: Path, **moved: Any) -> attention.Params:
    return attention.Params.model_validate(
        {
            "model": "random-tiny",
            "dtype": "float32",
            "passages": 2,
            "passage_tokens": 16,
            "adapter": str(one),
            "moved": {"rival": str(rival), "data": SUMS, **ROWS, **moved},
        }
    )


def compared(where: Path, one: Path, rival: Path, **moved: Any) -> MemoryRecorder:
    rec = MemoryRecorder(where)
    attention.run(params(one, rival, **moved), rec)
    return rec


def last(rec: MemoryRecorder) -> dict[str, Any]:
    return {name: points[0] for name, points in rec.metrics.items()}


def test_both_adapters_are_compared_and_the_runs_own_is_patched(adapters: list[Path], tmp_path: Path) -> None:
    one, other = (compared(tmp_path / str(at), *pair) for at, pair in enumerate((adapters, adapters[::-1])))
    found, turned = last(one), last(other)
    declared = kinds.get("attention").metrics
    assert all(declared.records(name) for name in found)
    for name in ("change", "change_floor", "above_floor", "seed_rank", "text_rank", "base_loss"):
        assert found[name] == pytest.approx(turned[name]), "which of two is the rival is no matter to it"
    assert found["change"] > 0
    assert found["change_floor"] > 0
    assert found["tuned_loss"] != turned["tuned_loss"]
    if found["given_back"] is not None:
        excess = found["given_back"] - found["given_back_random"]
        assert found["given_back_excess"] == pytest.approx(excess)
        assert found["given_back_random"] <= found["given_back_random_high"]
    times, change, table = (one.artifacts[name] for name in ("change_over_floor", "change_by_head", "moved"))
    assert isinstance(times, Grid)
    assert isinstance(change, Grid)
    assert isinstance(table, Table)
    assert (len(times.rows), len(times.columns)) == (2, 4)
    flat = [value for row in change.values for value in row if value is not None]
    assert sum(flat) / len(flat) == pytest.approx(found["change"], abs=1e-5)
    layer, head = map(int, str(table.rows[0][0]).split("."))
    assert change.values[layer][head] == max(flat), "the most moved head is the first of the table"


def test_losses_are_those_of_the_answers_of_other_held_out_rows(adapters: list[Path], tmp_path: Path) -> None:
    found = last(compared(tmp_path, *adapters))
    loaded = load.load_model("random-tiny", quantization="none", dtype="float32", backend="hf")
    rows = Data.model_validate(SUMS).load().held_out[3:5]
    tokens = tokenize.encode(loaded.tokenizer, rows, 256).rows

    def loss(model: Any) -> float:
        total, count = 0.0, 0
        for row in tokens:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            with torch.no_grad():
                mean = float(model(ids, labels=labels).loss)
            total, count = total + mean * tokenize.loss_tokens(row), count + tokenize.loss_tokens(row)
        return total / count

    assert found["base_loss"] == pytest.approx(loss(loaded.model), rel=1e-5)
    assert found["tuned_loss"] == pytest.approx(loss(adapter_folder.load(loaded, adapters[0])), rel=1e-5)


def test_a_stop_is_heeded_between_two_texts(adapters: list[Path], tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path, stop_at=2)
    with pytest.raises(Stopped, match="pause"):
        attention.run(params(*adapters), rec)


def test_what_cannot_be_compared_is_refused_with_the_cure(adapters: list[Path], tmp_path: Path) -> None:
    one = adapters[0]
    with pytest.raises(UserError, match="attend alike"):
        compared(tmp_path, one, one)
    with pytest.raises(UserError, match=r"are of 8 held-out rows: raise data\.eval_items"):
        compared(tmp_path, *adapters, rows=7)
    with pytest.raises(UserError, match="holds no adapter"):
        compared(tmp_path, one, tmp_path)
    with pytest.raises(UserError, match=r"of 4 heads of layer \d .* patch fewer"):
        compared(tmp_path, *adapters, heads=7)
    with pytest.raises(UserError, match="has changed since it was submitted"):
        compared(tmp_path, *adapters, rival_pin=f"sha256:{'0' * 64}")
    with pytest.raises(LabError, match="holds no adapter"):
        attention.check(params(one, tmp_path), "cpu")
    with pytest.raises(ValueError, match="adapter is null: name one"):
        attention.Params.model_validate({"moved": {"rival": "r", "data": SUMS}})


def test_a_rivals_content_and_the_data_are_part_of_the_run(adapters: list[Path]) -> None:
    pinned = attention.pinned(params(*adapters))
    assert pinned.moved is not None
    assert pinned.adapter_pin is not None
    assert pinned.moved.rival_pin is not None
    assert pinned.moved.rival_pin.startswith("sha256:")
    assert pinned.moved.rival_pin != pinned.adapter_pin
    assert "task:chain_sum" in attention.assets(pinned)
