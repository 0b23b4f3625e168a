"""Heads that were moved are found, as numpy finds them, and give the base back when they are patched back."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from labqueue.domain.errors import LabError
from labqueue.llm.interp import moved_heads
from labqueue.llm.interp.encoding import of_ids
from labqueue.llm.interp.moved_heads import Changes, changes, patch_back, rank_correlation, total_variation
from tests.llm.interp.models import made

LAYERS, HEADS = 2, 4
IDS = torch.arange(5, 29).view(2, 12)


def opened(model: Any) -> moved_heads.Variant:
    return lambda: contextlib.nullcontext(model)


def turned(model: Any, layer: int, head: int, seed: int) -> Any:
    """A copy in which one head asks other questions: its rows of the query projection are drawn anew."""
    other = copy.deepcopy(model)
    weight = other.model.layers[layer].self_attn.q_proj.weight
    width = weight.shape[0] // HEADS
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight[head * width : (head + 1) * width] = torch.randn(width, weight.shape[1], generator=source)
    return other


@pytest.fixture(autouse=True)
def ids_for_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are numbers here: no tokenizer has anything to do with what is measured."""
    monkeypatch.setattr(
        moved_heads,
        "encode",
        lambda _tokenizer, text, limit: of_ids(torch.tensor([[int(each) for each in text.split()]])),
    )


TEXTS = {"one": ["5 6 7 8 9 10", "30 3 12"], "other": ["40 41 42 5 5 40 41"]}


def test_a_head_that_was_turned_in_the_last_layer_is_the_only_one_that_moved() -> None:
    base = made("Llama")
    tuned = [turned(base, 1, 2, seed) for seed in (1, 2)]
    found = changes(opened(base), [opened(each) for each in tuned], None, TEXTS)  # type: ignore[arg-type]  # unused
    assert found.change.shape == (2, 2, LAYERS, HEADS)
    assert found.between.shape == (1, 2, LAYERS, HEADS)
    moved = found.moved > 0
    assert moved.nonzero().tolist() == [[1, 2]]
    assert (found.floor > 0).nonzero().tolist() == [[1, 2]]
    assert found.above_floor == int(float(found.change[:, :, 1, 2].min()) > float(found.between[:, :, 1, 2].max())) / 8
    assert torch.isnan(found.share[0]).all(), "not measured is not 0"
    assert float(found.share[1, 2]) == pytest.approx(float(found.moved[1, 2] / found.floor[1, 2]))


def test_changes_are_those_that_numpy_finds_in_what_the_models_put_out() -> None:
    base = made("Llama")
    tuned = [turned(base, 0, head, 3) for head in (0, 1)]
    found = changes(opened(base), [opened(each) for each in tuned], None, TEXTS)  # type: ignore[arg-type]  # unused

    def weights(model: Any, text: str) -> np.ndarray[Any, Any]:
        model.set_attn_implementation("eager")
        with torch.no_grad():
            out = model(torch.tensor([[int(each) for each in text.split()]]), output_attentions=True, use_cache=False)
        return np.stack([each[0].numpy() for each in out.attentions]).astype(np.float64)

    for kind, (name, texts) in enumerate(TEXTS.items()):
        assert found.texts[kind] == name
        for at, (one, other) in enumerate([(base, tuned[0]), (base, tuned[1]), (tuned[0], tuned[1])]):
            rows = [np.abs(weights(one, text) - weights(other, text)).sum(-1)[..., 1:] / 2 for text in texts]
            expected = np.concatenate(rows, -1).mean(-1)
            measured = torch.cat([found.change, found.between])[at, kind]
            np.testing.assert_allclose(measured.numpy(), expected, atol=1e-6)


def test_total_variation_is_0_of_the_same_and_1_of_rows_without_a_key_in_common() -> None:
    one, other = torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4)
    one[..., 0], other[..., 3] = 1, 1
    assert float(total_variation(one, one)) == 0
    assert float(total_variation(one, other)) == 1
    other[0, 0, 0] = one[0, 0, 0]
    assert float(total_variation(one, other)) == 1, "the first query is left out"


def test_rank_correlation_is_spearmans_with_ties() -> None:
    source = np.random.default_rng(0)
    for _ in range(20):
        a, b = source.integers(0, 6, (2, 5, 4))
        expected = spearmanr(a.ravel(), b.ravel()).statistic
        assert rank_correlation(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected)


def test_the_null_keeps_what_layers_tell_and_nothing_of_heads() -> None:
    layers = torch.arange(30.0)[:, None].expand(30, 9)
    source = torch.Generator().manual_seed(0)
    heads = torch.rand(30, 9, generator=source)
    of_layers = torch.stack([layers + heads, layers + heads])[:, None]
    of_heads = torch.stack([heads, heads])[:, None]
    by_layer, by_head = (Changes(("a",), each, each[:1]) for each in (of_layers, of_heads))
    assert by_layer.between_seeds() == pytest.approx(1)
    assert by_layer.null("seeds")[0] > 0.95, "a correlation that layers alone explain"
    mean, high = by_head.null("seeds")
    assert abs(mean) < 0.15
    assert high < 0.35
    assert by_head.between_seeds() == pytest.approx(1)


def test_patching_the_moved_head_back_gives_the_base_and_patching_others_changes_nothing() -> None:
    base = made("Llama")
    tuned = turned(base, 1, 2, 1)
    moved = torch.zeros(LAYERS, HEADS, dtype=torch.float64)
    moved[1, 2] = 1
    found = patch_back(opened(base), opened(tuned), of_ids(IDS), torch.ones_like(IDS), moved, count=1, draws=4)
    assert found.heads == ((1, 2),)
    assert found.tuned != found.base
    assert found.moved == found.base
    assert found.random == (found.tuned,) * 4
    if found.base > found.tuned:
        assert (found.given_back, found.given_back_at_random) == (1, (0,) * 4)
    else:
        assert np.isnan(found.given_back), "nothing was gained that could be given back"


def test_a_loss_is_of_the_scored_tokens_alone() -> None:
    model, batch = made("Llama"), of_ids(IDS)
    scored = torch.zeros_like(IDS)
    scored[1, 4] = 1
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
    expected = -float(logits[1, 3].double().log_softmax(-1)[IDS[1, 4]])
    assert moved_heads.scored_loss(model, batch, scored) == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_compared_is_refused_with_the_cure() -> None:
    base = made("Llama")
    one, two = (opened(turned(base, 1, 2, seed)) for seed in (1, 2))
    tokenizer: Any = None
    with pytest.raises(LabError, match="give two models tuned with different seeds"):
        changes(opened(base), [one], tokenizer, TEXTS)
    with pytest.raises(LabError, match="attend alike"):
        changes(opened(base), [one, one], tokenizer, TEXTS)
    with pytest.raises(LabError, match="has one token"):
        changes(opened(base), [one, two], tokenizer, {"short": ["5"]})
    with pytest.raises(LabError, match="compare models of one base"):
        changes(opened(base), [one, opened(made("Llama", num_hidden_layers=1))], tokenizer, TEXTS)
    with pytest.raises(LabError, match="no text is given"):
        changes(opened(base), [one, two], tokenizer, {"none": []})
    with pytest.raises(LabError, match="one kind of text"):
        changes(opened(base), [one, two], tokenizer, {"one": TEXTS["one"]}).between_texts()
    moved = torch.zeros(LAYERS, HEADS)
    moved[0, :3] = 1
    ones = torch.ones_like(IDS)
    with pytest.raises(LabError, match=r"3 of 4 heads of layer 0 .* patch fewer"):
        patch_back(opened(base), one, of_ids(IDS), ones, moved, count=3)
    with pytest.raises(LabError, match="no token is scored"):
        patch_back(opened(base), one, of_ids(IDS), ones * 0, moved, count=1)
