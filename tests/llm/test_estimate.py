"""The memory estimate: its counts against real steps, its laws, what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labqueue.domain.errors import LabError
from labqueue.llm.memory import estimate, footprint, workload
from labqueue.llm.memory.coefficients import FITTED
from labqueue.llm.memory.estimate import predict
from labqueue.llm.memory.workload import Workload
from labqueue.llm.models.shapes import SHAPES, Shape

WIDE = Shape("llama", 128, 676, 6, 4, 1, 32, 600, False, False, 4096)
"""The proportions of Qwen2.5-7B: a wide MLP, few key heads."""
NARROW = Shape("llama", 144, 384, 6, 9, 3, 16, 2000, True, False, 4096)
"""Those of SmolLM2-135M."""


@pytest.mark.parametrize(
    ("within", "more"),
    [
        (0.03, {}),
        (0.03, {"checkpointing": False}),
        (0.03, {"accumulation": 2}),
        (0.03, {"quantization": "none"}),
        (0.03, {"quantization": "none", "checkpointing": False}),
        # Beside weights and moments, which are most of a full fine-tuning and are not counted here.
        (0.04, {"quantization": "none", "method": "full"}),
        (0.04, {"quantization": "none", "method": "full", "checkpointing": False}),
    ],
    ids=str,
)
def test_what_hf_holds_in_a_step_is_what_a_real_step_holds(within: float, more: dict[str, Any]) -> None:
    from tests.llm import replay

    for shape, sequence in ((WIDE, 64), (NARROW, 192)):
        plan = Workload(sequence=sequence, rank=4, **more)
        counted = replay.step(shape, plan)
        said = max(math.fsum(moment.values()) for moment in footprint.moments(shape, plan))
        assert counted.trained == footprint.trained(shape, plan)
        assert said == pytest.approx(counted.most, rel=within), (shape.hidden, sequence)


HEAVY = {"torch", "transformers", "peft", "trl", "bitsandbytes", "unsloth", "numpy"}

PLANS = st.builds(
    Workload,
    backend=st.sampled_from(workload.BACKENDS),
    sequence=st.integers(1, 4000),
    batch=st.integers(1, 16),
    accumulation=st.integers(1, 2),
    rank=st.integers(1, 96),
    quantization=st.sampled_from(workload.QUANTIZATIONS),
    optimizer=st.sampled_from(workload.OPTIMIZERS),
    checkpointing=st.booleans(),
    masked=st.booleans(),
    card_gib=st.sampled_from((15.5, 80.0)),
)
NAMES = st.sampled_from(["smollm2-135m-instruct", "qwen2.5-1.5b-instruct", "llama-3.2-3b-instruct"])


@settings(deadline=None)
@given(NAMES, PLANS)
def test_items_sum_to_the_total_and_none_is_negative(name: str, plan: Workload) -> None:
    found = predict(SHAPES[name], plan)
    assert math.fsum(found.items_gib.values()) == pytest.approx(found.total_gib)
    assert set(found.items_gib) <= set(estimate.ITEMS)
    assert min(found.items_gib.values()) > 0


@settings(deadline=None)
@given(NAMES, PLANS, st.integers(0, 4000), st.integers(0, 8), st.integers(0, 64))
def test_a_longer_sequence_a_larger_batch_or_rank_never_needs_less(
    name: str, plan: Workload, longer: int, larger: int, ranks: int
) -> None:
    shape = SHAPES[name]
    before = predict(shape, plan).total_gib
    assert predict(shape, replace(plan, sequence=plan.sequence + longer)).total_gib >= before
    assert predict(shape, replace(plan, batch=plan.batch + larger)).total_gib >= before
    assert predict(shape, replace(plan, rank=plan.rank + ranks)).total_gib >= before


@settings(deadline=None)
@given(NAMES, PLANS)
def test_four_bits_checkpoints_and_small_moments_save_memory(name: str, plan: Workload) -> None:
    shape = SHAPES[name]

    def total(**changed: Any) -> float:
        return predict(shape, replace(plan, rank=16, sequence=2048, **changed)).total_gib

    assert total(quantization="4bit") < total(quantization="none")
    assert total(checkpointing=True) < total(checkpointing=False)
    assert total(optimizer="adamw_8bit") < total(optimizer="adamw")


def test_the_longest_sequence_fits_and_the_next_does_not() -> None:
    shape = SHAPES["qwen2.5-7b-instruct"]
    for backend in workload.BACKENDS:
        plan = Workload(backend=backend, batch=2)
        found = estimate.longest(shape, plan, 9.0)
        assert predict(shape, replace(plan, sequence=found)).total_gib <= 9.0
        assert predict(shape, replace(plan, sequence=found + 1)).total_gib > 9.0
    assert estimate.longest(shape, Workload(), 5.0) == 0, "not even the weights"
    assert estimate.longest(shape, Workload(), 500.0) == shape.max_position


@pytest.mark.parametrize(
    ("backend", "measured_gib"),
    # Of Qwen2.5-7B's shape at batch 2 of 1,024 tokens on an H200, the lab's run (docs/log.md, 2026-11-23).
    [("hf", 6.89), ("unsloth", 6.66)],
)
def test_a_measured_7b_run_is_predicted_within_five_percent(backend: Any, measured_gib: float) -> None:
    found = predict(SHAPES["qwen2.5-7b-instruct"], Workload(backend=backend, batch=2, card_gib=139.8))
    assert found.total_gib == pytest.approx(measured_gib, rel=0.05)


ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "benchmarks" / "memory" / "rows.json"


def of_measured_rows(what: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", what, str(MEASURED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_runs_it_was_not_fitted_to_are_within_five_percent_and_nothing_is_said_to_fit_that_did_not() -> None:
    found = of_measured_rows("score")
    ran = [row for row in found["rows"] if row["ran"]]
    assert len(ran) >= 24
    assert {row["backend"] for row in ran} == set(workload.BACKENDS)
    assert len({row["shape"] for row in ran}) >= 2
    for backend in workload.BACKENDS:
        errors = [abs(row["predicted_gib"] / row["peak_gib"] - 1) for row in ran if row["backend"] == backend]
        assert math.fsum(errors) / len(errors) <= 0.05
        assert max(errors) <= 0.10
    assert len(ran) < len(found["rows"]), "some do not fit, so that the verdict is judged too"
    assert [row for row in found["rows"] if row["predicted_fits"] and not row["ran"]] == []


def test_no_run_that_the_estimate_is_judged_by_was_one_it_was_fitted_to() -> None:
    rows = json.loads(MEASURED.read_text())["rows"]
    sets: dict[str, set[str]] = {"fit": set(), "held-out": set()}
    for row in rows:
        sets[row.pop("set")].add(json.dumps({key: row[key] for key in row if key not in ("outcome", "peak_gib")}))
    assert min(map(len, sets.values())) > 20
    assert sets["fit"] & sets["held-out"] == set()


def test_the_coefficients_are_those_that_the_measured_rows_give() -> None:
    pytest.importorskip("scipy")
    for backend, found in of_measured_rows("fit").items():
        fitted = FITTED[backend]
        assert fitted.constant_bytes / 2**30 == pytest.approx(found["constant_gib"], abs=2e-3)
        assert fitted.fragmentation == pytest.approx(found["fragmentation"], abs=2e-3)
        assert fitted.tile == pytest.approx(found["tile"], abs=2e-2)


def test_unsloth_keeps_the_embedding_on_a_16_gb_card_and_moves_it_where_little_is_left() -> None:
    untied, tied = SHAPES["qwen2.5-7b-instruct"], SHAPES["qwen2.5-1.5b-instruct"]
    plan = Workload(backend="unsloth", sequence=4096)
    little = replace(plan, allowed_gib=6.0)
    table = 2 * untied.embedding_parameters / 2**30
    there, gone = (predict(untied, each).items_gib["embeddings"] for each in (plan, little))
    assert (there, gone) == pytest.approx((2 * table, table))
    assert predict(tied, little) == predict(tied, plan), "a head that shares it needs it on the card"
    assert predict(untied, replace(little, backend="hf")) == predict(untied, replace(plan, backend="hf"))
    # Loading needs the whole table all the same, and is the most where steps are short.
    short = predict(untied, replace(little, sequence=64)).items_gib
    assert short["embeddings"] == pytest.approx(2 * table)
    assert "activations" not in short


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sequence": 40_000}, "40000 is beyond the model's longest, 32768"),
        ({"sequence": 0}, "sequence is 0"),
        ({"batch": -1}, "batch is -1"),
        ({"rank": 257}, "rank 257 is not between 1 and 256"),
        ({"backend": "vllm"}, "'vllm'"),
        ({"quantization": "8bit"}, "'8bit'"),
        ({"optimizer": "lion"}, "'lion'"),
        ({"targets": ("q_prj",)}, "did you mean 'q_proj'"),
        ({"method": "full"}, "quantization none"),
    ],
)
def test_what_no_run_can_be_is_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(LabError, match="(?s).*" + named.replace("(", "\\(")):
        predict(SHAPES["qwen2.5-1.5b-instruct"], Workload(**wrong))


def test_an_estimate_needs_no_model_library() -> None:
    program = (
        "import sys, json; from labqueue import kinds; finetune = kinds.get('finetune')\n"
        "params = finetune.params.model_validate({'data': {'task': 'chain_sum', 'train_items': 64}})\n"
        "assert sum(finetune.estimate(params, 'cuda').values()) > 0.2\n"
        "assert finetune.estimate(params, 'cpu') is None\n"
        "other = params.model_copy(update={'model': 'from_run'})\n"
        "assert finetune.estimate(other, 'cuda') is None, 'which model it will be is not known yet'\n"
        # A generated task's rows are looked at for their length, and its generator brings numpy.
        f"sys.exit(bool({HEAVY - {'numpy'}!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
