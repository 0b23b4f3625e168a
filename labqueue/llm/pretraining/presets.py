"""Models with their recipes, named by family and true number of parameters. No torch.

``gpt2-10.7m`` and ``gpt2-0.8m`` are nanoGPT's config/train_shakespeare_char.py and the CPU recipe of its README, number
for number; ``gpt2-124m`` is its model and rates with a run that one card can finish. The modern ones are as large
without their embeddings: RMSNorm, rotary positions, QK-norm and SwiGLU (Qwen 3's class), projections and head starting
at 0, hidden matrices trained by Muon (AdamW for the CPU's: Muon computes in bf16, which most CPUs do slowly).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.pretraining.config import GPTConfig
from labqueue.llm.pretraining.schedules import Recipe

CHARACTERS = 65
"""Different characters of the Shakespeare file."""

GPT2_PADDED = 50_304
"""GPT-2's 50,257 tokens, padded to a multiple of 64 for the sake of matrix products (nanoGPT)."""


@dataclass(frozen=True)
class Preset:
    """A model and how it is trained. The vocabulary is the usual one; a run's tokenizer decides its own."""

    about: str
    config: GPTConfig
    recipe: Recipe


def _modern(like: GPTConfig) -> GPTConfig:
    return replace(like, family="llama", qk_norm=True, tied=False, zero_projections=True, zero_head=True)


_CPU = GPTConfig(CHARACTERS, context=64, layers=4, heads=4, width=128)
_CPU_RECIPE = Recipe(steps=2000, batch=12)
_BABY = GPTConfig(CHARACTERS, context=256, layers=6, heads=6, width=384, dropout=0.2)
_BABY_RECIPE = Recipe(steps=5000, batch=64)
_SMALL = GPTConfig(GPT2_PADDED, context=1024, layers=12, heads=12, width=768)
# 12 x 40 sequences of 1,024 a step are nanoGPT's; 5,000 steps are 20 tokens a parameter (Hoffmann et al. 2022,
# arXiv:2203.15556, table 3), where nanoGPT takes 600,000.
_SMALL_RECIPE = Recipe(steps=5000, batch=12, accumulation=40, learning_rate=6e-4, warmup_steps=250, beta2=0.95)

PRESETS = {
    "gpt2-0.8m": Preset("nanoGPT's recipe for a CPU: characters, minutes", _CPU, _CPU_RECIPE),
    "gpt2-10.7m": Preset("nanoGPT's baby GPT: characters, one GPU, minutes", _BABY, _BABY_RECIPE),
    "gpt2-124m": Preset("GPT-2 small, 20 tokens a parameter: one GPU, a night", _SMALL, _SMALL_RECIPE),
    "modern-0.9m": Preset("the modern model for a CPU", _modern(_CPU), _CPU_RECIPE),
    "modern-10.7m": Preset(
        "the modern model as large as nanoGPT's baby",
        # A million characters read 80 times over are learned by heart, by Muon sooner: where text is scarce the best
        # weight decay is far above the usual 0.1 (Kim et al. 2025, arXiv:2509.14786). Of seven tried, the lowest point.
        _modern(_BABY),
        replace(_BABY_RECIPE, optimizer="muon", weight_decay=10.0),
    ),
    "modern-162m": Preset(
        "the modern model as large as GPT-2 small without embeddings",
        _modern(_SMALL),
        replace(_SMALL_RECIPE, optimizer="muon", learning_rate=2e-3, muon_rate=3e-3),
    ),
}
"""By name."""


def find(name: str) -> Preset:
    """The preset of a name.

    Raises:
        LabError: there is none; the nearest is named.
    """
    if name not in PRESETS:
        raise LabError(f"unknown preset {name!r}: {nearest(name, PRESETS)}", key="preset")
    return PRESETS[name]


def size(config: GPTConfig) -> str:
    """The number of parameters as it stands in a name: ``10.7m``, ``124m``."""
    millions = config.parameters / 1e6
    return f"{millions:.0f}m" if millions >= 100 else f"{millions:.1f}m"
