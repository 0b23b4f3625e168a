"""Reads the residual stream as predictions, and splits a logit into what each part of the model added to it.

The lens puts the model's own final norm and head behind any layer (nostalgebraist 2020): once, since what the last
block leaves has not been through the norm. An attribution takes the norm's scale as it came out, so that what is left
is linear and its parts add up to the logit (direct logit attribution; Elhage et al. 2021).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from labqueue.domain.errors import LabError
from labqueue.llm.interp.activations import ActivationExtractor, BlockSeen
from labqueue.llm.interp.attention_tap import bare

if TYPE_CHECKING:
    from labqueue.llm.interp.encoding import Encoded
    from labqueue.llm.types import Model, Tokenizer

NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
"""What the norm before the head is called: Llama's family, GPT-2, OPT and NeoX, Phi."""

AGREES = 1e-3
"""Share of the largest logit by which lens and model may differ at the last layer: an order of sums. Assumption."""


@dataclass(frozen=True)
class Lens:
    """What a model would predict, were a layer its last."""

    layers: list[int]
    """Numbers of the blocks after which it looks; -1 stands for the embedding."""
    tokens: list[list[str]]
    """Of each text, a label per token."""
    top: torch.Tensor
    """[layer, batch, seq]: the likeliest next token."""
    probability: torch.Tensor
    """[layer, batch, seq]: how likely it is."""
    loss: torch.Tensor
    """[layer, batch, seq]: -log p of the token that really follows, nats; NaN at a text's last token and at padding."""
    rank: torch.Tensor
    """[layer, batch, seq]: how many tokens are likelier than the one that follows; -1 where none does."""
    divergence: torch.Tensor
    """[layer, batch, seq]: KL of the model's own prediction from the lens's, nats; NaN at padding."""


class Unembedding:
    """A model's way from the stream to logits: final norm, head, and what its config does to logits."""

    def __init__(self, model: Model) -> None:
        """Raises LabError where the norm or the head cannot be found."""
        inner = bare(model)
        places = [place for place in inner.base_model.modules() if place is not inner]
        decoder = next(
            (place for place in places if any(isinstance(c, torch.nn.ModuleList) for c in place.children())), None
        )
        found = [getattr(decoder, name) for name in NORMS if getattr(decoder, name, None) is not None]
        head = inner.get_output_embeddings()
        if not found or head is None:
            raise LabError(
                f"{type(inner).__name__} has no final norm of a known name ({', '.join(NORMS)}) or no head: it has no "
                "lens",
                key="model",
            )
        self.norm: torch.nn.Module = found[0]
        self.head: torch.nn.Module = head
        self._between = getattr(decoder, "project_out", None)  # OPT
        config = inner.config.get_text_config()
        self._cap = getattr(config, "final_logit_softcapping", None)  # Gemma-2
        self._divisor = float(getattr(config, "logits_scaling", 1.0))  # Granite
        self._width = int(config.hidden_size)
        self._computes_in = inner.dtype

    def __call__(self, stream: torch.Tensor) -> torch.Tensor:
        """Logits [batch, seq, token] of a stream [batch, seq, hidden] that has not been through the final norm."""
        logits = self.before_cap(self.norm(stream))
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    def before_cap(self, normed: torch.Tensor) -> torch.Tensor:
        """Logits of a stream behind the final norm, before any soft-cap."""
        return self._headed(normed) / self._divisor

    def _headed(self, normed: torch.Tensor) -> torch.Tensor:
        if isinstance(self._between, torch.nn.Module):
            normed = self._between(normed)
        return self.head(normed)  # type: ignore[no-any-return]

    def direction(self, token: int, against: int | None) -> torch.Tensor:
        """[hidden], fp32: the direction of a normed stream in which a logit grows over another's, or over the mean.

        The head is linear: its gradient is what it weighs each place with, be it quantised or under an adapter.
        """
        weight = next(self.norm.parameters(), next(self.head.parameters()))
        with torch.enable_grad():
            zero = torch.zeros(self._width, device=weight.device, dtype=self._computes_in, requires_grad=True)
            logits = self._headed(zero)  # [token]
            (own,) = torch.autograd.grad(logits[token], zero, retain_graph=True)
            other = logits.mean() if against is None else logits[against]
            (less,) = torch.autograd.grad(other, zero)
        return (own.float() - less.float()) / self._divisor

    def frozen(self, stream: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """The norm's gain [..., hidden] with the scale that this stream has, and whether it takes the mean away first.

        Raises:
            LabError: the norm is neither RMSNorm nor LayerNorm.
        """
        weight = cast("torch.Tensor | None", getattr(self.norm, "weight", None))  # none in OLMo
        own = torch.ones(self._width, device=stream.device) if weight is None else weight.detach().float()
        eps = float(getattr(self.norm, "eps", getattr(self.norm, "variance_epsilon", 1e-5)))  # OLMo's is fixed
        x = stream.float()
        # In fp32: what bfloat16 rounds away is more than what tells one kind of norm from another.
        wanted = copy.deepcopy(self.norm).float()(x).float()
        bias = getattr(self.norm, "bias", None)
        behind = 0.0 if bias is None else bias.detach().float()
        for centred in (False, True):
            y = x - x.mean(-1, keepdim=True) if centred else x
            scale = torch.rsqrt((y**2).mean(-1, keepdim=True) + eps)
            for gain in (own, own + 1):  # Gemma's weight is what it differs from 1 by
                found = y * scale * gain + behind
                if torch.allclose(found, wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0):
                    return scale * gain, centred
        raise LabError(
            f"{type(self.norm).__name__} is no norm that is known: its parts cannot be told apart", key="model"
        )


def lens(
    model: Model, tokenizer: Tokenizer, text: str | Sequence[str] | Encoded, layers: Sequence[int] | None = None
) -> Lens:
    """Reads the stream after each layer as a prediction of the next token.

    Args:
        model: of transformers, with or without adapter.
        tokenizer: the model's.
        text: one or several.
        layers: after which blocks, -1 for the embedding; None for all.

    Raises:
        LabError: as ``extract_activations``; a final norm that is not known; a lens that disagrees with the model at
            the last layer.
    """
    unembedding = Unembedding(model)
    extractor = ActivationExtractor(model, tokenizer)
    last = extractor.layers[-1]
    wanted = [-1, *extractor.layers] if layers is None else sorted(set(layers))
    if not wanted:
        raise LabError(f"no layer is named: the lens looks after -1 (the embedding) to {last}", key="layers")
    if wrong := [layer for layer in wanted if not -1 <= layer <= last]:
        raise LabError(
            f"layer {wrong[0]} is not there: the lens looks after -1 (the embedding) to {last}", key="layers"
        )
    streams: dict[int, torch.Tensor] = {}

    def keep(seen: BlockSeen) -> None:
        if seen.layer == 0 and -1 in wanted:
            streams[-1] = seen.pre_attn.detach().clone()
        if seen.layer in wanted or seen.layer == last:
            streams[seen.layer] = seen.post_ffn.detach().clone()

    batch = extractor.observe(text, keep)
    there = batch.attention_mask.bool()  # [batch, seq]
    with torch.no_grad():
        own = torch.log_softmax(_checked(model, unembedding, streams[last], batch), -1).cpu()  # [batch, seq, token]
        parts = [_read(unembedding(streams[layer]).float().cpu(), own, batch.input_ids, there) for layer in wanted]
    return Lens(wanted, batch.tokens, *(torch.stack(each) for each in zip(*parts, strict=True)))


def _checked(model: Model, unembedding: Unembedding, stream: torch.Tensor, batch: Encoded) -> torch.Tensor:
    """The model's own logits, which the lens must give from the last block's stream, fp32."""
    was = model.training
    model.eval()
    try:
        own: torch.Tensor = model(**batch.to(model.device), use_cache=False).logits.float()
    finally:
        model.train(was)
    found = unembedding(stream).float()
    worst = float((found - own).abs().max() / own.abs().max())
    if not worst <= AGREES * (1 if stream.dtype == torch.float32 else 20):
        raise LabError(
            f"the lens differs from {type(bare(model)).__name__}'s own logits by {worst:.2%} of the largest at the "
            "last layer: this model's head is not known",
            key="model",
        )
    return own


def _read(logits: torch.Tensor, own: torch.Tensor, ids: torch.Tensor, there: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """``logits`` and ``own`` (log-probabilities) [batch, seq, token], ``ids`` and ``there`` [batch, seq]."""
    log_p = torch.log_softmax(logits, -1)  # [batch, seq, token]
    probability, top = log_p.exp().max(-1)  # [batch, seq]
    divergence = (own.exp() * (own - log_p)).sum(-1)
    follows = there.clone()
    follows[:, :-1] &= there[:, 1:]
    follows[:, -1] = False
    next_ids = ids.roll(-1, 1)  # [batch, seq]
    of_next = log_p.gather(-1, next_ids[..., None])[..., 0]
    rank = (log_p > of_next[..., None]).sum(-1)
    loss = torch.where(follows, -of_next, torch.nan)
    return top, probability, loss, torch.where(follows, rank, -1), torch.where(there, divergence, torch.nan)


@dataclass(frozen=True)
class Attribution:
    """A logit, or the difference of two, as a sum. ``sum(parts.values())`` is ``logit``, but for rounding."""

    logit: float
    parts: dict[str, float]
    """``embedding``, ``attn 0``, ``ffn 0``, … in the order in which they are added, and ``bias`` of norm and head; of a
    model in half precision also ``rounding``: what its stream lost as it was added up."""


def attribute(
    model: Model, tokenizer: Tokenizer, text: str | Encoded, token: int, *, against: int | None = None, place: int = -1
) -> Attribution:
    """Splits a logit of the next token into what embedding, attention and FFN of each layer added to it directly.

    Args:
        model: of transformers, with or without adapter.
        tokenizer: the model's.
        text: one.
        token: whose logit.
        against: another token, whose logit is taken away; None: the mean logit of all, since a constant means nothing.
        place: after which token of the text.

    Returns:
        Logits before any soft-cap.

    Raises:
        LabError: as ``lens``; several texts, a token or a place that is not there.
    """
    unembedding = Unembedding(model)
    added: list[tuple[str, torch.Tensor]] = []
    stream: list[torch.Tensor] = []

    def keep(seen: BlockSeen) -> None:
        count = seen.pre_attn.shape[1]
        if seen.pre_attn.shape[0] != 1 or not -count <= place < count:
            raise LabError(
                f"place {place} of {seen.pre_attn.shape[0]} texts of {count} tokens: give one text and a place in it",
                key="place",
            )
        if seen.layer == 0:
            added.append(("embedding", seen.pre_attn[0, place].float()))  # [hidden]
        added.append((f"attn {seen.layer}", seen.attn[0, place].float()))
        added.append((f"ffn {seen.layer}", seen.ffn[0, place].float()))
        stream[:] = [seen.post_ffn.detach().clone()]  # [1, seq, hidden]

    batch = ActivationExtractor(model, tokenizer).observe(text, keep)
    with torch.no_grad():
        _checked(model, unembedding, stream[0], batch)
        left = stream[0][0, place]  # [hidden]
        logits = unembedding.before_cap(unembedding.norm(left)).float()  # [token]
        count = len(logits)
        for each in (token, against):
            if each is not None and not 0 <= each < count:
                raise LabError(f"token {each} is not there: the vocabulary has {count}", key="token")
        gain, centred = unembedding.frozen(left)  # [hidden]
        along = unembedding.direction(token, against)  # [hidden]
        parts = {name: float((x - x.mean() if centred else x) * gain @ along) for name, x in added}
        if left.dtype != torch.float32:
            lost = left.float() - sum(x for _, x in added)
            parts["rounding"] = float((lost - lost.mean() if centred else lost) * gain @ along)
        zero = unembedding.before_cap(torch.zeros_like(left)).float()  # [token]: the head's bias
        parts["bias"] = _over(zero, token, against)
        bias = getattr(unembedding.norm, "bias", None)
        if bias is not None:
            parts["bias"] += float(bias.detach().float() @ along)
    return Attribution(_over(logits, token, against), parts)


def _over(logits: torch.Tensor, token: int, against: int | None) -> float:
    """``logits`` [token]: one of them less another, or less their mean."""
    return float(logits[token] - (logits.mean() if against is None else logits[against]))
