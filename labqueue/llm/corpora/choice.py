"""Which tokenizer a corpus is read with, as parameters of a kind. No torch, no transformers."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import kind as kinds

SMALLEST_BPE = 257
"""The 256 bytes and the end of text: what a byte-level BPE has before its first merge."""


class TokenizerChoice(kinds.Params):
    """A tokenizer: made from the corpus, or that of a model."""

    kind: Literal["character", "byte", "bpe", "model"] = "byte"
    """``character``: every character of the corpus is a token. ``byte``: the 256 bytes of UTF-8. ``bpe``: byte pairs
    as GPT-2 has them, merged here by how often they stand in the training text. ``model``: that of a model."""
    vocabulary: int | None = Field(default=None, ge=SMALLEST_BPE, le=262_144)
    """Tokens of a ``bpe``, its 256 bytes and the end of text among them; 4096 where it is left out."""
    model: str | None = None
    """Whose tokenizer, for ``model``: a name of `labqueue models`, a folder, or ``gpt2`` (the tokenizer alone)."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the model's tokenizer files, filled in at submission: another tokenizer is another run."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.model is None) == (self.kind == "model"):
            raise ValueError("tokenizer.model is given with kind: model, and only there")
        if self.vocabulary is not None and self.kind != "bpe":
            raise ValueError(f"tokenizer.vocabulary belongs to kind: bpe; that of {self.kind} follows from what it is")
        if self.sha256 is not None and self.kind != "model":
            raise ValueError("tokenizer.sha256 belongs to kind: model; the others are made from the corpus")
        return self

    def pinned(self) -> TokenizerChoice:
        """The same with the hash of the model's tokenizer, where it is here and none was given."""
        from labqueue.llm.corpora import model_tokenizers

        found = self.sha256 or (None if self.model is None else model_tokenizers.pin(self.model))
        return self.model_copy(update={"sha256": found})

    @property
    def assets(self) -> list[str]:
        """What must be on this machine, as ``labqueue.llm.assets`` names it."""
        return [] if self.model is None else [f"tokenizer:{self.model}"]

    @property
    def tokens(self) -> int:
        """Tokens of a ``bpe``."""
        return self.vocabulary or 4096
