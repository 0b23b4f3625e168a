"""Judges the committed results with the rule of today: verdicts, their sections, and figures of last values.

    python docs/judge_again.py [--check]

The runs stay as they were recorded. Of curves only what the runs' summaries hold is known here and, where a claim asks
for steps, the ``curves.json`` beside the report; figures over steps stay as they are. ``--check`` writes nothing and
exits 1 where a verdict or a caption would change.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from labqueue.domain import views
from labqueue.report import declarations
from labqueue.report.document import render
from labqueue.report.document.blocks import Figure
from labqueue.report.document.export import dumps, plain
from labqueue.report.document.verdicts import tested_first, verdict_blocks
from labqueue.report.figures.choose import of_last_values
from labqueue.report.figures.style import Plot
from labqueue.report.statistics.verdicts import Judgement, judgements

RESULTS = Path(__file__).parent / "results"

View = TypeVar("View")


class CommittedCurves:
    """Curves that claims need: ``{run: {metric: [[step, value], …]}}``, of ``labqueue metrics RUN NAME --json``."""

    def __init__(self, folder: Path) -> None:
        path = folder / "curves.json"
        self._curves = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def series(self, run_id: int, metric: str) -> list[tuple[int, float | None]]:
        """The points of a curve.

        Raises:
            LookupError: it is not committed, and no summary answers a claim about its steps.
        """
        try:
            return [(step, value) for step, value in self._curves[str(run_id)][metric]]
        except KeyError as error:
            raise LookupError(f"the curve of {metric} of run {run_id} is not committed") from error

    def table(self, run: views.RunView, artifact: str) -> None:
        """No artifact is committed."""


def documents() -> list[Path]:
    """The committed result documents."""
    return sorted(RESULTS.rglob("report.json"))


def experiment(document: dict[str, Any]) -> views.ExperimentView:
    """An experiment as its result document tells it."""
    parts = {
        "registrations": views.RegistrationView,
        "found_looks": views.LookView,
        "runs": views.RunView,
    }
    known: dict[str, Any] = {
        name: [_view(type_, row) for row in document.get(name, [])] for name, type_ in parts.items()
    }
    return _view(views.ExperimentView, {**document, **known, "search": None})


def _view(type_: type[View], row: dict[str, Any]) -> View:
    names = {field.name for field in fields(type_)}  # type: ignore[arg-type]  # all views are dataclasses
    values = {name: value for name, value in row.items() if name in names}
    for name, inner in (
        ("attempts", views.AttemptView),
        ("artifacts", views.ArtifactView),
        ("history", views.EventView),
    ):
        if name in values and type_ is views.RunView:
            values[name] = [_view(inner, each) for each in values[name]]
    if type_ is views.RunView:
        values["metrics"] = {name: _view(views.MetricView, each) for name, each in row["metrics"].items()}
        values["waiting"] = values["progress"] = None
    return type_(**values)


def judged(path: Path) -> list[Judgement]:
    """The verdicts of today on a committed ``report.json``."""
    return judgements(experiment(json.loads(path.read_text(encoding="utf-8"))), CommittedCurves(path.parent))


def main() -> int:
    """Writes, or with ``--check`` compares."""
    changed = 0
    for path in documents():
        document = json.loads(path.read_text(encoding="utf-8"))
        found = judged(path)
        verdicts = [asdict(judgement.verdict) for judgement in found]
        view = experiment(document)
        plots = of_last_values(view, found, declarations.of(view.kind).metrics)
        report = path.parent / "report.md"
        before = report.read_text(encoding="utf-8")
        after = _told(before, view, [judgement.verdict for judgement in found], plots)
        if plain(verdicts) != document["verdicts"] or after != before:
            changed += 1
            listed = ", ".join(f"{each['id']} {each['verdict']}" for each in verdicts)
            sys.stdout.write(f"{path.parent.name}: {listed}\n")
        if "--check" in sys.argv:
            continue
        report.write_text(after, encoding="utf-8")
        path.write_text(dumps({**document, "verdicts": verdicts}), encoding="utf-8")
        for plot in plots:
            if f"(plots/{plot.name}.svg)" in after:  # else the report of that day had no such figure
                (path.parent / "plots" / f"{plot.name}.svg").write_bytes(plot.svg)
    return int(changed > 0 and "--check" in sys.argv)


def _told(text: str, view: views.ExperimentView, verdicts: Sequence[views.VerdictView], plots: Sequence[Plot]) -> str:
    """A report's Markdown with these verdicts and the captions of these figures."""
    section = render.markdown(verdict_blocks(view, verdicts, plots)).rstrip()
    text = re.sub(r"^## Verdicts\n.*?(?=^## Runs)", lambda _: f"{section}\n\n", text, flags=re.MULTILINE | re.DOTALL)
    results = "\n".join(f"- {each.verdict}: {each.claim} (n = {each.n})" for each in tested_first(verdicts))
    text = re.sub(r"(^## RESULTS\n\n)(?:- .*\n)+", lambda head: f"{head[1]}{results}\n", text, flags=re.MULTILINE)
    for plot in plots:
        figure = render.markdown([Figure(plot)]).rstrip()
        old = rf"^!\[.*\]\(plots/{re.escape(plot.name)}\.svg\)\n\n\*.*\*$"
        text = re.sub(old, lambda _, new=figure: new, text, flags=re.MULTILINE)  # type: ignore[misc]  # has its default
    return text


if __name__ == "__main__":
    sys.exit(main())
