"""Attention weights are those of the model's own eager attention, and looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from labqueue.domain.errors import LabError
from labqueue.llm.attention import AttentionExtractor, extract_attention
from labqueue.llm.interp.attention import StoredWeights
from labqueue.llm.interp.attention_tap import Seen, observed
from labqueue.llm.interp.encoding import encode
from labqueue.llm.models import load, tiny
from tests.llm.interp.models import OBSERVED, PAST_THE_INTERFACE, VOCABULARY, made

PADDINGS = ("none", "right", "left")


def batch(padding: str) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if padding == "right":
        mask[1, 7:] = 0
    elif padding == "left":
        mask[1, :4] = 0
    return ids, mask


def seen_by(model: Any, ids: torch.Tensor, mask: torch.Tensor, chunk: int | None = None) -> tuple[Any, dict[int, Any]]:
    parts: dict[int, list[torch.Tensor]] = {}

    def see(seen: Seen) -> None:
        assert seen.first == sum(part.shape[2] for part in parts.get(seen.layer, []))
        parts.setdefault(seen.layer, []).append(seen.weights.clone())

    with torch.no_grad(), observed(model, [see], chunk=chunk):
        out = model(input_ids=ids, attention_mask=mask, use_cache=False)
    return out, {layer: torch.cat(found, dim=2) for layer, found in parts.items()}


def eager(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    was = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, output_attentions=True, use_cache=False)
    model.set_attn_implementation(was)
    return out


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", OBSERVED)
def test_weights_and_logits_equal_eager_attention_bit_for_bit(name: str, padding: str) -> None:
    model, (ids, mask) = made(name), batch(padding)
    wanted = eager(model, ids, mask)
    out, found = seen_by(model, ids, mask)
    assert sorted(found) == [0, 1]
    for layer, weights in found.items():
        assert torch.equal(weights, wanted.attentions[layer]), layer
    assert torch.equal(out.logits, wanted.logits)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", OBSERVED)
def test_split_over_queries_the_weights_are_the_same_but_for_rounding(name: str) -> None:
    model, (ids, mask) = made(name), batch("right")
    _, whole = seen_by(model, ids, mask)
    _, found = seen_by(model, ids, mask, chunk=5)
    for layer, weights in found.items():
        torch.testing.assert_close(weights, whole[layer], atol=1e-6, rtol=0)


def softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_weights_are_those_of_arithmetic_written_here() -> None:
    """Llama's first layer in float64 from its weights: RMSNorm, grouped keys, rotary positions, softmax."""
    model, (ids, mask) = made("Llama"), batch("none")
    _, found = seen_by(model, ids, mask)
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    x = state["model.embed_tokens.weight"][ids.numpy()]  # [batch, seq, width]
    norm = state["model.layers.0.input_layernorm.weight"]
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + model.config.rms_norm_eps) * norm
    heads, groups, width = 4, 2, 8
    q = (x @ state["model.layers.0.self_attn.q_proj.weight"].T).reshape(3, 12, heads, width).transpose(0, 2, 1, 3)
    k = (x @ state["model.layers.0.self_attn.k_proj.weight"].T).reshape(3, 12, groups, width).transpose(0, 2, 1, 3)
    angle = np.arange(12)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)  # [seq, width / 2]
    cos, sin = np.cos(angle), np.sin(angle)

    def turned(v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        a, b = v[..., : width // 2], v[..., width // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    scores = turned(q) @ np.repeat(turned(k), heads // groups, axis=1).transpose(0, 1, 3, 2) / np.sqrt(width)
    scores = np.where(np.tril(np.ones((12, 12))) > 0, scores, -np.inf)
    assert np.abs(found[0].double().numpy() - softmax(scores)).max() < 5e-5


@pytest.mark.parametrize("on", [True, False])
def test_an_adapter_is_looked_through_and_one_that_is_off_leaves_the_base(on: bool) -> None:
    base, (ids, mask) = made("Llama"), batch("right")
    plain = eager(base, ids, mask)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model.eval()
    if on:
        wanted = eager(model.get_base_model(), ids, mask)
        _, found = seen_by(model, ids, mask)
        assert not torch.equal(found[0], plain.attentions[0])
    else:
        wanted = plain
        with model.disable_adapter():
            _, found = seen_by(model, ids, mask)
    assert all(torch.equal(found[layer], wanted.attentions[layer]) for layer in found)


def test_a_base_in_4_bit_is_looked_into_bit_for_bit() -> None:
    loaded = load.load_model("random-tiny", quantization="4bit", device="cpu", backend="hf", dtype="float32")
    ids = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    wanted = eager(loaded.model, ids, mask)
    out, found = seen_by(loaded.model, ids, mask)
    assert all(torch.equal(found[layer], wanted.attentions[layer]) for layer in found)
    assert torch.equal(out.logits, wanted.logits)


@pytest.mark.parametrize("name", PAST_THE_INTERFACE)
def test_a_model_that_computes_attention_past_the_interface_is_refused_by_name(name: str) -> None:
    model = made(name)
    with pytest.raises(LabError, match=f"{type(model).__name__} computes attention past"), observed(model, []):
        pass


def test_sinks_that_are_no_tokens_are_refused() -> None:
    config = transformers.GptOssConfig(
        vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    config._attn_implementation = "eager"
    with pytest.raises(LabError, match="a sink that is no token"), observed(transformers.GptOssForCausalLM(config), []):
        pass


def test_an_observer_that_raises_leaves_the_model_as_it_was() -> None:
    model, (ids, mask) = made("GPT2"), batch("none")

    def fail(_seen: Seen) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), torch.no_grad(), observed(model, [fail]):
        model(input_ids=ids, attention_mask=mask)
    assert model.config._attn_implementation == "sdpa"
    assert torch.isfinite(model(input_ids=ids, attention_mask=mask).logits).all()


def test_a_layer_that_did_not_attend_is_no_empty_result() -> None:
    model = made("Llama")
    with pytest.raises(LabError, match="layer 0 of LlamaForCausalLM did not attend"), observed(model, []):
        pass


# Extraction from texts


@pytest.fixture(scope="module")
def loaded() -> Any:
    return load.load_model("random-tiny", quantization="none", device="cpu", backend="hf", dtype="float32")


def test_what_is_found_of_a_text_does_not_depend_on_its_batch(loaded: Any) -> None:
    one = extract_attention(*loaded, "a short text")
    both = extract_attention(*loaded, ["a rather much longer text beside it", "a short text"])
    n = len(one.tokens[0])
    for layer, weights in both.weights.items():
        assert isinstance(weights, torch.Tensor)
        torch.testing.assert_close(weights[1:, :, :n, :n], one.weights[layer], atol=1e-6, rtol=0)
        assert weights[1, :, n:].abs().sum() == 0, "rows of padding are 0"
        assert weights[1, :, :, n:].abs().sum() == 0
        torch.testing.assert_close(weights[1, :, :n].sum(-1), torch.ones(4, n))


def test_layers_heads_and_queries_are_those_asked_for(loaded: Any) -> None:
    whole = extract_attention(*loaded, "some words")
    some = extract_attention(*loaded, "some words", layers=[1], heads=[3, 0], queries=[5, 2], chunk=3)
    assert list(some.weights) == [1]
    wanted = whole.weights[1]
    assert isinstance(wanted, torch.Tensor)
    torch.testing.assert_close(some.weights[1], wanted[:, [3, 0]][:, :, [5, 2]], atol=1e-6, rtol=0)
    assert whole.implementation == "eager"


def test_weights_in_files_are_those_in_memory(loaded: Any, tmp_path: Path) -> None:
    held = extract_attention(*loaded, ["some words", "more"], chunk=4)
    stored = extract_attention(*loaded, ["some words", "more"], chunk=4, to=tmp_path / "maps")
    for layer, handle in stored.weights.items():
        assert isinstance(handle, StoredWeights)
        assert torch.equal(handle.read(), held.weights[layer])


def test_several_observers_share_one_pass(loaded: Any) -> None:
    calls: list[tuple[str, int]] = []
    extractor = AttentionExtractor(*loaded, layers=[0])
    extractor.observe(
        "ab", lambda seen: calls.append(("one", seen.layer)), lambda seen: calls.append(("two", seen.layer))
    )
    assert calls == [("one", 0), ("two", 0)]


def test_a_single_token_attends_to_itself(loaded: Any) -> None:
    found = extract_attention(*loaded, "a")
    assert all(torch.equal(weights, torch.ones(1, 4, 1, 1)) for weights in found.weights.values())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"text": ""}, "has no token"),
        ({"text": ["a", ""]}, "text 2"),
        ({"text": []}, "no text is given"),
        ({"text": "a" * 1025}, "has 1025 tokens and the model has positions for 1024"),
        ({"layers": [2]}, "layer 2 is not there"),
        ({"heads": [4]}, "head 4 is not there: there are 4 heads, 0 to 3"),
        ({"heads": [-1]}, "head -1 is not there"),
        ({"queries": [9]}, "query 9 is not there"),
        ({"chunk": 0}, "chunk is 0"),
    ],
)
def test_what_cannot_be_extracted_is_refused_in_words(loaded: Any, given: dict[str, Any], words: str) -> None:
    arguments = {"text": "abc", **given}
    with pytest.raises(LabError, match=words):
        extract_attention(*loaded, **arguments)


def test_tokens_inside_one_character_are_told_apart() -> None:
    found = encode(tiny.tokenizer(), "a你🙂")
    assert found.tokens == [["a", "你₁", "你₂", "你₃", "🙂₁", "🙂₂", "🙂₃", "🙂₄"]]
    assert found.offsets[0][:4] == [(0, 1), (1, 2), (1, 2), (1, 2)]


def test_texts_are_padded_on_the_right_whatever_the_tokenizer_says() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.padding_side = "left"
    found = encode(tokenizer, ["abc", "a"])
    assert found.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert found.special_mask.tolist() == [[False] * 3, [False, True, True]]
