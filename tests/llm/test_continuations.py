"""What a model writes after a prompt: drawn as transformers draws it, seeded, and told as it grows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.evaluation import continuations
from labqueue.llm.evaluation.continuations import Sampling, continuation
from labqueue.llm.models import catalogue, load, tiny
from labqueue.llm.models.load import Loaded
from labqueue.llm.training.recipe import Interrupted

SAMPLED = Sampling(temperature=1.5, top_k=200, top_p=0.99)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load.load_model("random-tiny", quantization="none", dtype="float32")


def written(loaded: Loaded, prompt: str, how: Sampling = SAMPLED, **options: int) -> str:
    return continuation(loaded.model, loaded.tokenizer, prompt, how, **{"seed": 0, "max_new_tokens": 12} | options)


@pytest.mark.parametrize("how", [Sampling(0.7), Sampling(1.3, 5), Sampling(1.0, None, 0.6), Sampling(0.5, 7, 0.8)])
def test_the_next_token_is_drawn_from_what_transformers_draws_from(how: Sampling) -> None:
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    for number in range(20):
        logits = torch.randn(50, generator=torch.Generator().manual_seed(number)).double() * 3
        theirs = TemperatureLogitsWarper(how.temperature)(None, logits[None])
        if how.top_k is not None:
            theirs = TopKLogitsWarper(how.top_k)(None, theirs)
        if how.top_p < 1:
            theirs = TopPLogitsWarper(how.top_p)(None, theirs)
        assert torch.allclose(continuations.probabilities(logits, how), theirs.softmax(-1)[0], atol=1e-12)


def test_no_temperature_is_too_small_and_the_likeliest_token_is_always_left() -> None:
    import torch

    logits = torch.tensor([1.0, 3.0, 2.0]).double()
    for how in (Sampling(1e-300), Sampling(1.0, 1), Sampling(1.0, None, 1e-9)):
        assert continuations.probabilities(logits, how).tolist() == [0.0, 1.0, 0.0]


def test_without_temperature_the_text_is_the_one_of_greedy_decoding(loaded: Loaded) -> None:
    import torch

    ids = loaded.tokenizer("Once upon")["input_ids"]
    out = loaded.model.generate(
        torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=loaded.tokenizer.eos_token_id
    )
    expected = loaded.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
    assert written(loaded, "Once upon", Sampling()) == expected
    assert written(loaded, "Once upon", Sampling(3.0, 1)) == expected


def test_a_text_depends_on_seed_and_prompt_and_on_nothing_else(loaded: Loaded) -> None:
    import torch

    first = written(loaded, "Once")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert written(loaded, "Twice") != first
    assert written(loaded, "Once") == first
    assert written(loaded, "Once", seed=1) != first
    assert torch.equal(torch.get_rng_state(), before), "nobody else's random numbers are used"
    assert first.startswith(written(loaded, "Once", max_new_tokens=5).rstrip(continuations.HALF))


def test_the_text_is_told_as_it_grows_and_no_letter_before_it_is_whole(loaded: Loaded) -> None:
    told: list[str] = []
    text = continuation(loaded.model, loaded.tokenizer, "Once", SAMPLED, seed=3, max_new_tokens=40, tell=told.append)
    assert told[-1] == text.rstrip(continuations.HALF)
    assert all(later.startswith(sooner) for sooner, later in pairwise(told))
    assert not any(each.endswith(continuations.HALF) for each in told)


def test_a_text_ends_where_the_positions_do(loaded: Loaded) -> None:
    limit = loaded.model.config.max_position_embeddings
    told: list[str] = []
    prompt = "a" * (limit - 3)
    continuation(loaded.model, loaded.tokenizer, prompt, SAMPLED, seed=0, max_new_tokens=50, tell=told.append)
    assert 1 <= len(told) <= 3
    with pytest.raises(LabError, match=f"has {limit} tokens and the model has positions for {limit}, so no room"):
        written(loaded, "a" * limit)


def test_whoever_asks_to_stop_is_heard_at_the_next_token(loaded: Loaded) -> None:
    told: list[str] = []
    with pytest.raises(Interrupted):
        continuation(
            loaded.model, loaded.tokenizer, "Once", SAMPLED,
            seed=0, max_new_tokens=50, tell=told.append, leave=lambda: len(told) >= 3,
        )  # fmt: skip
    assert len(told) == 3


def letters(alphabet: str, unknown: str | None) -> Any:
    """A tokenizer of single characters that knows no others."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown or "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=unknown)


@pytest.mark.parametrize("unknown", [None, "?"])
def test_a_letter_that_the_model_has_no_token_for_is_named(unknown: str | None) -> None:
    tokenizer = letters("ab c\n?", unknown)
    assert continuations.prompt_tokens(tokenizer, "ab\nc a") == [0, 1, 4, 3, 2, 0]
    with pytest.raises(LabError, match=r"no token for 'é', 'z' in prompt 'abéz'"):
        continuations.prompt_tokens(tokenizer, "abéz")
    with pytest.raises(LabError, match="write a first letter"):
        continuations.prompt_tokens(tokenizer, "")


def test_an_empty_prompt_begins_with_what_parts_texts(loaded: Loaded) -> None:
    assert continuations.prompt_tokens(loaded.tokenizer, "") == [loaded.tokenizer.bos_token_id]


def test_a_prompt_without_room_is_found_out_from_the_folder_alone(tmp_path: Path) -> None:
    tiny.write(tmp_path / "model")
    continuations.check(str(tmp_path / "model"), ["a" * 1023, ""])
    with pytest.raises(LabError, match="has 1024 tokens and the model has positions for 1024"):
        continuations.check(str(tmp_path / "model"), ["a", "a" * 1024])


def test_a_model_that_transformers_has_no_class_for_is_refused_with_that_sentence(tmp_path: Path) -> None:
    (tmp_path / "gpt.json").write_text("{}")
    with pytest.raises(LabError, match="has no Hugging Face class"):
        catalogue.find(str(tmp_path))
