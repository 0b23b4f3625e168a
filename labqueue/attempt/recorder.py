"""What a running kind measures, on its way to the results store and the disk. The only ``Recorder`` of real runs.

Values are buffered and committed by a thread every quarter of a second, so that measuring costs microseconds and a
killed process loses little. Everything carries the attempt's number; once the store refuses it, this process ends.
"""

from __future__ import annotations

import json
import math
import operator
import os
import shutil
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labqueue.attempt import exit_codes, resumption
from labqueue.domain.artifacts import Artifact, Files, Page, Tensor
from labqueue.domain.declarations import PEAK_MEMORY
from labqueue.domain.errors import DiskFull, LabError, Moved
from labqueue.domain.kind import Checkpoint, Diverged, Pruned
from labqueue.domain.values import check, written
from labqueue.search import pruning
from labqueue.settings import Place, Settings
from labqueue.store import series
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.runs import attempts, results
from labqueue.system import disk, files

FLUSH_S = 0.25
"""Between commits of buffered values. The contract allows 0.5 s."""

KEEP_CHECKPOINTS = 2
"""The last one, and the one before in case the last cannot be read."""

_PICKLES = {".pkl", ".pickle", ".joblib"}


def _step(step: object, name: str) -> int:
    """A step as NumPy and torch have it, too, also as 3.0.

    Raises:
        LabError: it is no whole number: cut down, values of two steps would replace each other.
    """
    try:
        return operator.index(step)  # type: ignore[arg-type]  # what has no index says so
    except TypeError:
        if isinstance(step, float) and step.is_integer():
            return int(step)
    raise LabError(f"step {step!r:.200} of metric {name!r} is no whole number")


def _number(value: Any, name: str) -> float:
    """A value as a float of 64 bits.

    Raises:
        LabError: it is none, or larger than the largest.
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise LabError(f"value {value!r:.200} of metric {name!r} is no number that can be kept: {error}") from error


class RunRecorder:
    """The recorder of one attempt. ``start`` begins flushing; ``close`` commits the rest.

    Once the store, or the device's ``lock`` where it lies in the workspace, is no longer where it was, nothing is
    written by a path any more: the path may lead to another workspace now. The run is asked to stop.
    """

    def __init__(
        self, settings: Settings, db: Database, claim: attempts.Claim, device: str, lock: Place | None = None
    ) -> None:
        self._db = db
        self._settings = settings
        self._claim = claim
        self._device = device
        self._folder = settings.run(claim.experiment, claim.run_id)
        self._scratch = self._folder / "scratch"
        self._made: set[Path] = set()
        self._places = [db.place, *([lock] if lock else [])]
        self._points: deque[series.Point] = deque()
        self._samples: deque[series.Sample] = deque()
        self._notes: deque[str] = deque()
        self._last_good: dict[str, int] = {}
        self.peak_gib: float | None = None
        """The metric ``peak_memory_gib``: a kind that resumes knows of attempts that this process is not."""
        self._progress: results.Progress | None = None
        self._progress_sent: results.Progress | None = None
        self._rates: deque[tuple[float, int]] = deque(maxlen=50)
        self._asked = results.Asked(None, keep=False)
        self._signalled: str | None = None
        self.refused: str | None = None
        """Why the results store takes nothing more of this attempt, in words; None while it does."""
        self._flushing = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_flushing, name="recorder", daemon=True)
        self._checkpoint_bytes = 0
        self._resume_from = resumption.checkpoint(db, settings, claim)
        resumed_from = self._resume_from.step if self._resume_from else None
        attempts.begin(db, claim.ref, resumed_from)
        self._judge = pruning.judge(db, claim.run_id, claim.seed, resumed_from)

    @property
    def run_id(self) -> int:
        """The run's id."""
        return self._claim.run_id

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self._claim.seed

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:N``."""
        return self._device

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._claim.attempt

    @property
    def directory(self) -> Path:
        """A folder of this run alone."""
        self._stay()
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    @property
    def resume_from(self) -> Checkpoint | None:
        """The newest checkpoint that can be believed."""
        return self._resume_from

    @property
    def should_stop(self) -> str | None:
        """Why the run must stop now, or None."""
        return self._asked.stop or self._signalled

    @property
    def keep_wanted(self) -> bool:
        """Whether a person waits for what the run has now."""
        return self._asked.keep

    def ask_to_stop(self, why: str) -> None:
        """Called from a signal handler: takes no lock."""
        self._signalled = why

    def metric(self, name: str, value: float | None, step: int) -> None:
        """Buffers a value; one that is not finite is kept as null and ends the run, as may a search."""
        if self.refused is not None:
            raise LabError(self.refused)
        check(f"metric name {name!r}", name, str)
        step = _step(step, name)
        check(f"step {step} of metric {name!r}", step, int)
        number = None if value is None else _number(value, name)
        if number is not None and not math.isfinite(number):
            self._points.append((name, step, None))
            raise Diverged(name, step, self._last_good.get(name))
        if number is not None:
            self._last_good[name] = step
            self.peak_gib = number if name == PEAK_MEMORY else self.peak_gib
        self._points.append((name, step, number))
        if self._judge is not None and name == self._judge.metric and number is not None:
            refusal = self._judge.refuse(step, number)
            if refusal is not None:
                raise Pruned(refusal)

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Buffers what was written after a prompt; a model may write what no text holds, and that is no fault."""
        if self.refused is not None:
            raise LabError(self.refused)
        check(f"prompt {prompt!r:.200}", prompt, str)
        step = int(step)
        check(f"step {step} of a sample", step, int)
        self._samples.append((step, prompt, written(text)))

    def note(self, text: str) -> None:
        """Buffers a sentence for the reader of the run; paths inside the workspace are as seen from it, so that they
        hold wherever the run is exported to."""
        check(f"note {text!r:.200}", text, str)
        self._notes.append(text.replace(f"{self._settings.root}{os.sep}", ""))

    def progress(self, done: int, total: int, *, phase: str | None = None) -> None:
        """Notes how far the run is; the rate is that of the last 50 calls of its phase."""
        check(f"progress {done} of {total}", max(done, total, key=abs), int)
        if phase is not None:
            check(f"phase {phase!r:.200}", phase, str)
        if self._progress is not None and self._progress.phase != phase:
            self._rates.clear()
        self._rates.append((time.monotonic(), done))
        (first_s, first), (last_s, last) = self._rates[0], self._rates[-1]
        rate = (last - first) / (last_s - first_s) if last > first and last_s > first_s else None
        self._progress = results.Progress(done, total, rate, phase)

    def artifact(self, name: str, value: Artifact) -> None:
        """Writes a value under a name and records its hash."""
        check(f"artifact name {name!r}", name, str)
        if not name or name.startswith(".") or "/" in name:
            raise LabError(f"artifact name {name!r} is not a file name")
        self._make(self._folder)
        if isinstance(value, Tensor) and not value.path.is_file():
            raise LabError(f"artifact {name!r}: {value.path.name} is no file; a tensor is one")
        if isinstance(value, Files | Tensor):
            suffix = value.path.suffix if value.path.is_file() else ""
            target = self._folder / f"{name}{suffix if not name.endswith(suffix) else ''}"
            aside = self._folder / f".{target.name}.partial"
            if value.path.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
                shutil.copytree(value.path, aside)
            else:
                shutil.copyfile(value.path, aside)
            self._clear(name, target)
            files.publish(aside, target)
        else:
            target = self._folder / f"{name}.{'html' if isinstance(value, Page) else 'json'}"
            self._clear(name, target)
            text = (
                value.html if isinstance(value, Page) else json.dumps(value.model_dump(mode="json"), ensure_ascii=False)
            )
            check(f"artifact {name!r}", text, str)
            files.write_bytes(target, text.encode())
        digest, size = files.sha256(target), files.size(target)
        # Not while it is being asked what a person wants: a model that was asked for is stored once.
        with self._flushing:
            results.add_artifact(
                self._db,
                self._claim.ref,
                name=name,
                type=value.type,
                path=self._settings.relative(target),
                sha256=digest,
                bytes=size,
            )
            if value.type == "model":
                self._asked = self._asked._replace(keep=False)

    def checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        """Makes ``save``'s files durable, then records them together with every metric and sample so far."""
        check(f"checkpoint of step {step}", step, int)
        folder = self._folder / "checkpoints"
        self._make(folder)
        aside = folder / f".step-{step}-attempt-{self.attempt}.partial"
        shutil.rmtree(aside, ignore_errors=True)
        short = disk.shortage(self._settings.root, self._checkpoint_bytes)
        if short is not None:
            raise DiskFull(f"checkpoint of step {step} not written: {short}")
        aside.mkdir()
        save(aside)
        pickles = [name for name in files.tree(aside) if Path(name).suffix in _PICKLES]
        if pickles:
            raise LabError(f"checkpoint of step {step} holds pickled files {pickles}; use safetensors or JSON")
        digest, size = files.sha256(aside), files.size(aside)
        self._checkpoint_bytes = size
        # The attempt is part of the name: a checkpoint of the same step by an earlier attempt stays whole until
        # the results store points here.
        target = folder / f"step-{step}-attempt-{self.attempt}"
        files.publish(aside, target)
        with self._flushing:
            points, samples = list(self._points), list(self._samples)
            old = results.add_checkpoint(
                self._db,
                self._claim.ref,
                step=step,
                path=self._settings.relative(target),
                sha256=digest,
                bytes=size,
                points=points,
                keep=KEEP_CHECKPOINTS,
                samples=samples,
            )
            self._forget(len(points), len(samples))
        for path in old:
            shutil.rmtree(self._settings.root / path, ignore_errors=True)

    def _clear(self, name: str, target: Path) -> None:
        if target.exists():
            results.forget_artifact(self._db, self._claim.ref, name)

    def _stay(self) -> None:
        """Raises ``Moved`` where the workspace is no longer the one that this attempt is of."""
        for place in self._places:
            place.check()

    def _make(self, folder: Path) -> None:
        self._stay()
        if folder not in self._made:
            files.make_folder(folder, self._settings.root)
            self._made.add(folder)

    def drop_checkpoints(self) -> None:
        """Removes the checkpoints of a run that has succeeded; the results store has forgotten them with its ending."""
        self._stay()
        shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)

    def start(self) -> None:
        """Begins to flush."""
        self._thread.start()

    def close(self) -> None:
        """Commits what is buffered and stops flushing.

        Raises:
            Fenced: the run was taken away.
        """
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.refused is None:
            self.flush()

    def flush(self) -> None:
        """Commits what is buffered and learns what a person has asked.

        Raises:
            Fenced: the run was taken away.
        """
        self._stay()
        with self._flushing:
            points, samples, notes = list(self._points), list(self._samples), list(self._notes)
            progress = self._progress if self._progress != self._progress_sent else None
            if points or samples or notes or progress:
                self._asked = results.flush(self._db, self._claim.ref, points, progress, notes, samples)
                self._progress_sent = progress or self._progress_sent
                self._forget(len(points), len(samples), len(notes))
            else:
                self._asked = read.asked(self._db, self._claim.ref)

    def _forget(self, points: int, samples: int, notes: int = 0) -> None:
        """Drops what has been committed; the run may have appended more meanwhile."""
        buffers = (self._points, points), (self._samples, samples), (self._notes, notes)
        for buffer, count in buffers:
            for _ in range(count):
                buffer.popleft()

    def _keep_flushing(self) -> None:
        while not self._closing.wait(FLUSH_S):
            try:
                self.flush()
            except attempts.Fenced as error:
                # Another attempt owns the run: whatever this process goes on to do is worthless, so it ends now.
                sys.stderr.write(f"{error}; this process ends\n")
                sys.stderr.flush()
                os._exit(exit_codes.FENCED)
            except Moved as error:
                # Not at once: what it does with its memory and its device ends as at any other stop.
                sys.stderr.write(f"{error}\n")
                self._asked = self._asked._replace(stop="moved")
                return
            except LabError as error:
                # The database is locked or the disk is full: values stay buffered, and the next round tries again.
                sys.stderr.write(f"values wait to be stored: {error}\n")
            except Exception as error:  # waiting would not help: the next metric, or the end of the run, says so
                traceback.print_exc()
                words = " ".join(str(error).split())
                self.refused = written(f"what the run measured could not be stored: {words[:300]}")
                return
