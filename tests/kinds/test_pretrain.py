"""The kind pretrain: what it records, resumes, keeps, and refuses. A small text of the tests' own; no download."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from labqueue.domain import kind
from labqueue.domain.artifacts import Curve, Files, Tensor, attention_maps
from labqueue.domain.errors import LabError
from labqueue.kinds import pretrain
from labqueue.kinds.pretrain import Params
from labqueue.kinds.pretrain import params as parameters
from labqueue.llm.pretraining import hf_folder, presets, validation
from labqueue.llm.pretraining.gpt import GPT
from tests.helpers_recorder import MemoryRecorder

TEXT = "".join(f"{number} sheep went over the hill, and {number % 7} came back.\n" for number in range(400))
TINY = {"layers": 2, "heads": 2, "width": 16, "context": 16, "dropout": 0.2}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "sheep.txt"
    path.write_text(TEXT)
    return str(path)


def made(corpus: str, **more: Any) -> Params:
    given = {"corpus": corpus, "model": TINY, "steps": 12, "batch": 4, "evaluations": 2, "sample_tokens": 5}
    return pretrain.resolved(Params.parse(given | more), "cpu")


def ran(params: Params, folder: Path, **more: Any) -> MemoryRecorder:
    rec = MemoryRecorder(folder, **more)
    pretrain.run(params, rec)
    return rec


def values(rec: MemoryRecorder) -> dict[str, dict[int, float | None]]:
    """What does not depend on the clock or the memory."""
    clocked = ("tokens_per_second", "model_flops_utilization", "peak_memory_gib")
    return {name: series for name, series in rec.metrics.items() if name not in clocked}


def test_a_run_measures_the_whole_split_at_its_ends_and_between_and_keeps_quarters(text: str, tmp_path: Path) -> None:
    params = made(text)
    rec = ran(params, tmp_path / "run")
    assert list(rec.metrics["eval_loss"]) == [0, 4, 8, 12]
    assert list(rec.metrics["train_loss"]) == list(range(1, 13))
    assert {name for name, value in rec.artifacts.items() if isinstance(value, Files)} == {
        *("step_000003", "step_000006", "step_000009"),
        "final",
    }
    assert [step for step, _ in rec.samples] == [0, 4, 8, 12]
    assert all(len(written) == 5 for written in rec.samples.values())
    curve = rec.artifacts["update_by_layer"]
    assert isinstance(curve, Curve)
    assert curve.x == (4, 8, 12)
    assert set(curve.series) == {"embedding", "positions", "layer 0", "layer 1", "norm"}
    declared = kind.Kind("pretrain", "", Params, pretrain)
    assert declared.keeps_on_demand
    assert set(rec.metrics) <= set(pretrain.METRICS)
    assert rec.phases[0] == "tokenizing"


def test_bits_a_byte_and_the_first_losss_excess_are_of_the_validation_text(text: str, tmp_path: Path) -> None:
    rec = ran(made(text, evaluations=0), tmp_path / "run")
    held_out = TEXT[-len(TEXT) // 10 :]
    loss, bits = (rec.metrics[name][12] for name in ("eval_loss", "bits_per_byte"))
    assert loss is not None
    assert bits is not None
    assert bits == pytest.approx(loss / math.log(2), rel=2 / len(held_out)), "a character is a byte here"
    excess = rec.metrics["initial_excess"][0]
    assert excess is not None
    assert abs(excess) <= 0.06


@pytest.mark.parametrize(
    "more",
    [{}, {"preset": "modern-0.9m", "accumulation": 2}, {"checkpoint_every": 5, "steps": 14, "evaluations": 3}],
    ids=["gpt2", "muon", "between evaluations"],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(more: dict[str, Any], text: str, tmp_path: Path) -> None:
    params = made(text, **more)
    whole = ran(params, tmp_path / "whole")
    stopped = MemoryRecorder(tmp_path / "stopped", stop_at=5)
    with pytest.raises(kind.Stopped):
        pretrain.run(params, stopped)
    at = stopped.checkpoints[-1]
    assert 5 <= at.step < 12
    torch.manual_seed(99)
    again = ran(params, tmp_path / "again", resume_from=at, attempt=2)
    for name, series in values(whole).items():
        before = {step: value for step, value in stopped.metrics.get(name, {}).items() if step <= at.step}
        assert before | again.metrics.get(name, {}) == series, name
    assert {key: value for key, value in whole.samples.items() if key[0] > at.step} == again.samples
    one, other = (rec.artifacts["final"] for rec in (whole, again))
    assert isinstance(one, Files)
    assert isinstance(other, Files)
    assert (one.path / "model.safetensors").read_bytes() == (other.path / "model.safetensors").read_bytes()
    assert again.artifacts["update_by_layer"] == whole.artifacts["update_by_layer"]
    assert not [note for note in again.notes if "other circumstances" in note]


def test_a_resume_with_other_threads_says_so(text: str, tmp_path: Path) -> None:
    params = made(text)
    stopped = MemoryRecorder(tmp_path / "stopped", stop_at=5)
    with pytest.raises(kind.Stopped):
        pretrain.run(params, stopped)
    at = stopped.checkpoints[-1]
    about = json.loads((at.path / "about.json").read_text())
    about["computed"]["threads"] = 64
    (at.path / "about.json").write_text(json.dumps(about))
    again = ran(params, tmp_path / "again", resume_from=at, attempt=2)
    (note,) = [note for note in again.notes if "other circumstances" in note]
    assert f"threads was 64, is {torch.get_num_threads()}" in note


def test_a_run_that_is_stopped_while_it_tokenizes_keeps_nothing(text: str, tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path / "run", stop_after_asks=0)
    with pytest.raises(kind.Stopped):
        pretrain.run(made(text), rec)
    assert rec.checkpoints == []
    assert rec.metrics == {}


@pytest.mark.parametrize("preset", ["gpt2-0.8m", "modern-0.9m"])
def test_the_folder_opens_in_transformers_and_has_the_loss_that_was_reported(
    preset: str, text: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rec = ran(made(text, preset=preset, learning_rate=0.01), tmp_path / "run")
    final = rec.artifacts["final"]
    assert isinstance(final, Files)
    model = AutoModelForCausalLM.from_pretrained(final.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(final.path)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == TEXT
    held_out = ids[TEXT.index("\n", int(0.9 * len(TEXT))) + 1 :]
    nats, count = 0.0, 0
    with torch.no_grad():
        for first, length in validation.windows(len(held_out), 16):
            span = torch.tensor([held_out[first : first + length + 1]])
            logits = model(span[:, :-1]).logits[0]
            nats += float(torch.nn.functional.cross_entropy(logits, span[0, 1:], reduction="sum"))
            count += length
    assert nats / count == pytest.approx(rec.metrics["eval_loss"][12], abs=0.02)


def test_what_a_run_has_now_is_kept_when_it_is_asked_for(text: str, tmp_path: Path) -> None:
    rec = ran(made(text, kept="none"), tmp_path / "run", keep_at=5)
    (name,) = [name for name, value in rec.artifacts.items() if isinstance(value, Files)]
    assert name.startswith("step_0000")
    assert 5 <= int(name.removeprefix("step_")) <= 12
    kept = rec.artifacts[name]
    assert isinstance(kept, Files)
    assert (kept.path / "config.json").is_file()


def test_an_ablation_is_kept_as_plain_weights(text: str, tmp_path: Path) -> None:
    params = made(text, kept="final", model=TINY | {"activation": "relu2", "softcap": 15.0})
    rec = ran(params, tmp_path / "run")
    final = rec.artifacts["final"]
    assert isinstance(final, Files)
    assert {path.name for path in final.path.iterdir()} >= {"gpt.json", "model.safetensors"}
    assert not (final.path / "config.json").exists()


def test_a_loss_that_is_not_finite_ends_the_run(text: str, tmp_path: Path) -> None:
    with pytest.raises(kind.Diverged):
        ran(made(text, learning_rate=1e30, max_grad_norm=1e30), tmp_path / "run")


def test_less_memory_is_the_same_experiment_in_smaller_micro_batches(text: str, tmp_path: Path) -> None:
    params = made(text, model=TINY | {"dropout": 0.0}, batch=6)
    less = pretrain.with_less_memory(params)
    assert less is not None
    assert (less.batch, less.accumulation) == (3, 2)
    least = pretrain.with_less_memory(less)
    assert least is not None
    assert (least.batch, least.accumulation, least.activation_checkpointing) == (1, 6, False)
    last = pretrain.with_less_memory(least)
    assert last is not None
    assert last.activation_checkpointing
    assert pretrain.with_less_memory(last) is None
    one, other = (ran(each, tmp_path / str(each.batch)).metrics["train_loss"] for each in (params, last))
    for step, value in one.items():
        assert other[step] == pytest.approx(value, abs=2e-4)


def test_everything_that_a_preset_says_is_written_down_at_submission(text: str) -> None:
    params = made(text, preset="modern-10.7m", model={}, steps=5000, batch=None)
    assert (params.batch, params.learning_rate, params.optimizer, params.warmup_steps) == (64, 1e-3, "muon", 100)
    assert params.model.qk_norm is True
    assert pretrain.resolved(params, "cpu") == params
    preset = presets.find("modern-10.7m")
    assert parameters.config(params, preset.config.vocabulary) == preset.config
    assert parameters.recipe(params) == preset.recipe
    assert made(text, steps=40).warmup_steps == 4, "a preset's warm-up is for its own steps"


def test_the_content_of_a_corpus_is_pinned(text: str) -> None:
    pinned = pretrain.pinned(made(text))
    assert pinned.corpus_sha256 is not None
    pretrain.check(pinned, "cpu")
    Path(text).write_text(TEXT + "Another line.\n")
    assert pretrain.pinned(made(text)).corpus_sha256 != pinned.corpus_sha256
    with pytest.raises(LabError, match="has changed since it was submitted"):
        pretrain.check(pinned, "cpu")


def test_a_rehearsal_is_two_steps_of_the_same_shape(text: str, tmp_path: Path) -> None:
    rec = ran(pretrain.preflight(made(text, preset="modern-0.9m", muon_rate=0.01)), tmp_path / "run")
    assert list(rec.metrics["train_loss"]) == [1, 2]
    assert "final" in rec.artifacts
    assert rec.checkpoints


@pytest.mark.parametrize(
    ("changed", "words", "key"),
    [
        ({"preset": "gpt2-10m"}, "did you mean 'gpt2-10.7m'", "preset"),
        ({"warmup_steps": 13}, "warmup_steps is 13, more than the 12 steps", "warmup_steps"),
        ({"model": TINY | {"width": 15}}, "width 15 is no multiple of heads 2", "model.width"),
        ({"model": TINY | {"zero_head": True}}, "zero_head needs tied: false", "model.zero_head"),
        ({"vocabulary": 100, "tokenizer": {"kind": "byte"}}, "the tokenizer .byte. has 257 tokens", "vocabulary"),
        ({"compile": "graph"}, "leave compile at auto on a CPU", "compile"),
        ({"corpus": "shakespear_char"}, "unknown corpus 'shakespear_char': did you mean", "corpus"),
    ],
)
def test_what_cannot_begin_is_refused_at_submission(changed: dict[str, Any], words: str, key: str, text: str) -> None:
    given = {"corpus": text, "model": TINY, "steps": 12, "batch": 4} | changed
    with pytest.raises(LabError, match=words) as told:
        pretrain.check(Params.parse(given), "cpu")
    assert told.value.key == key


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"prompts": ("",)}, "prompts has an empty one"),
        ({"prompts": ("a", "a")}, "prompts has one twice"),
        ({"optimizer": "adamw", "muon_rate": 0.1}, "muon_rate belongs to optimizer: muon"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Params.parse(changed)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"too short", "a context of 16 needs at least 17"), (b"", "no text|empty"), (b"\xff\xfe\x00\x01" * 99, "UTF-8")],
)
def test_a_corpus_that_is_none_fails_the_run_in_words(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(kind.UserError, match=words):
        ran(made(str(path)), tmp_path / "run")


def test_a_vocabulary_below_the_tokenizers_fails_the_run_in_words(text: str, tmp_path: Path) -> None:
    with pytest.raises(kind.UserError, match="give the model a vocabulary of at least"):
        ran(made(text, vocabulary=5), tmp_path / "run")


def test_memory_is_estimated_on_a_gpu_alone_and_falls_with_the_micro_batch(text: str) -> None:
    params = made(text, preset="gpt2-124m", model={}, tokenizer={"kind": "bpe", "vocabulary": 50_257})
    assert pretrain.estimate(params, "cpu") is None
    found = pretrain.estimate(params, "cuda:0")
    assert found is not None
    less = pretrain.with_less_memory(params)
    assert less is not None
    fewer = pretrain.estimate(less, "cuda:0")
    assert fewer is not None
    assert sum(fewer.values()) < sum(found.values())
    assert found["weights"] == pytest.approx(4 * 124_373_760 / 2**30)


def test_seconds_on_a_cpu_grow_with_the_steps(text: str) -> None:
    one, ten = (pretrain.expected_s(made(text, steps=steps), "cpu") for steps in (100, 1000))
    assert one is not None
    assert ten is not None
    assert one < ten


def test_heads_are_looked_at_every_so_many_steps_and_training_goes_on_as_without(text: str, tmp_path: Path) -> None:
    plain = ran(made(text), tmp_path / "plain")
    rec = ran(made(text, probe_every=5), tmp_path / "looked")
    assert list(rec.metrics["induction_best"]) == [0, 5, 10, 12]
    for name in ("eval_loss", "train_loss", "grad_norm"):
        assert rec.metrics[name] == plain.metrics[name], "looking draws nothing and changes nothing"
    assert rec.samples == plain.samples
    maps = {name: value for name, value in rec.artifacts.items() if name.startswith("maps_")}
    assert maps.keys() == {"maps_000000", "maps_000005", "maps_000010", "maps_000012"}
    for value in maps.values():
        assert isinstance(value, Tensor)
        header = attention_maps.read_header(value.path)
        assert "".join(header.tokens) in TEXT[int(0.88 * len(TEXT)) :], "the validation split's"
        head = attention_maps.read_head(value.path, 1, 1)
        assert head.shape == (12, 12)
        assert head.sum(-1) == pytest.approx(1, abs=2e-3)
    for name in ("induction_by_step", "previous_token_by_step"):
        curve = rec.artifacts[name]
        assert isinstance(curve, Curve)
        assert curve.x == (0, 5, 10, 12)
        assert curve.series.keys() == {"0.0", "0.1", "1.0", "1.1"}
    best = max(series[-1] for series in curve.series.values() if series[-1] is not None)
    assert best == pytest.approx(rec.metrics["previous_token_best"][12])


def test_a_resumed_look_at_heads_is_the_uninterrupted_one(text: str, tmp_path: Path) -> None:
    whole = ran(made(text, probe_every=5), tmp_path / "whole")
    first = MemoryRecorder(tmp_path / "first", stop_at=7)
    with pytest.raises(kind.Stopped):
        pretrain.run(made(text, probe_every=5), first)
    second = ran(made(text, probe_every=5), tmp_path / "second", resume_from=first.checkpoints[-1])
    assert list(second.metrics["induction_best"]) == [10, 12]
    assert second.artifacts["induction_by_step"] == whole.artifacts["induction_by_step"]
    assert second.metrics["induction_best"][12] == whole.metrics["induction_best"][12]


def test_the_model_in_memory_computes_what_the_one_in_training_does(text: str) -> None:
    for preset in ("gpt2-0.8m", "modern-0.9m"):
        config = parameters.config(made(text, preset=preset, model={"context": 16}), 65)
        model = GPT(config, seed=3)
        ids = torch.randint(0, 65, (2, 16), generator=torch.Generator().manual_seed(1))
        before = torch.random.get_rng_state()
        opened = hf_folder.in_memory(model)
        assert torch.equal(torch.random.get_rng_state(), before)
        with torch.no_grad():
            ours = model.eval().logits(model(ids))
            theirs = opened(ids).logits
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_heads_that_cannot_be_looked_at_are_refused_at_submission(text: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"has no Hugging Face class.*leave probe_every out"):
        pretrain.check(made(text, preset="modern-0.9m", probe_every=5, model={"value_embeddings": True}), "cpu")
    short = made(text, probe_every=5, model=TINY | {"context": 8})
    with pytest.raises(kind.UserError, match="with a context of 8 leave 3: take a longer context"):
        ran(short, tmp_path / "short")
