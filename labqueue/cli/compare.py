"""``labqueue compare``: runs side by side, or whole experiments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labqueue.cli.common import dump, json_option, open_database, root_option
from labqueue.cli.render import echo
from labqueue.domain.errors import LabError
from labqueue.domain.values import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labqueue.report.document.blocks import Block
    from labqueue.report.figures.style import Plot
    from labqueue.store.db import Database

    Compared = tuple[dict[str, Any], list[Block], list[Plot]]


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="RUN RUN… | EXPERIMENT EXPERIMENT…")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write it there, with curves.")
@root_option
@json_option
def compare(targets: tuple[str, ...], output: Path | None, own_root: str | None, as_json: bool) -> None:
    """Runs or experiments side by side: first what differs, then metrics, paired; with --output also curves."""
    chosen = list(dict.fromkeys(targets))
    if len(chosen) < 2:
        raise LabError(
            "compare needs at least two, for example `labqueue compare 3 4` or `labqueue compare first second`"
        )
    numbers = [target.isdecimal() for target in chosen]
    if any(numbers) and not all(numbers):
        raise LabError(f"compare takes runs or experiments, not both: {' '.join(chosen)}")
    db = open_database(own_root)
    found, blocks, plots = _runs(db, chosen, output) if numbers[0] else _experiments(db, chosen, output)
    if output is not None:
        _write(output, blocks, plots)
    if as_json:
        dump(found)
        return
    from labqueue.report.document import render
    from labqueue.report.document.blocks import Figure

    echo(render.markdown([block for block in blocks if not isinstance(block, Figure)]), nl=False)
    if output is not None:
        echo(f"written to {output}", err=True)


def _runs(db: Database, ids: Sequence[str], output: Path | None) -> Compared:
    from labqueue.report.compare import runs
    from labqueue.store.queries import experiment, read

    views, series = read.runs(db, map(whole, ids)), experiment.Series(db)
    found = runs.compare(views, series)
    plots = runs.overlaid(views, series) if output is not None else []
    return found, runs.comparison_blocks(found, plots), plots


def _experiments(
    db: Database, names: Sequence[str], output: Path | None
) -> tuple[dict[str, Any], list[Block], list[Plot]]:
    from labqueue.report.compare import experiments, runs
    from labqueue.store.queries import experiment

    views = [experiment.experiment(db, name) for name in names]
    found = experiments.compare_experiments(views)
    done = [run for view in views for run in view.runs if run.outcome == "succeeded"]
    plots = runs.overlaid(done, experiment.Series(db), named=True) if output is not None else []
    return found, experiments.between_blocks(found, plots), plots


def _write(folder: Path, blocks: list[Block], plots: list[Plot]) -> None:
    from labqueue.report.document import render

    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        for plot in plots:
            (folder / "plots" / f"{plot.name}.svg").write_bytes(plot.svg)
            (folder / "plots" / f"{plot.name}.png").write_bytes(plot.png)
        (folder / "comparison.html").write_text(render.html("Comparison", blocks), encoding="utf-8")
        (folder / "comparison.md").write_text(render.markdown(blocks), encoding="utf-8")
    except OSError as error:
        raise LabError(f"cannot write to {folder}: {error.strerror}; choose another folder with --output") from error
