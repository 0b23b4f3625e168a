"""The residual stream is the model's own, and what is said to be added to it is what was added."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from labqueue.domain.errors import LabError
from labqueue.llm.activations import ActivationExtractor, extract_activations, get_layer_diff
from labqueue.llm.interp.activations import BlockSeen
from labqueue.llm.interp.blocks import find_blocks
from labqueue.llm.interp.encoding import Encoded, of_ids
from labqueue.llm.models import load
from tests.llm.interp.models import OBSERVED, VOCABULARY, made

PADDINGS = ("none", "right", "left")
PARALLEL = ("GPTNeoX", "Phi")
GRANITE = {"num_key_value_heads": 2, "residual_multiplier": 0.22}


def batch(padding: str) -> Encoded:
    ids = torch.randint(3, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(1))
    found = of_ids(ids)
    if padding == "right":
        found.attention_mask[1, 7:] = 0
    elif padding == "left":
        found.attention_mask[1, :4] = 0
    return found


def seen_by(model: Any, given: Encoded) -> list[BlockSeen]:
    found: list[BlockSeen] = []
    ActivationExtractor(model, None).observe(given, found.append)  # type: ignore[arg-type]  # ids, no text
    return found


def plain(model: Any, given: Encoded) -> Any:
    with torch.no_grad():
        return model(**given.to("cpu"), output_hidden_states=True, use_cache=False)


@pytest.fixture(scope="module")
def llama() -> Any:
    return load.load_model("random-tiny", dtype="float32")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", [*OBSERVED, "Granite"])
def test_the_stream_is_the_models_own_and_its_parts_add_up_in_its_own_type(
    name: str, padding: str, dtype: torch.dtype
) -> None:
    model, given = made(name, **(GRANITE if name == "Granite" else {})).to(dtype), batch(padding)
    wanted = plain(model, given)
    seen = seen_by(model, given)
    assert [each.layer for each in seen] == [0, 1]
    for each, before in zip(seen, wanted.hidden_states, strict=False):
        assert torch.equal(each.pre_attn, before)
    assert torch.equal(seen[0].post_ffn, seen[1].pre_attn)
    assert torch.equal(plain(model, given).logits, wanted.logits)
    for each in seen:
        if name in PARALLEL:
            assert each.post_attn is None
            continue
        assert each.post_attn is not None
        assert torch.equal(each.pre_attn + each.attn, each.post_attn)
        assert torch.equal(each.post_attn + each.ffn, each.post_ffn)
        assert each.attn.abs().max() > 0
        assert not torch.equal(each.post_attn, each.post_ffn)


def test_a_multiplier_and_a_norm_behind_are_part_of_what_is_added() -> None:
    """What the modules themselves hand on does not add up here: the sums above would not have held by chance."""
    for name, changes in (("Gemma2", {}), ("Olmo2", {}), ("Granite", GRANITE)):
        model, given = made(name, **changes), batch("none")
        bare: dict[int, torch.Tensor] = {}
        for number, block in enumerate(model.model.layers):
            block.self_attn.register_forward_hook(lambda _m, _i, out, n=number, found=bare: found.update({n: out[0]}))
        for each in seen_by(model, given):
            assert each.post_attn is not None
            assert (each.pre_attn + bare[each.layer] - each.post_attn).abs().max() > 0.01


def test_a_parallel_block_says_which_position_it_has_not(llama: Any) -> None:
    model = made("GPTNeoX", use_parallel_residual=True)
    assert {block.kind for block in find_blocks(model)} == {"parallel"}
    with pytest.raises(LabError, match=r"GPTNeoXLayer adds attention and FFN to the same stream, so that there is no"):
        extract_activations(model, llama.tokenizer, "one two")
    found = extract_activations(model, llama.tokenizer, "a", positions=("pre_attn", "post_ffn"))
    assert found.activations[1].keys() == {"pre_attn", "post_ffn"}
    sequential = made("GPTNeoX", use_parallel_residual=False)
    assert {block.kind for block in find_blocks(sequential)} == {"sequential"}
    assert all(each.post_attn is not None for each in seen_by(sequential, batch("none")))


def test_post_norm_and_unknown_blocks_are_refused_with_the_reason() -> None:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        is_decoder=True,
    )  # fmt: skip
    with pytest.raises(LabError, match=r"BertLayer normalises the stream itself after each sum \(post-norm\)"):
        find_blocks(transformers.BertLMHeadModel(config))
    with pytest.raises(LabError, match="OPTDecoderLayer normalises the stream itself"):
        find_blocks(made("OPT", do_layer_norm_before=False))
    with pytest.raises(LabError, match=r"BloomBlock is a block of parts that are not known \(input_layernorm, mlp"):
        find_blocks(made("Bloom"))


def test_a_block_that_adds_something_else_is_found() -> None:
    model, given = made("Llama"), batch("none")
    block = model.model.layers[1]
    block.self_attn.register_forward_hook(lambda _m, _i, out: (out[0] * 2, *out[1:]), prepend=False)
    handle = block.post_attention_layernorm.register_forward_pre_hook(lambda _m, given: (given[0] + 1,))
    with pytest.raises(LabError, match=r"layer 1 \(LlamaDecoderLayer\): pre_attn \+ attn differs from post_attn by"):
        seen_by(model, given)
    handle.remove()
    assert len(seen_by(model, given)) == 2


def test_results_of_a_text_do_not_depend_on_its_batch(llama: Any) -> None:
    texts = ["one two three four five", "one"]
    together = extract_activations(llama.model, llama.tokenizer, texts)
    for row, text in enumerate(texts):
        alone = extract_activations(llama.model, llama.tokenizer, text)
        count = len(alone.tokens[0])
        assert together.tokens[row] == alone.tokens[0]
        for layer, positions in alone.activations.items():
            for name, value in positions.items():
                other = together.activations[layer][name][row, :count]
                assert torch.allclose(other, value[0], atol=1e-5 * float(value.abs().max()))


def test_layers_and_positions_are_those_asked_for(llama: Any) -> None:
    found = extract_activations(llama.model, llama.tokenizer, "one two", layers=[1], positions=["post_attn"])
    assert found.activations.keys() == {1}
    assert found.activations[1].keys() == {"post_attn"}
    hidden = llama.model.config.hidden_size
    assert found.activations[1]["post_attn"].shape == (1, len(found.tokens[0]), hidden)
    whole = extract_activations(llama.model, llama.tokenizer, "one two")
    for layer, parts in get_layer_diff(llama.model, llama.tokenizer, "one two").items():
        held = whole.activations[layer]
        assert torch.equal(held["post_attn"] + parts["ffn"], held["post_ffn"])
        assert torch.equal(held["pre_attn"] + parts["attn"], held["post_attn"])
    for given, words in (
        ({"layers": [9]}, "layer 9 is not there: the model has 0 to 1"),
        ({"layers": [-1]}, "layer -1 is not there"),
        ({"positions": ["mid"]}, "position 'mid' is not known: pre_attn, post_attn, post_ffn are"),
    ):
        with pytest.raises(LabError, match=words):
            extract_activations(llama.model, llama.tokenizer, "one two", **given)
    with pytest.raises(LabError, match="has no token"):
        extract_activations(llama.model, llama.tokenizer, "")
    with pytest.raises(LabError, match="positions for"):
        extract_activations(llama.model, llama.tokenizer, "word " * 5000)


def test_a_quantised_model_with_an_adapter_adds_up_and_is_left_as_it_was(llama: Any) -> None:
    loaded = load.load_model("random-tiny", quantization="4bit", dtype="bfloat16")
    torch.manual_seed(3)
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    tuned: Any = get_peft_model(loaded.model, config)  # type: ignore[arg-type]  # a model of transformers
    tuned.train()
    ids = torch.arange(3, 15)[None]
    on = seen_by(tuned, of_ids(ids))
    assert tuned.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tuned.modules())
    with tuned.disable_adapter():
        off = seen_by(tuned, of_ids(ids))
    assert not torch.equal(on[1].post_ffn, off[1].post_ffn)
    base = seen_by(load.load_model("random-tiny", quantization="4bit", dtype="bfloat16").model, of_ids(ids))
    assert torch.equal(off[1].post_ffn, base[1].post_ffn)


def test_an_observer_that_raises_leaves_the_model_as_it_was() -> None:
    model = made("Llama")

    def raises(_seen: BlockSeen) -> None:
        raise RuntimeError("an observer's own")

    with pytest.raises(RuntimeError, match="an observer's own"):
        ActivationExtractor(model, None).observe(batch("none"), raises)  # type: ignore[arg-type]  # ids, no text
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def rms(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def turned(x: np.ndarray, base: float) -> np.ndarray:
    """Rotary positions as Llama's family has them: halves are turned; x [seq, head, width]."""
    seq, _, width = x.shape
    angle = np.arange(seq)[:, None] / base ** (np.arange(0, width, 2) / width)  # [seq, width / 2]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    one, two = x[..., : width // 2], x[..., width // 2 :]
    return np.concatenate([one * cos - two * sin, two * cos + one * sin], -1)


def test_attention_and_stream_equal_arithmetic_in_float64_from_the_weights() -> None:
    """An oracle of its own: numpy, from the weights alone; nothing of transformers or torch computes."""
    from labqueue.llm.interp.attention_tap import Seen, observed

    model = made("Llama")
    ids = torch.randint(3, VOCABULARY, (1, 20), generator=torch.Generator().manual_seed(2))
    weights: list[np.ndarray] = []

    def see(seen: Seen) -> None:
        weights.append(seen.weights[0].numpy().copy())

    with observed(model, [see]):
        seen = seen_by(model, of_ids(ids))
    w = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    config, seq = model.config, ids.shape[1]
    base = float(config.rope_parameters["rope_theta"])
    x = w["model.embed_tokens.weight"][ids[0].numpy()]
    for layer, found in enumerate(seen):
        p = {name.removeprefix(f"model.layers.{layer}."): value for name, value in w.items()}
        normed = rms(x, p["input_layernorm.weight"], config.rms_norm_eps)
        q, k, v = ((normed @ p[f"self_attn.{name}_proj.weight"].T).reshape(seq, -1, config.head_dim) for name in "qkv")
        q, k = turned(q, base), turned(k, base)
        k, v = (np.repeat(each, q.shape[1] // each.shape[1], axis=1) for each in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(config.head_dim)
        scores = np.where(np.tri(seq, dtype=bool), scores, -np.inf)
        attention = np.exp(scores - scores.max(-1, keepdims=True))
        attention /= attention.sum(-1, keepdims=True)
        assert np.abs(attention - weights[layer]).max() <= 5e-5
        mixed = np.einsum("hqk,khd->qhd", attention, v).reshape(seq, -1)
        added = mixed @ p["self_attn.o_proj.weight"].T
        y = x + added
        inner = rms(y, p["post_attention_layernorm.weight"], config.rms_norm_eps)
        gate = inner @ p["mlp.gate_proj.weight"].T
        ffn = (gate / (1 + np.exp(-gate)) * (inner @ p["mlp.up_proj.weight"].T)) @ p["mlp.down_proj.weight"].T
        assert found.post_attn is not None
        for wanted, got in ((x, found.pre_attn), (y, found.post_attn), (y + ffn, found.post_ffn), (added, found.attn)):
            assert np.abs(wanted - got[0].numpy()).max() <= 1e-5 * np.abs(wanted).max()
        x = y + ffn
