"""Records ΔW, the change of each layer's weights in a fine-tuning run: norms and ranks over steps, by layer, and the
spectrum at the end."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING

from labqueue.domain import artifacts
from labqueue.kinds.finetune import method

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.kinds.finetune.params import Params
    from labqueue.llm.evaluation.weight_updates import Meter, Update
    from labqueue.llm.types import Model

SPECTRUM_VALUES = 256
"""Singular values of a spectrum at most: a dense update has thousands, and a page has no room for them."""

COLUMNS = (
    "layer", "module", "norm", "relative_norm", "spectral_norm", "stable_rank", "effective_rank",
)  # fmt: skip


LayerUpdate = tuple[str, float, float | None]
"""A layer's label, the norm of its ΔW, and the mean stable rank; None where nothing was added."""


class Updates:
    """Measures ΔW at evaluations, or does nothing where the parameters do not ask. Make it before training."""

    def __init__(self, params: Params, rec: Recorder, adapted: Model) -> None:
        self.rec, self.last = rec, params.steps
        self.meter: Meter | None = None
        self.found: list[Update] = []
        self.history: dict[int, list[LayerUpdate]] = {}
        """By step, each layer."""
        if method.measures_updates(params):
            from labqueue.llm.evaluation import weight_updates

            self.meter = weight_updates.Meter(adapted)

    def about(self) -> list[tuple[int, list[LayerUpdate]]]:
        """What a resume needs, as JSON."""
        return [(step, rows) for step, rows in self.history.items()]

    def restore(self, about: Iterable[tuple[int, Iterable[LayerUpdate]]]) -> None:
        """Takes up the history of an earlier attempt."""
        self.history = {step: [(label, norm, rank) for label, norm, rank in rows] for step, rows in about}

    def evaluated(self, step: int) -> None:
        """Measures and records after this step. ``stable_rank`` is not recorded while nothing was added."""
        if self.meter is None:
            return
        self.found = self.meter.measure()
        by_block: dict[str, list[Update]] = {}
        for each in self.found:
            by_block.setdefault("other" if each.block is None else str(each.block), []).append(each)
        self.history[step] = [(label, _norm(rows), _stable_rank(rows)) for label, rows in by_block.items()]
        self.rec.metric("update_norm", _norm(self.found), step)
        rank = _stable_rank(self.found)
        if rank is not None:
            self.rec.metric("stable_rank", rank, step)

    def finish(self) -> None:
        """Records tables, grids and spectra, of the last evaluation and over all."""
        if self.meter is None:
            return
        if not self.found:  # resumed after the last evaluation
            self.found = self.meter.measure()
        rows = tuple(
            (
                "" if each.block is None else str(each.block),
                each.module,
                each.norm,
                each.relative_norm,
                each.spectral_norm,
                each.stable_rank,
                each.effective_rank,
            )
            for each in self.found
        )
        self.rec.artifact("update_by_layer", artifacts.Table(columns=COLUMNS, rows=rows))
        self.rec.artifact("update_norm_over_steps", self._grid(1, "norm of ΔW"))
        self.rec.artifact("stable_rank_over_steps", self._grid(2, "mean stable rank of ΔW"))
        self._spectrum()

    def _grid(self, column: int, label: str) -> artifacts.Grid:
        steps = sorted(self.history)
        return artifacts.Grid(
            row_label="layer",
            column_label="step",
            rows=tuple(str(row[0]) for row in self.history[steps[0]]),
            columns=tuple(str(step) for step in steps),
            values=tuple(
                tuple(self.history[step][place][column] for step in steps)
                for place in range(len(self.history[steps[0]]))
            ),
            value_label=label,
        )

    def _spectrum(self) -> None:
        """Singular values over the largest of their layer, averaged over layers of one name and over all."""
        moved = [each for each in self.found if each.spectral_norm > 0]
        if not moved:
            return
        count = min(SPECTRUM_VALUES, max(len(each.singular) for each in moved))
        names = sorted({each.module for each in moved})
        groups = {"all": moved} | {name: [each for each in moved if each.module == name] for name in names}
        series = {name: tuple(_share(rows, place) for place in range(count)) for name, rows in groups.items()}
        x = tuple(float(place + 1) for place in range(count))
        labels = {"x_label": "singular value, by size", "y_label": "share of the largest"}
        self.rec.artifact("update_spectrum", artifacts.Curve(**labels, x=x, series=series))


def _norm(updates: list[Update]) -> float:
    return math.sqrt(sum(each.norm**2 for each in updates))


def _stable_rank(updates: list[Update]) -> float | None:
    ranks = [each.stable_rank for each in updates if each.stable_rank is not None]
    return statistics.fmean(ranks) if ranks else None


def _share(updates: list[Update], place: int) -> float | None:
    values = [each.singular[place] / each.spectral_norm for each in updates if place < len(each.singular)]
    return statistics.fmean(values) if values else None
