"""The loop of a pretraining run: what is measured when, and what is kept."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from labqueue.domain import artifacts, kind

if TYPE_CHECKING:
    from pathlib import Path

    from labqueue.domain.kind import Recorder
    from labqueue.kinds.pretrain.params import Params
    from labqueue.llm.corpora.token_files import TokenizedCorpus
    from labqueue.llm.pretraining.train_step import Reading, TrainStep
    from labqueue.llm.types import Json

VALUES = 500
"""Values of a training metric at most: of a longer run each is the mean of a stretch of steps."""

READ_S = 0.25
"""Between two readings of losses, each of which waits for the device."""


class Loop:
    """Takes the steps of one run, and turns what they measure into what the recorder keeps."""

    def __init__(self, params: Params, rec: Recorder, step: TrainStep, corpus: TokenizedCorpus) -> None:
        from labqueue.kinds.pretrain.heads import HeadProbe
        from labqueue.llm.pretraining.schedules import evaluation_steps

        self.params, self.rec, self.step, self.corpus = params, rec, step, corpus
        self.steps = step.recipe.steps
        self.evaluations = set(evaluation_steps(self.steps, params.evaluations))
        quarters = {max(1, round(self.steps * part / 4)) for part in (1, 2, 3)} if params.kept == "quarters" else set()
        self.kept_at = quarters - {self.steps}
        self.heads = HeadProbe(params, rec, corpus, self.steps, step.model.config.context)
        self.stretch = max(1, self.steps // VALUES)
        self.window: list[tuple[float, float]] = []
        """Loss and gradient norm of the steps since the last value."""
        self.losses: dict[int, float] = {}
        """Validation loss by step."""
        self.gradients: dict[int, dict[str, float]] = {}
        self.updates: dict[int, dict[str, float]] = {}
        self.trained_s, self.timed_steps = 0.0, 0
        self.peak_before: float | None = None
        self.peak_tflops: float | None = None
        self.saved_s = time.monotonic()

    def about(self) -> Json:
        """What a resume takes up, as JSON."""
        return {
            "window": self.window,
            "losses": list(self.losses.items()),
            "gradients": list(self.gradients.items()),
            "updates": list(self.updates.items()),
            "peak_gib": self._peak_gib(),
            "peak_of": self._peak_of(),
            "heads": self.heads.about(),
        }

    def restore(self, about: Json) -> None:
        """Takes up what an earlier attempt had measured."""
        self.window = [(loss, norm) for loss, norm in about["window"]]
        self.losses, self.gradients, self.updates = (dict(about[name]) for name in ("losses", "gradients", "updates"))
        self.heads.restore(about["heads"])
        if about["peak_of"] == self._peak_of():  # what the memory ladder has changed since needs less
            self.peak_before = about["peak_gib"]

    def run(self, done: int) -> None:
        """Takes the steps after ``done`` and leaves the run complete.

        Raises:
            Stopped: asked to stop, and checkpointed.
        """
        self._measure_peak()
        self._evaluate(done)
        self.heads.look(done, self.step.model)
        begin, timed = time.monotonic(), False  # the first stretch of an attempt compiles: it is no measure
        at, marked = done, self.kept_at | self.heads.steps
        for number in range(done + 1, self.steps + 1):
            before = self.step.weights() if number in self.evaluations else None
            self.step.run(number)
            now = time.monotonic()
            evaluated = number in self.evaluations
            due = number % self.stretch == 0 or number == self.steps or evaluated or number in marked
            saving = self._checkpoint_due(number, now)
            if not (due or saving or self.step.full or now - begin > READ_S or self.rec.keep_wanted):
                continue
            self._read()
            now = time.monotonic()
            if timed:
                self.trained_s, self.timed_steps = self.trained_s + now - begin, self.timed_steps + number - at
            timed, at = True, number
            if self.timed_steps and (due or saving):
                self._throughput(number)
            if before is not None:
                self.gradients[number] = self.step.gradient_norms()
                self.updates[number] = self.step.update_norms(before)
            self.rec.progress(number, self.steps)
            if evaluated:
                self._evaluate(number)
            self.heads.look(number, self.step.model)
            if number in self.kept_at or self.rec.keep_wanted:
                self._keep(f"step_{number:06d}")
            if self.rec.should_stop is not None or (saving and number < self.steps):
                self._checkpoint(number)
            if self.rec.should_stop is not None:
                raise kind.Stopped(str(self.rec.should_stop))
            begin = time.monotonic()
        self._finish()

    def _read(self) -> None:
        """Records what the steps since the last call measured."""
        readings: list[Reading] = self.step.read()
        for reading in readings:
            self.window.append((reading.loss, reading.grad_norm))
            if reading.step % self.stretch and reading.step != self.steps:
                continue
            rate, _ = self.step.recipe.rates(reading.step)
            self.rec.metric("learning_rate", rate, reading.step)
            self.rec.metric("grad_norm", self.window[-1][1], reading.step)
            self.rec.metric("train_loss", sum(loss for loss, _ in self.window) / len(self.window), reading.step)
            self.window.clear()

    def _evaluate(self, number: int) -> None:
        """Measures the whole split after a step, once, and writes samples."""
        from labqueue.llm.pretraining import validation

        if number not in self.evaluations or number in self.losses:
            return
        model, corpus = self.step.model, self.corpus
        try:
            loss = validation.split_loss(
                model, corpus.validation, self.rec.device, self.step.way.dtype, lambda: self.rec.should_stop is not None
            )
        except validation.Left:
            if number:  # before the first step there is nothing to keep
                self._checkpoint(number)
            raise kind.Stopped(str(self.rec.should_stop)) from None
        self.rec.metric("eval_loss", loss, number)
        bits = validation.bits_per_byte(loss, len(corpus.validation), corpus.validation_bytes)
        self.rec.metric("bits_per_byte", bits, number)
        if number == 0:
            self.rec.metric("initial_excess", loss - model.config.initial_loss, 0)
        self._sample(number)
        self.losses[number] = loss
        if self.gradients:
            self.rec.artifact("gradient_norm_by_layer", _curve(self.gradients, "norm of the gradient"))
            self.rec.artifact("update_by_layer", _curve(self.updates, "update / weights"))

    def _sample(self, number: int) -> None:
        for place, prompt in enumerate(self.params.prompts):
            ids = list(self.corpus.tokenizer(prompt, add_special_tokens=False)["input_ids"])
            if not ids:
                raise kind.UserError(f"prompts: the tokenizer makes no token of {prompt!r}")
            new = self.step.model.continuation(
                ids,
                self.params.sample_tokens,
                seed=self.rec.seed + 1000 * place,
                temperature=self.params.temperature,
                top_k=self.params.top_k,
            )
            known = [
                token for token in new if token < self.corpus.vocabulary
            ]  # padded rows of the embedding are no text
            self.rec.sample(number, prompt, str(self.corpus.tokenizer.decode(known)))

    def _measure_peak(self) -> None:
        from labqueue.llm.pretraining.throughput import measured_peak_tflops, sold_peak_tflops

        self.peak_tflops = measured_peak_tflops(self.rec.device, self.step.way.dtype)
        if self.rec.device.startswith("cuda"):
            import labqueue.system.cards as cards

            card = next(
                (card for card in cards.gpus() if card.index == int(self.rec.device.partition(":")[2] or 0)), None
            )
            sold = None if card is None else sold_peak_tflops(card.name)
            beside = "" if sold is None else f"; {sold:g} are stated for {card.name if card else ''}"
            self.rec.note(f"a large product reaches {self.peak_tflops:.1f} TFLOP/s on this device{beside}")

    def _throughput(self, number: int) -> None:
        from labqueue.llm.pretraining.throughput import flops_a_token

        rate = self.timed_steps * self.step.tokens / self.trained_s
        self.rec.metric("tokens_per_second", rate, number)
        if self.peak_tflops:
            used = rate * flops_a_token(self.step.model.config) / 1e12 / self.peak_tflops
            self.rec.metric("model_flops_utilization", min(1.0, used), number)

    def _keep(self, name: str) -> None:
        """Stores the model as it is now."""
        from labqueue.llm.pretraining import hf_folder

        folder: Path = self.rec.directory / "model"
        shutil.rmtree(folder, ignore_errors=True)
        hf_folder.save(self.step.model, self.corpus.tokenizer, folder)
        self.rec.artifact(name, artifacts.Files(type="model", path=folder))
        shutil.rmtree(folder, ignore_errors=True)

    def _checkpoint_due(self, number: int, now: float) -> bool:
        if self.rec.should_stop is not None:
            return True
        every = self.params.checkpoint_every
        return number % every == 0 if every else now - self.saved_s > 60 * self.params.checkpoint_minutes

    def _checkpoint(self, number: int) -> None:
        from labqueue.llm.pretraining import checkpoint

        self.rec.checkpoint(number, lambda folder: checkpoint.save(folder, self.step, self.about()))
        self.saved_s = time.monotonic()

    def _peak_gib(self) -> float | None:
        from labqueue.llm.memory import device

        found = [peak for peak in (self.peak_before, device.peak_gib(self.rec.device)) if peak is not None]
        return max(found, default=None)

    def _peak_of(self) -> list[int | bool]:
        return [self.step.recipe.batch, self.step.recipe.accumulation, self.step.way.recompute]

    def _finish(self) -> None:
        self.rec.metric("parameters", self.step.model.config.parameters, self.steps)
        self.rec.metric("train_tokens", self.steps * self.step.tokens, self.steps)
        if (peak := self._peak_gib()) is not None:
            self.rec.metric("peak_memory_gib", peak, self.steps)
        if self.params.kept != "none":
            self._keep("final")


def _curve(found: dict[int, dict[str, float]], label: str) -> artifacts.Curve:
    layers = list(next(iter(found.values())))
    return artifacts.Curve(
        x_label="step",
        y_label=label,
        x=tuple(found),
        series={layer: tuple(values[layer] for values in found.values()) for layer in layers},
    )
