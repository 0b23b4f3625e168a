"""Reads the residual stream as predictions, and splits a logit into what each part of the model added to it.

The lens puts the model's own final norm and head behind any layer (nostalgebraist 2020): once, since what the last
block leaves has not been through the norm. An attribution takes the norm's scale as it came out, so that what is left
is linear and its parts add up to the logit (direct logit attribution; Elhage et al. 2021).
"""

from __future__ import annotations

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

    def __call__(self, stream: torch.Tensor) -> torch.Tensor:
        """Logits [batch, seq, token] of a stream [batch, seq, hidden] that has not been through the final norm."""
        logits = self.before_cap(self.norm(stream))
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    def before_cap(self, normed: torch.Tensor) -> torch.Tensor:
        """Logits of a stream behind the final norm, before any soft-cap."""
        if isinstance(self._between, torch.nn.Module):
            normed = self._between(normed)
        return self.head(normed) / self._divisor  # type: ignore[no-any-return]

    def frozen(self, stream: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """The norm's gain [..., hidden] with the scale that this stream has, and whether it takes the mean away first.

        Raises:
            LabError: the norm is neither RMSNorm nor LayerNorm.
        """
        weight = cast("torch.Tensor", self.norm.weight).detach().float()
        eps = float(getattr(self.norm, "eps", getattr(self.norm, "variance_epsilon", 1e-6)))
        x = stream.float()
        wanted = self.norm(stream).float()
        bias = getattr(self.norm, "bias", None)
        behind = 0.0 if bias is None else bias.detach().float()
        for centred in (False, True):
            y = x - x.mean(-1, keepdim=True) if centred else x
            scale = torch.rsqrt((y**2).mean(-1, keepdim=True) + eps)
            for gain in (weight, weight + 1):  # Gemma's weight is what it differs from 1 by
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
    own: torch.Tensor = model(**batch.to(model.device), use_cache=False).logits.float()
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
    """``embedding``, ``attn 0``, ``ffn 0``, … in the order in which they are added, and ``bias`` of norm and head."""


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
        LabError: as ``lens``; a token that is not there.
    """
    unembedding = Unembedding(model)
    added: list[tuple[str, torch.Tensor]] = []
    stream: list[torch.Tensor] = []

    def keep(seen: BlockSeen) -> None:
        if seen.layer == 0:
            added.append(("embedding", seen.pre_attn[0, place].detach().clone()))  # [hidden]
        added.append((f"attn {seen.layer}", seen.attn[0, place].detach().clone()))
        added.append((f"ffn {seen.layer}", seen.ffn[0, place].detach().clone()))
        stream[:] = [seen.post_ffn[0, place].detach().clone()]

    ActivationExtractor(model, tokenizer).observe(text, keep)
    with torch.no_grad():
        gain, centred = unembedding.frozen(stream[0])  # [hidden]
        zero = unembedding.before_cap(torch.zeros_like(stream[0])).float()  # [token]: the head's bias
        count = zero.shape[-1]
        for each in (token, against):
            if each is not None and not 0 <= each < count:
                raise LabError(f"token {each} is not there: the vocabulary has {count}", key="token")

        def direct(vector: torch.Tensor) -> float:
            own = unembedding.before_cap(vector.to(stream[0].dtype)).float() - zero
            return float(own[token] - (own.mean() if against is None else own[against]))

        parts = {}
        for name, vector in added:
            x = vector.float()
            parts[name] = direct((x - x.mean() if centred else x) * gain)
        bias = getattr(unembedding.norm, "bias", None)
        parts["bias"] = float(zero[token] - (zero.mean() if against is None else zero[against]))
        if bias is not None:
            parts["bias"] += direct(bias.detach().float())
        own = unembedding.before_cap(unembedding.norm(stream[0])).float()
        logit = float(own[token] - (own.mean() if against is None else own[against]))
    return Attribution(logit, parts)
