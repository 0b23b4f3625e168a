"""Merged models: what is written loads, computes as the adapter did, and the stated error is the real one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.llm.models import load
from labqueue.llm.training import merge
from labqueue.llm.training.lora import folded_weight, lora_layers
from labqueue.llm.training.recipe import held_out_loss
from tests.llm.conftest import RECIPE, Bench
from tests.llm.test_train import mean_by_hand

Build = Callable[..., Bench]

FAST = dataclasses.replace(RECIPE, learning_rate=0.05)


def answer_logits(model: Any, rows: Any) -> Any:
    """Logits that predict an answer token of ``rows``, each row alone, [token, vocabulary]."""
    import torch

    model.eval()
    found = []
    with torch.no_grad():
        for row in rows:
            labels = torch.tensor(row["labels"])[1:]
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1].float()
            found.append(logits[labels != -100])
    return torch.cat(found)


@pytest.mark.parametrize("lora", [{"scaling": "rslora"}, {"dora": True}, {"targets": ("q_proj", "down_proj")}])
@pytest.mark.parametrize(("quantization", "dtype"), [("none", "float32"), ("4bit", "float32"), ("4bit", "bfloat16")])
def test_a_merged_model_loads_and_its_stated_difference_is_the_one_found_by_hand(
    bench: Build, tmp_path: Path, quantization: str, dtype: str, lora: dict[str, Any]
) -> None:
    made = bench(FAST, quantization=quantization, dtype=dtype, lora=lora)
    made.trainer.train()
    before = answer_logits(made.adapted, made.held_out)
    stated = merge.difference(made.trainer, made.held_out, 2)
    assert merge.merge(made.loaded, made.adapted, tmp_path / "merged") == "float32", "but for its 4-bit products"
    after = answer_logits(made.adapted, made.held_out)
    assert (before == after).all(), "merging changed the adapter's model"
    merged = load.load_model(str(tmp_path / "merged"), quantization="none", dtype="float32")
    assert not hasattr(merged.model.config, "quantization_config")
    gap = (answer_logits(merged.model, made.held_out) - before).abs()
    # Batches are padded, the oracle's rows are alone: bfloat16 rounds them apart by about as much as the merge does.
    close = {"abs": 2e-6} if dtype == "float32" else {"rel": 0.5}
    assert stated.logit_max == pytest.approx(float(gap.max()), **close)
    assert stated.logit_mean == pytest.approx(float(gap.mean()), **close)
    assert stated.rows == 5
    alone = merge.difference(made.trainer, made.held_out, 1)  # of the oracle's own shapes, and so of its rounding
    assert (alone.logit_max, alone.logit_mean) == pytest.approx((float(gap.max()), float(gap.mean())), abs=2e-6)
    if dtype == "float32":
        assert stated.logit_max < 1e-4
        loss = mean_by_hand(merged.model, made.held_out)
        assert stated.loss_after == pytest.approx(loss, abs=1e-5)
        assert stated.loss_before == pytest.approx(held_out_loss(made.trainer, made.held_out, 2), abs=1e-6)
    assert merge.difference(made.trainer, made.held_out, 2) == stated, "measuring twice differs"


def test_a_weight_is_folded_in_full_precision_whatever_its_caller_computes_in(bench: Build) -> None:
    import torch

    made = bench(FAST, quantization="4bit", dtype="bfloat16")
    made.trainer.train()
    for _, layer in lora_layers(made.adapted):
        folded = folded_weight(layer)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(folded_weight(layer), folded)


def test_a_merged_models_loss_is_far_from_the_untrained_ones(bench: Build, tmp_path: Path) -> None:
    made = bench(FAST)
    began = held_out_loss(made.trainer, made.held_out, 2)
    made.trainer.train()
    merge.merge(made.loaded, made.adapted, tmp_path)
    merged = load.load_model(str(tmp_path), quantization="none", dtype="float32")
    ended = held_out_loss(made.trainer, made.held_out, 2)
    assert abs(began - ended) > 0.1
    assert mean_by_hand(merged.model.eval(), made.held_out) == pytest.approx(ended, abs=1e-5)


@pytest.mark.parametrize("shard_bytes", [2**31, 50_000])
def test_a_fully_trained_model_is_read_back_bit_for_bit(
    bench: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int
) -> None:
    import torch

    monkeypatch.setattr(merge, "SHARD_BYTES", shard_bytes)
    made = bench(FAST, full=True)
    made.trainer.train()
    merge.save_model(made.adapted, made.loaded.tokenizer, tmp_path)
    again = load.load_model(str(tmp_path), quantization="none", dtype="float32")
    mine, theirs = dict(made.adapted.named_parameters()), dict(again.model.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert again.tokenizer("1 + 1")["input_ids"] == made.loaded.tokenizer("1 + 1")["input_ids"]
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    index = tmp_path / "model.safetensors.index.json"
    assert index.is_file() == (len(files) > 1) == (shard_bytes == 50_000)
    if index.is_file():
        assert sorted(set(json.loads(index.read_text())["weight_map"].values())) == files
        assert all(path.stat().st_size < 2 * shard_bytes for path in tmp_path.glob("*.safetensors"))


def test_transposed_layers_are_merged_as_they_are_kept(bench: Build, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from labqueue.llm.models import tiny

    words = tiny.tokenizer()
    config = GPT2Config(
        vocab_size=len(words), n_positions=512, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    words.save_pretrained(tmp_path / "gpt2")
    for number, lora in enumerate(({}, {"dora": True})):
        made = bench(FAST, model=str(tmp_path / "gpt2"), lora=lora | {"targets": ("c_attn", "c_fc")})
        made.trainer.train()
        merge.merge(made.loaded, made.adapted, tmp_path / str(number))
        merged = load.load_model(str(tmp_path / str(number)), quantization="none", dtype="float32")
        gap = (answer_logits(merged.model, made.held_out) - answer_logits(made.adapted, made.held_out)).abs().max()
        assert float(gap) < 1e-4
        assert merge.difference(made.trainer, made.held_out, 2).logit_max < 1e-4


@pytest.mark.parametrize(("tied", "quantization", "lora"), [(True, "4bit", {}), (False, "none", {"dora": True})])
def test_a_merged_folder_holds_the_models_own_tensors_and_nothing_else(
    bench: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool, quantization: str, lora: dict[str, Any]
) -> None:
    import gguf
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from labqueue.llm.data import chat_templates
    from labqueue.llm.models import catalogue, tiny

    monkeypatch.setattr(merge, "SHARD_BYTES", 2**31 if tied else 50_000)
    base, merged = tmp_path / "base", tmp_path / "merged"
    tiny.write(base)
    if not tied:
        config = LlamaConfig.from_pretrained(base, tie_word_embeddings=False)
        LlamaForCausalLM(config).save_pretrained(base)
    # Many models come with settings that generation would pass over, and save_pretrained refuses.
    ships = {"temperature": 0.6, "top_p": 0.9, "eos_token_id": [0, 1]}
    (base / "generation_config.json").write_text(json.dumps(ships))
    made = bench(FAST, model=str(base), quantization=quantization, lora=lora)
    chat_templates.apply(made.loaded.tokenizer, "chatml")
    made.trainer.train()
    merge.merge(made.loaded, made.adapted, merged)

    named = {name for file in merged.glob("*.safetensors") for name in load_file(file)}
    assert named == set(load_file(base / "model.safetensors"))
    assert ("lm_head.weight" in named) != tied
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    assert all(known.get_name(name, try_suffixes=(".weight",)) for name in named), "what a conversion to GGUF looks up"
    opened, info = AutoModelForCausalLM.from_pretrained(merged, output_loading_info=True)
    assert not any(info.values()), info
    assert catalogue.available(str(merged))
    words = AutoTokenizer.from_pretrained(merged)
    assert (words.chat_template, words.eos_token) == (chat_templates.CHATML.jinja, "<|im_end|>")
    assert words.eos_token_id in opened.generation_config.eos_token_id
    assert set(ships["eos_token_id"]) < set(opened.generation_config.eos_token_id)
    assert opened.generation_config.temperature == ships["temperature"]
    for file in merged.iterdir():
        assert str(base).encode() not in file.read_bytes(), file.name


@pytest.mark.gpu
@pytest.mark.parametrize("lora", [{}, {"dora": True}])
def test_on_a_gpu_a_4_bit_adapter_is_merged_with_a_small_difference(
    bench: Build, tmp_path: Path, lora: dict[str, Any]
) -> None:
    made = bench(FAST, quantization="4bit", dtype="bfloat16", device="cuda:0", lora=lora)
    made.trainer.train()
    stated = merge.difference(made.trainer, made.held_out, 2)
    merge.merge(made.loaded, made.adapted, tmp_path)
    merged = load.load_model(str(tmp_path), backend="hf", quantization="none", device="cuda:0", dtype="bfloat16")
    assert mean_by_hand(merged.model.eval(), made.held_out) == pytest.approx(stated.loss_after, abs=0.02)
    assert abs(stated.loss_after - stated.loss_before) < 0.02


@pytest.mark.gpu
def test_on_a_gpu_full_fine_tuning_keeps_fp32_weights_and_computes_in_16_bit(bench: Build) -> None:
    import torch

    ended = {}
    for device in ("cpu", "cuda:0"):
        # At five times this rate four steps amplify the rounding of 16 bit to 0.15 nats.
        made = bench(full=True, device=device, evaluate=(0, 4))
        made.trainer.train()
        ended[device] = made.told.losses[4]
        assert {value.dtype for value in made.adapted.parameters()} == {torch.float32}
        assert made.trainer.args.bf16 == (device != "cpu")
    assert ended["cuda:0"] == pytest.approx(ended["cpu"], abs=0.02)
