"""estimate: a line for every run with what its kind predicts, or that it predicts nothing; and one setting directly."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from labqueue.llm.models.catalogue import CATALOGUE
from tests.commands import call, refused
from tests.conftest import Lab

DATA = {"hub": "yahma/alpaca-cleaned", "train_items": 64}
"""Rows that are not looked at here, so that max_length is taken for their length."""
TUNING: dict[str, Any] = {"model": "qwen2.5-7b-instruct", "backend": "hf", "data": DATA, "steps": 5, "evaluations": 0}


def tuning(lab: Lab, **fields: Any) -> Path:
    return lab.spec("tuning", **{"kind": "finetune", "params": TUNING, "limits": {"memory_gib": 14.5}, **fields})


def direct(lab: Lab, *words: str | Path | int) -> dict[str, Any]:
    answer = call(lab, "estimate", *words, "--json")
    assert answer.code == 0, answer.err
    return answer.json  # type: ignore[no-any-return]  # JSON


def test_every_run_is_listed_with_its_sweep_point_and_no_invented_number(lab: Lab) -> None:
    spec = lab.spec(sweep={"grid": {"steps": [5, 9]}}, seeds=[0, 1])
    found = lab.run("estimate", spec, "--json").json
    assert [(run["seed"], run["varied"]) for run in found["runs"]] == [
        (seed, {"steps": steps}) for seed in (0, 1) for steps in (5, 9)
    ]
    for run in found["runs"]:
        assert {run[key] for key in ("total_gib", "context_gib", "items_gib", "formula_gib", "fits")} == {None}
    shown = lab.run("estimate", spec).out
    assert "steps=5" in shown
    assert "cannot predict its memory" in shown
    assert "Canonical" not in shown


@pytest.mark.parametrize("backend", ["hf", "unsloth"])
def test_every_catalogue_model_is_estimated_from_its_name_alone(lab: Lab, backend: str) -> None:
    totals = {}
    for name in CATALOGUE:
        found = direct(
            lab, "--model", name, "--backend", backend, "--sequence", 512, "--batch", 1, "--rank", 8,
            "--memory-gib", "14.5",
        )  # fmt: skip
        assert {"schema", "total_gib", "context_gib", "items_gib", "fits"} <= set(found)
        assert found["schema"] == 1
        assert math.fsum(found["items_gib"].values()) == pytest.approx(found["total_gib"])
        assert found["fits"] == (found["total_gib"] + found["context_gib"] <= 14.5 + found["context_gib"])
        totals[name] = found["total_gib"]
    assert totals["random-tiny"] < totals["smollm2-135m-instruct"] < totals["qwen2.5-1.5b-instruct"]
    assert totals["qwen2.5-7b-instruct"] < totals["qwen2.5-14b-instruct"]


def test_a_folder_needs_a_config_and_no_weights(lab: Lab) -> None:
    config = {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128_256,
        "max_position_embeddings": 131_072, "tie_word_embeddings": True,
    }  # fmt: skip
    (lab.root / "model").mkdir()
    (lab.root / "model" / "config.json").write_text(json.dumps(config))
    mine = direct(lab, "--model", lab.root / "model", "--sequence", 2048)
    assert mine["items_gib"] == direct(lab, "--model", "llama-3.2-1b-instruct", "--sequence", 2048)["items_gib"]
    (lab.root / "model" / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    error = refused(call(lab, "estimate", "--model", lab.root / "model", "--json"))
    assert "'mamba'" in error["message"]
    assert error["key"] == "model"


def test_what_does_not_fit_a_small_card_fits_a_large_one(lab: Lab) -> None:
    words = ("--model", "qwen2.5-7b-instruct", "--sequence", 8192, "--batch", 4)
    small, large = (direct(lab, *words, "--memory-gib", gib) for gib in ("14.5", "139"))
    assert (small["fits"], large["fits"]) == (False, True)
    assert small["items_gib"] == large["items_gib"]
    shown = call(lab, "estimate", *words, "--memory-gib", "14.5").out
    assert "does not fit: --memory-gib 14.5 leaves the allocator 14.5 GiB" in shown
    assert "activations" in shown


def test_each_setting_counts(lab: Lab) -> None:
    words = ("--model", "llama-3.2-1b-instruct", "--sequence", 2048, "--batch", 2)
    total = direct(lab, *words)["total_gib"]
    for more in (
        ("--no-checkpointing",),
        ("--quantization", "none"),
        ("--rank", 128),
        ("--method", "full"),
        ("--accumulation", 4),
    ):
        assert direct(lab, *words, *more)["total_gib"] > total, more
    assert direct(lab, *words, "--optimizer", "adamw_8bit")["total_gib"] < total


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--model", "qwen2.5-7b-instuct"), "did you mean 'qwen2.5-7b-instruct'"),
        (("--model", "random-tiny", "--rank", 33), "rank 33 is not between 1 and 32"),
        (("--model", "random-tiny", "--sequence", 1025), "1025 is beyond the model's longest, 1024"),
        (("--model", "random-tiny", "--sequence", 0), "sequence is 0"),
        (("--model", "random-tiny", "--batch", 0), "batch is 0"),
        (("--model", "random-tiny", "--backend", "vllm"), "'vllm'"),
        (("--model", "random-tiny", "--quantization", "8bit"), "'8bit'"),
        (("--model", "random-tiny", "--optimizer", "lion"), "'lion'"),
        (("--model", "random-tiny", "--backend", "unsloth", "--method", "full"), "backend hf"),
        (("--model", "random-tiny", "--memory-gib", "0"), "--memory-gib 0"),
        (("--model", "random-tiny", "--memory-gib", "nan"), "--memory-gib nan"),
        (("--rank", 8), "--model"),
        ((), "--model"),
    ],
)
def test_a_wrong_request_is_refused_by_name(lab: Lab, words: tuple[str | int, ...], named: str) -> None:
    assert named in refused(call(lab, "estimate", *words, "--json"))["message"]


def test_a_spec_and_a_setting_are_not_both_taken(lab: Lab) -> None:
    assert "--rank" in refused(call(lab, "estimate", tuning(lab), "--rank", 8, "--json"))["message"]


def test_a_spec_for_a_gpu_is_itemised_run_by_run(lab: Lab) -> None:
    spec = tuning(lab, sweep={"grid": {"lora.rank": [8, 64], "max_length": [512, 16_384]}}, seeds=[0, 1])
    found = direct(lab, spec, "--profile", "gpu")
    totals = {(run["varied"]["lora.rank"], run["varied"]["max_length"]): run["total_gib"] for run in found["runs"]}
    assert len(found["runs"]) == 8
    assert totals[8, 512] < totals[64, 512] < totals[64, 16_384]
    for run in found["runs"]:
        assert math.fsum(run["items_gib"].values()) == pytest.approx(run["total_gib"])
        assert run["formula_gib"] == pytest.approx(run["total_gib"]), "nothing was measured here"
        assert run["fits"] is (run["total_gib"] <= 14.5)
    on_cpu = direct(lab, spec, "--profile", "cpu")["runs"]
    assert {run["total_gib"] for run in on_cpu} == {None}
    shown = call(lab, "estimate", spec, "--profile", "gpu").out
    assert "does not fit" in shown
    assert "limits.memory_gib 14.5 leaves the allocator 14.5 GiB" in shown


def test_a_rank_that_no_matrix_has_is_found_before_the_night_and_at_its_line(lab: Lab) -> None:
    spec = tuning(lab, params={**TUNING, "lora": {"rank": 1024}})
    error = refused(call(lab, "submit", spec, "--profile", "gpu", "--json"))
    assert "rank 1024 is not between 1 and 512" in error["message"]
    assert (Path(error["file"]).name, error["key"]) == ("tuning.yaml", "params.lora.rank")


def test_rows_that_are_shorter_than_max_length_need_less(lab: Lab) -> None:
    data = {"task": "chain_sum", "options": {"max_terms": 3, "max_digits": 2}, "train_items": 64}
    spec = tuning(lab, params={**TUNING, "data": data, "batch": 8}, sweep={"grid": {"max_length": [64, 512, 8192]}})
    short, long, longer = (run["total_gib"] for run in direct(lab, spec, "--profile", "gpu")["runs"])
    assert short < long == longer
    packed = tuning(lab, params={**TUNING, "data": {**data, "packing": True}, "batch": 8, "max_length": 512})
    assert direct(lab, packed, "--profile", "gpu")["runs"][0]["total_gib"] > long, "packed sequences are full"
