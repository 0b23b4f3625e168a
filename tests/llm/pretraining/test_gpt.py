"""The GPT is what transformers' own classes are, starts at the loss that its initialisation implies, and is causal."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from labqueue.domain.errors import LabError
from labqueue.llm.models import catalogue
from labqueue.llm.pretraining import hf_folder, presets
from labqueue.llm.pretraining.gpt import GPT, GPTConfig

GPT2 = GPTConfig(vocabulary=61, context=16, layers=2, heads=4, width=32)
LLAMA = replace(GPT2, family="llama", kv_heads=2)
QWEN3 = replace(LLAMA, qk_norm=True, tied=False, kv_heads=4, rope_base=500.0)
FAMILIES = {"gpt2": GPT2, "llama": LLAMA, "qwen3": QWEN3}
ABLATIONS = {
    "relu2": replace(LLAMA, activation="relu2"),
    "gpt2 relu2": replace(GPT2, activation="relu2"),
    "value embeddings": replace(QWEN3, value_embeddings=True),
    "softcap": replace(GPT2, softcap=3.0),
}


def tokens(config: GPTConfig, rows: int = 3, length: int | None = None, seed: int = 5) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocabulary, (rows, length or config.context), generator=source)


def shaken(config: GPTConfig) -> GPT:
    """With every weight away from its first value, norms and zero-initialised ones included."""
    model = GPT(config, seed=1).eval()
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=source))
    return model


def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_those_of_the_class_in_transformers(name: str, tmp_path: Path) -> None:
    model = shaken(FAMILIES[name])
    hf_folder.save(model, tokenizer(), tmp_path / "model")
    catalogue.local(str(tmp_path / "model"))  # other kinds can name it: weights, config and tokenizer belong together
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert type(theirs).__name__ == model.config.class_name
    x = tokens(model.config)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model(x)), theirs(x).logits, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", [*FAMILIES, *ABLATIONS])
def test_attention_written_out_equals_the_fused_kernel(name: str) -> None:
    model = shaken((FAMILIES | ABLATIONS)[name])
    x = tokens(model.config)
    with torch.no_grad():
        torch.testing.assert_close(model(x, manual=True), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*FAMILIES, *ABLATIONS])
def test_no_position_sees_a_later_token(name: str) -> None:
    model = shaken((FAMILIES | ABLATIONS)[name])
    x = tokens(model.config)
    changed = x.clone()
    changed[:, 9] = (x[:, 9] + 1) % model.config.vocabulary
    with torch.no_grad():
        moved = (model(x) - model(changed)).abs().amax(dim=(0, 2))  # [T]
    assert moved[:9].max() == 0
    assert moved[9:].min() > 0, "the changed token and all after it"


@pytest.mark.parametrize("name", [*FAMILIES, *ABLATIONS])
def test_parameters_are_counted_as_they_are(name: str) -> None:
    config = (FAMILIES | ABLATIONS)[name]
    assert config.parameters == sum(weight.numel() for weight in GPT(config).parameters())


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_is_named_by_its_true_number_of_parameters(name: str) -> None:
    assert name.partition("-")[2] == presets.size(presets.PRESETS[name].config)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_the_first_loss_is_what_the_initialisation_implies(name: str) -> None:
    """With fewer layers where the model is large: the law knows neither depth nor context."""
    config = presets.PRESETS[name].config
    config = replace(config, layers=min(config.layers, 4), context=32)
    model = GPT(config, seed=3).eval()
    assert config.parameters == sum(weight.numel() for weight in model.parameters())
    x = tokens(config, rows=24, length=33)
    with torch.no_grad():
        loss = float(F.cross_entropy(model.logits(model(x[:, :-1])).flatten(0, 1), x[:, 1:].flatten()))
    if config.zero_head:
        assert loss == pytest.approx(math.log(config.vocabulary), abs=1e-5)
    else:
        law = math.log(config.vocabulary) + config.width * 0.02**2 / 2
        assert abs(loss - law) <= 0.06
    assert config.initial_loss == pytest.approx(loss, abs=0.06)


def test_nanogpts_recipes_are_its_own_number_for_number() -> None:
    baby, cpu = presets.find("gpt2-10.7m"), presets.find("gpt2-0.8m")
    for found, (layers, width, context, batch, steps, dropout) in (
        (baby, (6, 384, 256, 64, 5000, 0.2)),
        (cpu, (4, 128, 64, 12, 2000, 0.0)),
    ):
        config, recipe = found.config, found.recipe
        assert (config.layers, config.heads, config.width, config.context) == (layers, layers, width, context)
        assert (recipe.batch, recipe.accumulation, recipe.steps, config.dropout) == (batch, 1, steps, dropout)
        assert (recipe.learning_rate, recipe.min_rate, recipe.warmup_steps) == (1e-3, 0.1, 100)
        assert (recipe.beta1, recipe.beta2, recipe.weight_decay, recipe.max_grad_norm) == (0.9, 0.99, 0.1, 1.0)


def test_recomputing_blocks_changes_no_gradient() -> None:
    config = replace(QWEN3, dropout=0.3)
    x, found = tokens(config, length=17), []
    for recompute in (False, True):
        model = GPT(config, seed=1).train()
        model.recompute = recompute
        torch.manual_seed(4)
        F.cross_entropy(model.logits(model(x[:, :-1])).flatten(0, 1), x[:, 1:].flatten()).backward()
        found.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, msg=name)


def test_sampling_is_seeded_and_greedy_at_temperature_0() -> None:
    model = shaken(GPT2)
    one, same, other = (model.continuation([1, 2], 30, seed=seed) for seed in (7, 7, 8))
    assert one == same != other
    greedy = model.continuation([1, 2], 5, seed=0, temperature=0)
    with torch.no_grad():
        for place in range(5):
            seen = torch.tensor([[1, 2, *greedy[:place]]])
            assert greedy[place] == int(model.logits(model(seen))[0, -1].argmax())


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_keeps_plain_weights_and_no_config_that_would_lie(name: str, tmp_path: Path) -> None:
    model = shaken(ABLATIONS[name])
    hf_folder.save(model, tokenizer(), tmp_path / "model")
    assert not (tmp_path / "model" / "config.json").exists()
    assert json.loads((tmp_path / "model" / "gpt.json").read_text())["ablations"] == list(model.config.ablations) != []
    again = hf_folder.load_plain(tmp_path / "model").eval()
    x = tokens(model.config)
    with torch.no_grad():
        assert torch.equal(model.logits(model(x)), again.logits(again(x)))
    with pytest.raises(LabError, match="has no Hugging Face class"):
        hf_folder.config_json(model.config)
    with pytest.raises(LabError, match=f"has no Hugging Face class: .*{model.config.ablations[0]}"):
        catalogue.find(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"width": 30}, "width"),
        ({"kv_heads": 3, "family": "llama"}, "kv_heads"),
        ({"kv_heads": 2}, "family"),
        ({"qk_norm": True}, "family"),
        ({"activation": "swiglu"}, "activation"),
        ({"activation": "gelu", "family": "llama"}, "activation"),
        ({"zero_head": True}, "zero_head"),
        ({"softcap": 0.0}, "softcap"),
        ({"dropout": 1.0}, "dropout"),
        ({"heads": 32, "family": "llama"}, "heads"),
        ({"layers": 0}, "layers"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_key(changed: dict[str, object], key: str) -> None:
    with pytest.raises(LabError) as told:
        replace(GPT2, **changed)  # type: ignore[arg-type]  # of many types
    assert told.value.key == key
