"""Lens, attribution, CKA and patching: each against what it must equal."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from labqueue.domain.errors import LabError
from labqueue.llm.interp import logit_lens, patching
from labqueue.llm.interp.activations import ActivationExtractor, BlockSeen
from labqueue.llm.interp.cka import debiased_cka
from labqueue.llm.interp.encoding import Encoded, of_ids
from tests.llm.interp.models import OBSERVED, VOCABULARY, made

NO_TOKENIZER: Any = None
GRANITE = {"num_key_value_heads": 2, "residual_multiplier": 0.22, "logits_scaling": 3.0}


def ids(seed: int = 1, rows: int = 1, count: int = 9) -> Encoded:
    found = torch.randint(3, VOCABULARY, (rows, count), generator=torch.Generator().manual_seed(seed))
    return of_ids(found)


def logits(model: Any, given: Encoded) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**given.to("cpu"), use_cache=False).logits
    return found


def sharper(name: str) -> Any:
    """A model whose norms have gains and biases of their own: as it is made they are 1 and 0, and hide mistakes."""
    changes: dict[str, Any] = {"Granite": GRANITE, "Gemma2": {"final_logit_softcapping": 3.0}}.get(name, {})
    model = made(name, **changes)
    torch.manual_seed(5)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "norm" in key or "ln_" in key or key.endswith("bias"):
                value.add_(torch.randn_like(value) * 0.3)
    return model


@pytest.mark.parametrize("name", [*OBSERVED, "Granite"])
def test_after_the_last_layer_the_lens_is_the_model(name: str) -> None:
    model, given = sharper(name), ids(rows=2)
    given.attention_mask[1, 6:] = 0
    found = logit_lens.lens(model, NO_TOKENIZER, given)
    assert found.layers == [-1, 0, 1]
    own = logits(model, given).log_softmax(-1)
    there = given.attention_mask.bool()
    assert torch.equal(found.top[-1][there], own.argmax(-1)[there])
    assert found.divergence[-1][there].abs().max() < 1e-6
    assert found.divergence[0][there].min() > 0
    assert torch.isnan(found.divergence[0][~there]).all()
    wanted = -own[:, :-1].gather(-1, given.input_ids[:, 1:, None])[..., 0]
    assert torch.allclose(found.loss[-1][0, :-1], wanted[0], atol=1e-5)
    assert torch.isnan(found.loss[-1][0, -1])
    assert torch.isnan(found.loss[-1][1, 5:]).all(), "nothing follows a text's last token"
    assert (found.rank[-1][1, 5:] == -1).all()
    order = own[0, 0].argsort(descending=True)
    assert int(found.rank[-1][0, 0]) == int((order == given.input_ids[0, 1]).nonzero())


@pytest.mark.parametrize("name", [*OBSERVED, "Granite"])
@pytest.mark.parametrize("against", [None, 17])
def test_the_parts_of_a_logit_add_up_to_it(name: str, against: int | None) -> None:
    model, given = sharper(name), ids()
    if name == "Gemma2":
        model.config.final_logit_softcapping = None  # what is split is the logit before it
    found = logit_lens.attribute(model, NO_TOKENIZER, given, 11, against=against, place=-1)
    own = logits(model, given)[0, -1]
    wanted = float(own[11] - (own.mean() if against is None else own[against]))
    assert found.logit == pytest.approx(wanted, abs=1e-5)
    assert sum(found.parts.values()) == pytest.approx(wanted, abs=2e-5)
    assert list(found.parts) == ["embedding", "attn 0", "ffn 0", "attn 1", "ffn 1", "bias"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*OBSERVED, "Granite", "Olmo"])
def test_a_logit_in_half_precision_is_split_as_far_as_it_is_exact(name: str, dtype: torch.dtype) -> None:
    """Parts are added up in fp32, and what the stream lost as it was added up is a part of its own."""
    model, given = sharper(name).to(dtype), ids()
    if name == "Gemma2":
        model.config.final_logit_softcapping = None
    held: list[BlockSeen] = []
    ActivationExtractor(model, NO_TOKENIZER).observe(given, held.append)
    found = {against: logit_lens.attribute(model, NO_TOKENIZER, given, 11, against=against) for against in (None, 17)}
    own = logits(model, given)[0, -1].float()
    spare = 4 * torch.finfo(dtype).eps * float(own.abs().max())
    for against, other in ((None, own.mean()), (17, own[17])):
        assert list(found[against].parts) == ["embedding", "attn 0", "ffn 0", "attn 1", "ffn 1", "rounding", "bias"]
        assert found[against].logit == pytest.approx(float(own[11] - other), abs=spare)
        assert sum(found[against].parts.values()) == pytest.approx(found[against].logit, abs=spare)
    with torch.no_grad():
        exact = logit_lens.Unembedding(model.float())(held[-1].post_ffn[0, -1].float())  # [token]
    wanted = float(exact[11] - exact[17])
    assert sum(found[17].parts.values()) == pytest.approx(wanted, abs=1e-5 * float(exact.abs().max()))


def test_a_part_is_what_the_logit_loses_without_it() -> None:
    """The norm's scale held, a logit is linear: taking a part out of the stream takes just its share away."""
    model, given = sharper("Llama"), ids()
    found = logit_lens.attribute(model, NO_TOKENIZER, given, 11, against=17)
    held: list[BlockSeen] = []
    ActivationExtractor(model, NO_TOKENIZER).observe(given, held.append)
    stream, without = held[-1].post_ffn[0, -1].double(), held[0].attn[0, -1].double()
    norm = model.model.norm
    scale = norm.weight.double() / (stream.pow(2).mean() + norm.variance_epsilon).sqrt()
    head = (model.lm_head.weight[11] - model.lm_head.weight[17]).double()
    change = float((head @ (scale * stream) - head @ (scale * (stream - without))).detach())
    assert found.parts["attn 0"] == pytest.approx(change, abs=1e-6)


def test_a_norm_or_head_that_is_not_known_has_no_lens() -> None:
    model = made("Llama")

    def twice(_module: torch.nn.Module, _given: Any, out: Any) -> Any:
        out.logits = out.logits * 2
        return out

    model.register_forward_hook(twice)
    with pytest.raises(LabError, match="the lens differs from LlamaForCausalLM's own logits by"):
        logit_lens.lens(model, NO_TOKENIZER, ids())
    with pytest.raises(LabError, match="layer 2 is not there: the lens looks after -1"):
        logit_lens.lens(made("Llama"), NO_TOKENIZER, ids(), layers=[2])
    with pytest.raises(LabError, match="no layer is named: the lens looks after -1"):
        logit_lens.lens(made("Llama"), NO_TOKENIZER, ids(), layers=[])
    with pytest.raises(LabError, match="the lens differs from CohereForCausalLM's own logits by"):
        logit_lens.attribute(made("Cohere", logit_scale=0.1), NO_TOKENIZER, ids(), 11)


def test_a_token_or_place_that_is_not_there_is_named() -> None:
    model = made("Llama")
    with pytest.raises(LabError, match="token 99 is not there: the vocabulary has 99"):
        logit_lens.attribute(model, NO_TOKENIZER, ids(), 99)
    for given, place in ((ids(), 9), (ids(), -10), (ids(rows=2), 0)):
        with pytest.raises(LabError, match=f"place {place} of {len(given.input_ids)} texts of 9 tokens"):
            logit_lens.attribute(model, NO_TOKENIZER, given, 11, place=place)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_cka_is_1_for_a_turned_and_scaled_copy_and_about_0_for_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 60, generator=generator)
    turned = torch.linalg.qr(torch.randn(60, 60, generator=generator))[0]
    assert debiased_cka(x, 3.0 * x @ turned + 5) == pytest.approx(1.0, abs=1e-9)
    noise = [debiased_cka(x, torch.randn(1000, 60, generator=generator)) for _ in range(10)]
    assert max(map(abs, noise)) < 0.01
    assert min(noise) < 0 < max(noise), "without bias it falls on both sides"
    half = torch.cat([x, torch.randn(1000, 60, generator=generator)], 1)
    assert 0.6 < debiased_cka(x, half) < 0.8


def test_cka_equals_hsic_from_its_definition() -> None:
    """Song et al. 2012, eq. 4: sums over all pairs, triples and quadruples of different tokens."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(6, 3, generator=generator).double(), torch.randn(6, 2, generator=generator).double()

    def hsic(a: torch.Tensor, b: torch.Tensor) -> float:
        import itertools

        k, other = a @ a.T, b @ b.T
        pairs = [float(k[i, j] * other[i, j]) for i, j in itertools.permutations(range(6), 2)]
        four = [float(k[i, j] * other[q, r]) for i, j, q, r in itertools.permutations(range(6), 4)]
        three = [float(k[i, j] * other[i, q]) for i, j, q in itertools.permutations(range(6), 3)]
        return sum(pairs) / len(pairs) + sum(four) / len(four) - 2 * sum(three) / len(three)

    wanted = hsic(x, y) / (hsic(x, x) * hsic(y, y)) ** 0.5
    assert debiased_cka(x, y, enough=4) == pytest.approx(wanted, rel=1e-9)


def test_cka_refuses_what_it_could_not_tell_from_noise() -> None:
    with pytest.raises(LabError, match="CKA of 999 tokens is not told from that of noise: give 1000 or more"):
        debiased_cka(torch.randn(999, 4), torch.randn(999, 4))
    with pytest.raises(LabError, match="compares the same tokens, and there are 1000 and 1001"):
        debiased_cka(torch.randn(1000, 4), torch.randn(1001, 4))
    with pytest.raises(LabError, match="the same for every token"):
        debiased_cka(torch.ones(1000, 4), torch.randn(1000, 4))


@pytest.mark.parametrize("name", ["Llama", "GPT2", "OPT", "Phi", "Granite"])
@pytest.mark.parametrize("part", ["pre_attn", "post_ffn"])
def test_patching_the_whole_stream_gives_the_clean_text_back(name: str, part: patching.Part) -> None:
    model, clean = sharper(name), ids(1)
    corrupted = of_ids(clean.input_ids.clone())
    corrupted.input_ids[0, 2] = (corrupted.input_ids[0, 2] + 1 - 3) % (VOCABULARY - 3) + 3

    def measure(found: torch.Tensor) -> float:
        return float(found[0, -1, 11] - found[0, -1, 17])

    effects, best, worst = patching.patch_effects(model, clean, corrupted, measure, part=part)
    assert best == pytest.approx(measure(logits(model, clean)))
    assert worst == pytest.approx(measure(logits(model, corrupted)))
    assert effects.shape == (2, 9)
    if part == "pre_attn":
        assert effects[0, 2] == pytest.approx(1, abs=1e-3), "nothing but this token's embedding differs"
        assert effects[0, [0, 1, 3, 4, 5, 6, 7, 8]].abs().max() < 1e-3
    else:
        assert effects[1, 8] == pytest.approx(1, abs=1e-3), "the last place of the last layer is the answer"
        assert effects[1, :8].abs().max() < 1e-3, "no other place of the last layer is read"


def test_places_that_are_patched_in_several_passes_are_all_patched() -> None:
    """More places than one pass takes: each must be its own, patched by hand here, one at a time."""
    model, clean, corrupted = sharper("Llama"), ids(1, count=21), ids(2, count=21)
    assert 21 % patching.AT_ONCE != 0

    def measure(found: torch.Tensor) -> float:
        return float(found[0, -1, 11] - found[0, -1, 17])

    held: list[BlockSeen] = []
    ActivationExtractor(model, NO_TOKENIZER, layers=[0]).observe(clean, held.append)
    effects, best, worst = patching.patch_effects(model, clean, corrupted, measure, layers=[0])
    assert effects.shape == (1, 21)
    for place in range(21):

        def put(stream: torch.Tensor, place: int = place) -> torch.Tensor:
            new = stream.clone()
            new[0, place] = held[0].post_ffn[0, place]
            return new

        with patching.changed(model, {(0, "post_ffn"): put}):
            wanted = (measure(logits(model, corrupted)) - worst) / (best - worst)
        assert float(effects[0, place]) == pytest.approx(wanted, abs=1e-4)
    assert len(set(effects[0].tolist())) == 21


def test_patching_a_part_that_attention_adds_is_that_part_of_the_clean_text() -> None:
    model, clean, corrupted = sharper("Granite"), ids(1), ids(2)
    held: list[BlockSeen] = []
    ActivationExtractor(model, NO_TOKENIZER, layers=[0]).observe(clean, held.append)
    change = patching._diagonal(held[0].attn, model, 0, "attn")
    rows = of_ids(corrupted.input_ids.repeat(9, 1))
    seen: list[BlockSeen] = []
    with patching.changed(model, {(0, "attn"): change}):
        ActivationExtractor(model, NO_TOKENIZER, layers=[0]).observe(rows, seen.append)
    for place in range(9):
        assert torch.allclose(seen[0].attn[place, place], held[0].attn[0, place], atol=1e-6)


def test_texts_that_cannot_be_patched_are_refused() -> None:
    model = made("Llama")
    with pytest.raises(LabError, match="the clean text has 9 tokens and the corrupted one 8: patching needs as many"):
        patching.patch_effects(model, ids(), ids(count=8), lambda found: float(found[0, -1, 0]))
    with pytest.raises(LabError, match="2 clean texts are given: patching compares one with one"):
        patching.patch_effects(model, ids(rows=2), ids(2, rows=2), lambda found: float(found[0, -1, 0]))
    with pytest.raises(LabError, match="measure the same"):
        patching.patch_effects(model, ids(), ids(), lambda found: float(found[0, -1, 0]))
    with (
        pytest.raises(LabError, match="layer 5 is not there: the model has 0 to 1"),
        patching.changed(model, {(5, "attn"): lambda x: x}),
    ):
        pass
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_direction_that_was_taken_away_is_gone_and_nothing_else_is() -> None:
    model, given = sharper("Llama"), ids()
    torch.manual_seed(2)
    direction = torch.randn(32)
    held: list[BlockSeen] = []
    with patching.without_direction(model, direction, [0]):
        ActivationExtractor(model, NO_TOKENIZER, layers=[1]).observe(given, held.append)
    plain: list[BlockSeen] = []
    ActivationExtractor(model, NO_TOKENIZER, layers=[1]).observe(given, plain.append)
    unit = direction / direction.norm()
    assert (held[0].pre_attn @ unit).abs().max() < 1e-5
    across = plain[0].pre_attn - (plain[0].pre_attn @ unit)[..., None] * unit
    assert torch.allclose(held[0].pre_attn, across, atol=1e-5)
    for wrong in (torch.zeros(32), torch.ones(31)):
        with (
            pytest.raises(LabError, match="a direction has 32 numbers and is not 0"),
            patching.without_direction(model, wrong),
        ):
            pass
