"""Packing: nothing lost, nothing seen across documents, and the same loss and gradient as without it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.data import packing, tokenize
from labqueue.llm.data.generated import tasks
from labqueue.llm.models import load
from labqueue.llm.training import lora, packing_check

WIDTH = 200


def token_rows(lengths: list[int]) -> list[tokenize.TokenRow]:
    """Rows of these lengths, each with tokens and labels of its own."""
    source = random.Random(0)
    rows = []
    for length in lengths:
        ids = [source.randrange(3, 250) for _ in range(length)]
        rows.append({"input_ids": ids, "labels": [tokenize.IGNORED] * (length // 2) + ids[length // 2 :]})
    return rows


def test_every_row_is_in_exactly_one_pack_whole_and_none_is_too_long() -> None:
    rows = token_rows([random.Random(n).randrange(2, 90) for n in range(200)])
    packs = packing.pack(rows, 128, seed=3)
    assert all(sum(each["seq_lengths"]) == len(each["input_ids"]) <= 128 for each in packs)
    documents = [tuple(document["input_ids"]) for each in packs for document in packing.unpack(each)]
    assert Counter(documents) == Counter(tuple(row["input_ids"]) for row in rows)
    tokens = sum(map(len, documents))
    # Best fit decreasing needs at most 11/9 of the fewest possible packs, and 4 more (Johnson 1974).
    assert len(packs) <= 11 / 9 * -(-tokens // 128) + 4


def test_the_same_seed_packs_the_same_in_the_same_order_and_another_otherwise() -> None:
    rows = token_rows([20 + n % 7 for n in range(60)])
    assert packing.pack(rows, 128, seed=1) == packing.pack(rows, 128, seed=1)
    assert packing.pack(rows, 128, seed=1) != packing.pack(rows, 128, seed=2)


def test_a_row_longer_than_a_pack_is_refused() -> None:
    with pytest.raises(LabError, match="row of 30 tokens does not fit a packed sequence of 29"):
        packing.pack(token_rows([5, 30]), 29)


def test_the_first_token_of_a_document_carries_no_loss_and_positions_restart() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}, {"input_ids": [8, 9], "labels": [8, 9]}]
    (row,) = packing.pack(rows, 8)
    batch = packing.PackedCollator(pad_token_id=0)(
        [row, {**row, "input_ids": [5], "labels": [-100], "seq_lengths": [1]}]
    )
    assert batch["labels"].tolist()[0] == [-100, 6, 7, -100, 9]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]]
    assert "attention_mask" not in batch
    assert batch["use_cache"] is False


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def loaded(request: pytest.FixtureRequest) -> Any:
    return load.load_model("random-tiny", quantization="none", dtype="float32", attention=request.param)


@pytest.fixture(scope="module")
def rows(loaded: Any) -> tuple[tokenize.TokenRow, ...]:
    split = tasks.generated("chain_sum", train_items=9, held_out_items=1, options={"max_terms": 6})
    found = tokenize.encode(loaded.tokenizer, split.train, 512).rows
    assert len({len(row["input_ids"]) for row in found}) >= 3
    return found


def document_losses(model: Any, batch: dict[str, Any], spans: list[tuple[int, int, int]]) -> list[float]:
    """Mean loss of each document from a model's plain logits: an oracle that shares no code with the guard."""
    import torch

    labels = batch.pop("labels")
    with torch.no_grad():
        logprobs = model(**batch).logits.log_softmax(-1)  # [batch, position, vocabulary]
    losses = []
    for place, start, length in spans:
        values = [
            -float(logprobs[place, at - 1, labels[place, at]])
            for at in range(start + 1, start + length)
            if labels[place, at] != tokenize.IGNORED
        ]
        losses.append(sum(values) / len(values))
    return losses


@pytest.mark.parametrize("flat", [False, True])
def test_the_loss_of_each_document_is_the_same_packed_and_alone(loaded: Any, rows: Any, flat: bool) -> None:
    packs = packing.pack(rows, 2 * WIDTH)
    assert max(len(each["seq_lengths"]) for each in packs) >= 3
    spans, start = [], 0
    for number, each in enumerate(packs):
        start = start if flat else 0
        for length in each["seq_lengths"]:
            spans.append((0 if flat else number, start, length))
            start += length
    batch = packing.PackedCollator(loaded.tokenizer.pad_token_id, flat=flat)(packs)
    batch.pop("packed_seq_lengths", None)  # Unsloth's
    together = document_losses(loaded.model, batch, spans)
    collator = tokenize.Collator(loaded.tokenizer.pad_token_id)
    for loss, document in zip(together, [d for each in packs for d in packing.unpack(each)], strict=True):
        (alone,) = document_losses(loaded.model, collator([document]), [(0, 0, len(document["input_ids"]))])
        assert loss == pytest.approx(alone, abs=1e-5)


def test_a_step_over_the_same_rows_has_the_same_loss_and_gradient_packed_or_not(loaded: Any, rows: Any) -> None:
    import torch

    def step(collator: tokenize.Collator, batches: Iterator[Any]) -> tuple[float, dict[str, Any]]:
        loaded.model.zero_grad()
        total = 0.0
        collated = [collator(batch) for batch in batches]
        items = sum(
            int((batch["labels"][:, 1:] != tokenize.IGNORED).sum()) for batch in collated
        )  # as transformers counts
        for batch in collated:
            loss = loaded.model(**batch, num_items_in_batch=items).loss
            loss.backward()
            total += float(loss.detach())
        return total, {name: p.grad.clone() for name, p in loaded.model.named_parameters() if p.grad is not None}

    pad = loaded.tokenizer.pad_token_id
    packs = packing.pack(rows, 2 * WIDTH)
    loss, gradient = step(packing.PackedCollator(pad), iter([packs[:1], packs[1:]]))
    plain_loss, plain = step(tokenize.Collator(pad), iter([rows[:4], rows[4:]]))
    assert loss == pytest.approx(plain_loss, abs=1e-6)
    assert gradient.keys() == plain.keys()
    for name, value in plain.items():
        assert float((gradient[name] - value).norm()) <= 1e-5 * float(value.norm()), name
    assert sum(float(torch.linalg.norm(value)) for value in plain.values()) > 0


def test_the_guard_passes_what_isolates(loaded: Any, rows: Any) -> None:
    import torch

    before = torch.get_rng_state()
    found = packing_check.check_isolated(loaded.model, packing.PackedCollator(0), packing.pack(rows, 2 * WIDTH))
    assert found["alone"] < 1e-4
    assert found["influence"] == 0.0
    assert torch.equal(before, torch.get_rng_state())


def chain_sums(tokenizer: Any, width: int) -> Any:
    split = tasks.generated("chain_sum", train_items=9, held_out_items=1, options={"max_terms": 6})
    return packing.pack(tokenize.encode(tokenizer, split.train, 512).rows, width)


class Masked(packing.PackedCollator):
    """The usual mistake: an attention mask, which turns the isolation off."""

    def __call__(self, rows: Any) -> dict[str, Any]:
        import torch

        batch = super().__call__(rows)
        return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}


class Cached(packing.PackedCollator):
    """Or a cache, which does, too."""

    def __call__(self, rows: Any) -> dict[str, Any]:
        return super().__call__(rows) | {"use_cache": True}


class Counted(packing.PackedCollator):
    """Or positions that do not restart."""

    def __call__(self, rows: Any) -> dict[str, Any]:
        batch = super().__call__(rows)
        del batch["position_ids"]
        return batch


@pytest.mark.parametrize("leaky", [Masked, Cached, Counted])
def test_the_guard_stops_what_leaks_and_names_the_difference(loaded: Any, rows: Any, leaky: Any) -> None:
    with pytest.raises(LabError, match=r"packed documents see each other .* differs by 0\.\d+ nats"):
        packing_check.check_isolated(loaded.model, leaky(0), packing.pack(rows, 2 * WIDTH))


@pytest.mark.parametrize("leaky", [Masked, Cached, Counted])
def test_in_half_precision_and_4_bit_the_guard_tells_a_leak_from_rounding(leaky: Any) -> None:
    half = load.load_model("random-tiny", quantization="4bit", dtype="bfloat16")
    adapted = lora.add_lora(
        half, rank=4, alpha=8.0, dropout=0.1, scaling="standard", targets="all-linear", seed=0,
        max_length=512, gradient_checkpointing=False,
    )  # fmt: skip
    packs = chain_sums(half.tokenizer, 2 * WIDTH)
    assert packing_check.check_isolated(adapted, packing.PackedCollator(0), packs)["influence"] == 0.0
    with pytest.raises(LabError, match="packed documents see each other"):
        packing_check.check_isolated(adapted, leaky(0), packs)


@pytest.mark.model
def test_on_the_real_4_bit_model_documents_are_isolated() -> None:
    real = load.load_model("smollm2-135m-instruct")
    packs = [pack for pack in chain_sums(real.tokenizer, 256) if len(pack["seq_lengths"]) >= 3][:1]
    assert packs
    found = packing_check.check_isolated(real.model, packing.PackedCollator(real.tokenizer.pad_token_id), packs)
    assert found["influence"] == 0.0
    with pytest.raises(LabError, match="packed documents see each other"):
        packing_check.check_isolated(real.model, Masked(0), packs)
