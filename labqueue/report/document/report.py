"""One report per experiment, as JSON, CSV, Markdown and HTML, from an ``ExperimentView``. Reads no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.views import ExperimentView, VerdictView
from labqueue.report import declarations
from labqueue.report.declarations import Declarations
from labqueue.report.document import export, render
from labqueue.report.document.blocks import Block
from labqueue.report.document.sections import sections
from labqueue.report.figures.style import Plot
from labqueue.report.statistics.pairing import SeriesReader
from labqueue.report.statistics.verdicts import judgements
from labqueue.system import files

if TYPE_CHECKING:
    from labqueue.domain.artifacts import Table


@dataclass(frozen=True)
class Sample:
    """A table artifact to show in full: what a model wrote before and after, say."""

    run_id: int
    name: str
    table: Table


@dataclass(frozen=True)
class Report:
    """Everything a report says, before it is written in any format."""

    experiment: ExperimentView
    verdicts: list[VerdictView]
    plots: list[Plot]
    learnings: str | None
    samples: Sequence[Sample]
    declared: Declarations

    def json(self) -> str:
        """The contract's JSON document."""
        return export.dumps(export.report_data(self.experiment, self.verdicts))

    def csv(self) -> str:
        """One row per run."""
        return export.runs_csv(self.experiment.runs, self.experiment.axes)

    def markdown(self) -> str:
        """Markdown whose figures are the files ``plots/*.svg`` beside it."""
        return render.markdown(self._sections())

    def html(self) -> str:
        """One self-contained file."""
        return render.html(self.experiment.experiment, self._sections())

    def files(self) -> dict[str, bytes]:
        """Relative path → content of everything that ``write`` writes."""
        found = {
            "report.json": self.json().encode(),
            "runs.csv": self.csv().encode(),
            "report.md": self.markdown().encode(),
            "report.html": self.html().encode(),
        }
        for plot in self.plots:
            found[f"plots/{plot.name}.svg"] = plot.svg
            found[f"plots/{plot.name}.png"] = plot.png
        return found

    def _sections(self) -> list[Block]:
        samples = [(sample.run_id, sample.name, sample.table) for sample in self.samples]
        return sections(self.experiment, self.verdicts, self.plots, self.learnings, samples, self.declared)


def compose(
    experiment: ExperimentView,
    series: SeriesReader,
    *,
    learnings: str | None = None,
    samples: Sequence[Sample] = (),
    plots: bool = True,
) -> Report:
    """Judges the predictions and draws the figures (without ``plots`` matplotlib is not imported)."""
    declared = declarations.of(experiment.kind)
    judged = judgements(experiment, series)
    drawn: list[Plot] = []
    if plots:
        from labqueue.report.figures.choose import figures

        drawn = figures(experiment, judged, series, declared.metrics)
    return Report(experiment, [judgement.verdict for judgement in judged], drawn, learnings, samples, declared)


def read_learnings(directory: Path) -> str | None:
    """The user's ``learnings.md`` in an experiment's folder; None when there is none. Never written by the lab."""
    try:
        return (directory / "learnings.md").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def write(directory: Path, report: Report) -> list[Path]:
    """Writes a report into a folder (``outputs/NAME/report``), file by file, durably; returns the paths.

    A reader sees the old file or the new one, never half of one. Figures of an earlier report that this one does not
    have are removed, so that no number is shown beside a figure of other data.
    """
    made = report.files()
    for name, content in made.items():
        files.write_bytes(directory / name, content, shared=True)
    for old in (directory / "plots").glob("*.[sp][vn]g"):
        if f"plots/{old.name}" not in made:
            old.unlink()
    return [directory / name for name in made]
