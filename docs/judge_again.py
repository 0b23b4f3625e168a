"""Judges the committed results with the rule of today: verdicts, their sections and their figures.

    python docs/judge_again.py [--check]

The runs stay as they were recorded. Of curves only what the runs' summaries hold is known here, so that a claim about a
step between first and last cannot be judged again. ``--check`` writes nothing and exits 1 where a verdict would change.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from labqueue.domain import views
from labqueue.report import declarations
from labqueue.report.document import render
from labqueue.report.document.export import dumps, plain
from labqueue.report.document.verdicts import tested_first, verdict_blocks
from labqueue.report.figures import style
from labqueue.report.figures.verdict import verdict_plot
from labqueue.report.statistics.verdicts import Judgement, judgements

RESULTS = Path(__file__).parent / "results"

View = TypeVar("View")


class NoSeries:
    """Curves are not committed."""

    def series(self, run_id: int, metric: str) -> list[tuple[int, float | None]]:
        """Refuses: a claim that needs a curve cannot be judged from its summary."""
        raise LookupError(f"the curve of {metric} of run {run_id} is not committed")

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


def judged(document: dict[str, Any]) -> list[Judgement]:
    """The verdicts of today on a result document."""
    return judgements(experiment(document), NoSeries())


def main() -> int:
    """Writes, or with ``--check`` compares."""
    changed = 0
    for path in documents():
        document = json.loads(path.read_text(encoding="utf-8"))
        found = judged(document)
        verdicts = [asdict(judgement.verdict) for judgement in found]
        if plain(verdicts) == document["verdicts"]:
            continue
        changed += 1
        listed = ", ".join(f"{each['id']} {each['verdict']}" for each in verdicts)
        sys.stdout.write(f"{path.parent.name}: {listed}\n")
        if "--check" not in sys.argv:
            _write(path.parent, {**document, "verdicts": verdicts}, found)
    return int(changed > 0 and "--check" in sys.argv)


def _write(folder: Path, document: dict[str, Any], found: list[Judgement]) -> None:
    view = experiment(document)
    with style.look():
        metrics = declarations.of(view.kind).metrics
        plots = [plot for judgement in found if (plot := verdict_plot(judgement, metrics)) is not None]
    for plot in plots:
        (folder / "plots" / f"{plot.name}.svg").write_bytes(plot.svg)
    verdicts = [judgement.verdict for judgement in found]
    section = render.markdown(verdict_blocks(view, verdicts, plots)).rstrip()
    text = (folder / "report.md").read_text(encoding="utf-8")
    text = re.sub(r"^## Verdicts\n.*?(?=^## Runs)", lambda _: f"{section}\n\n", text, flags=re.MULTILINE | re.DOTALL)
    listed = [f"- {each.verdict}: {each.claim} (n = {each.n})" for each in tested_first(verdicts)]
    results = "\n".join(listed)
    text = re.sub(r"(^## RESULTS\n\n)(?:- .*\n)+", lambda head: f"{head[1]}{results}\n", text, flags=re.MULTILINE)
    (folder / "report.md").write_text(text, encoding="utf-8")
    (folder / "report.json").write_text(dumps(document), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
