"""Heads are found where they were planted and nowhere else; silencing one is what the arithmetic says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from labqueue.domain.errors import LabError
from labqueue.llm.interp import head_ablation, head_scores
from labqueue.llm.models import tiny
from tests.llm.interp.models import made

LENGTH, WORDS = 12, 64


def planted() -> Any:
    """A GPT-2 of two layers without MLP or norm to speak of, built by hand: head 0.0 writes what the token before is,
    head 1.0 looks for the place whose token before is this one, and copies what stands there.

    The stream has four parts: token, position, token before, and answer.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    positions, part = 2 * LENGTH + 2, WORDS
    width = 4 * part
    config = GPT2Config(
        vocab_size=WORDS, n_positions=positions, n_embd=width, n_layer=2, n_head=4, n_inner=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    model = GPT2LMHeadModel(config).eval()
    head = width // 4
    assert head == part
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1.0)
        eye = torch.eye(part)
        model.transformer.wte.weight[:, :part] = eye * 8
        model.transformer.wpe.weight[:, part : 2 * part] = torch.eye(positions, part) * 8
        first, second = model.transformer.h[0].attn, model.transformer.h[1].attn
        shift = torch.zeros(part, part)
        shift[torch.arange(1, part), torch.arange(part - 1)] = 1.0  # position p asks for p - 1
        first.c_attn.weight[part : 2 * part, :head] = shift * 60  # queries: position
        first.c_attn.weight[part : 2 * part, width : width + head] = eye  # keys: position
        first.c_attn.weight[:part, 2 * width : 2 * width + head] = eye  # values: token
        first.c_proj.weight[:head, 2 * part : 3 * part] = eye * 4  # written as the token before
        second.c_attn.weight[:part, :head] = eye * 60  # queries: token
        second.c_attn.weight[2 * part : 3 * part, width : width + head] = eye  # keys: token before
        second.c_attn.weight[:part, 2 * width : 2 * width + head] = eye
        second.c_proj.weight[:head, 3 * part :] = eye * 8
        model.lm_head.weight[:, 3 * part :] = eye * 4
    return model


class Words:
    """Stands in for a tokenizer where only its size is asked."""

    bos_token_id = 0

    def __len__(self) -> int:
        return WORDS


def repetition(model: Any, seed: int = 0) -> dict[str, head_scores.Score]:
    return head_scores.score_repetition(model, Words(), length=LENGTH, batch=3, seed=seed)  # type: ignore[arg-type]  # stands in


def test_a_planted_induction_head_is_found_and_no_other() -> None:
    found = repetition(planted())["induction"]
    assert found.value[1, 0] > 0.9
    assert [tuple(place) for place in (found.excess > 0.2).nonzero().tolist()] == [(1, 0)]


def test_silencing_the_head_that_it_stands_on_takes_the_score_away() -> None:
    model = planted()
    with head_ablation.ablated(model, [(0, 0)]):
        assert repetition(model)["induction"].value[1, 0] < 0.2


@pytest.mark.parametrize("seed", range(20))
def test_no_induction_head_is_found_in_a_random_model(seed: int) -> None:
    torch.manual_seed(seed)
    model = made("GPT2", vocab_size=WORDS)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * 0.2)
    assert float(repetition(model, seed)["induction"].excess.max()) < 0.2


def test_silencing_costs_the_repetition_what_the_head_brought() -> None:
    model = planted()
    ids = head_scores.repeats(WORDS, length=LENGTH, batch=4, seed=5, first=0)
    second = ids.shape[1] - LENGTH + 1  # what stands after a token is known from its second coming on
    with_head = head_ablation.loss(model, ids, first=second)
    for how in ("zero", "resample"):
        with head_ablation.ablated(model, [(1, 0)], how):  # type: ignore[arg-type]  # its words
            assert head_ablation.loss(model, ids, first=second) > with_head + 3
    assert head_ablation.loss(model, ids, first=second) == with_head, "nothing is left of it"


def test_zeroing_a_head_is_zeroing_its_rows_of_the_projection() -> None:
    model = made("Llama")
    ids = torch.randint(3, 99, (2, 10), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), head_ablation.ablated(model, [(1, 2)]):
        found = model(input_ids=ids).logits
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[:, 2 * 8 : 3 * 8] = 0
        torch.testing.assert_close(found, model(input_ids=ids).logits)


def test_mean_and_resample_leave_what_does_not_vary() -> None:
    model = made("Llama")
    row = torch.randint(3, 99, (1, 10), generator=torch.Generator().manual_seed(0))
    twice = row.repeat(2, 1)
    with torch.no_grad():
        wanted = model(input_ids=twice).logits
        with head_ablation.ablated(model, [(0, 1)], "resample"):
            torch.testing.assert_close(model(input_ids=twice).logits, wanted)
    with (
        pytest.raises(LabError, match="the batch has one"),
        torch.no_grad(),
        head_ablation.ablated(model, [(0, 1)], "resample"),
    ):
        model(input_ids=row)


def test_scores_of_text_are_those_of_the_whole_maps() -> None:
    from labqueue.llm.interp.attention import extract_attention
    from labqueue.llm.models import load

    model, tokenizer = load.load_model("random-tiny", quantization="none", device="cpu", backend="hf", dtype="float32")
    texts = ["some words of a text", "others, fewer"]
    found = head_scores.score_text(model, tokenizer, texts)
    maps = extract_attention(model, tokenizer, texts)
    for layer in range(2):
        rows = []
        for text, tokens in enumerate(maps.tokens):
            for q in range(4, len(tokens)):
                w = maps.weights[layer][text, :, q].double()  # type: ignore[index]  # in memory
                back = q - torch.arange(w.shape[-1])
                entropy = -torch.where(w > 0, w * w.log(), 0.0).sum(-1)
                rows.append(torch.stack([w[:, q - 1], (w * back).sum(-1), entropy, w[:, 0], w[:, 1:4].mean(-1)]))
        wanted = torch.stack(rows).mean(0)  # [score, head]
        for place, name in enumerate(("previous_token", "distance", "entropy", "sink")):
            torch.testing.assert_close(found[name].value[layer], wanted[place], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found["sink"].null[layer], wanted[4], atol=1e-6, rtol=1e-5)
    assert (found["entropy"].value <= found["entropy"].null + 1e-9).all(), "no row is more even than an even one"


def test_tokens_that_do_not_repeat_are_all_different() -> None:
    rows = head_scores.repeats(500, length=40, batch=3, seed=1, again=False)
    assert all(len(set(row.tolist())) == 80 for row in rows)
    again = head_scores.repeats(500, length=40, batch=3, seed=1, first=7)
    assert torch.equal(again[:, 1:41], again[:, 41:])
    assert (again[:, 0] == 7).all()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: head_scores.repeats(20, length=40, batch=1, seed=0), "80 different tokens are needed"),
        (lambda: head_scores.best(torch.zeros(2, 2), 5), "5 heads are asked for and the model has 4"),
        (lambda: head_ablation.ablated(made("Llama"), [(0, 9)]).__enter__(), "head 0.9 is not there"),
        (lambda: head_ablation.ablated(made("Llama"), [(7, 0)]).__enter__(), "head 7.0 is not there"),
    ],
)
def test_what_is_not_there_is_refused_in_words(act: Any, words: str) -> None:
    with pytest.raises(LabError, match=words):
        act()


def test_texts_too_short_to_score_are_refused() -> None:
    from labqueue.llm.models import load

    model, _ = load.load_model("random-tiny", quantization="none", device="cpu", backend="hf", dtype="float32")
    with pytest.raises(LabError, match="no text has more than 4 tokens"):
        head_scores.score_text(model, tiny.tokenizer(), ["abc", "ab"])
