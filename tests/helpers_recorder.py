"""A recorder in memory: keeps what a kind says, and can stop it, so that kinds are tested without a results store."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from labqueue.domain.artifacts import Artifact, Files, Tensor
from labqueue.domain.kind import Checkpoint, Diverged


class MemoryRecorder:
    """Implements the Recorder protocol. ``stop_at`` asks to stop once that step's progress was told,
    ``stop_after_asks`` once the kind has asked that often; ``keep_at`` asks to keep what it has once that step was
    told, until a model is stored."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int = 0,
        device: str = "cpu",
        stop_at: int | None = None,
        stop_after_asks: int | None = None,
        resume_from: Checkpoint | None = None,
        attempt: int = 1,
        keep_at: int | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.run_id, self.seed, self.device = 1, seed, device
        self.directory, self.attempt, self.resume_from = directory, attempt, resume_from
        self.stop_at, self.stop_after_asks, self.asks = stop_at, stop_after_asks, 0
        self.keep_at = keep_at
        self.samples: dict[tuple[int, str], str] = {}
        self.phases: list[str | None] = []
        self.metrics: dict[str, dict[int, float | None]] = {}
        self.written: list[tuple[str, int]] = []
        self.artifacts: dict[str, Artifact] = {}
        self.notes: list[str] = []
        self.checkpoints: list[Checkpoint] = []
        self.done = 0

    @property
    def should_stop(self) -> str | None:
        self.asks += 1
        told = self.stop_at is not None and self.done >= self.stop_at
        asked = self.stop_after_asks is not None and self.asks > self.stop_after_asks
        return "pause" if told or asked else None

    @property
    def keep_wanted(self) -> bool:
        return self.keep_at is not None and self.done >= self.keep_at

    def sample(self, step: int, prompt: str, text: str) -> None:
        self.samples[step, prompt] = text

    def metric(self, name: str, value: float | None, step: int) -> None:
        finite = value is None or math.isfinite(value)
        series = self.metrics.setdefault(name, {})
        good = max((at for at, known in series.items() if known is not None), default=None)
        series[step] = float(value) if value is not None and finite else None
        self.written.append((name, step))
        if not finite:
            raise Diverged(name, step, good)

    def artifact(self, name: str, value: Artifact) -> None:
        if isinstance(value, Files | Tensor):
            kept = self.directory / "artifacts" / name
            kept.parent.mkdir(exist_ok=True)
            if value.path.is_dir():
                shutil.copytree(value.path, kept, dirs_exist_ok=True)
            else:
                shutil.copy(value.path, kept)
            value = value.model_copy(update={"path": kept})
            self.keep_at = None if value.type == "model" else self.keep_at
        self.artifacts[name] = value

    def note(self, text: str) -> None:
        self.notes.append(text)

    def checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        folder = self.directory / "checkpoints" / str(step)
        shutil.rmtree(folder, ignore_errors=True)  # the same step again replaces
        folder.mkdir(parents=True)
        save(folder)
        self.checkpoints.append(Checkpoint(step, folder))

    def progress(self, done: int, total: int, *, phase: str | None = None) -> None:
        if [phase] != self.phases[-1:]:
            self.phases.append(phase)
        self.done = 0 if phase else done
