"""``labqueue export`` and ``labqueue import``: experiments out of a workspace and into another."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import click

from labqueue.cli.common import dump, json_option, open_database, root_option, settings
from labqueue.cli.render import echo
from labqueue.domain.errors import LabError, nearest

if TYPE_CHECKING:
    from labqueue.settings import Settings
    from labqueue.store.db import Database


@click.command()
@click.argument("experiments", nargs=-1, metavar="EXPERIMENT…")
@click.option("--all", "every", is_flag=True, help="All experiments, archived ones too.")
@click.option("--archive", "file", type=click.Path(path_type=Path), metavar="FILE.tar", help="One file to import.")
@click.option("--mlflow", "target", metavar="DIR|URI", help="For MLflow: a folder, or a server's or database's URI.")
@click.option("--no-artifacts", is_flag=True, help="With --mlflow: without the files that runs left.")
@click.option("--no-models", is_flag=True, help="With --archive: without adapters and models; each run notes which.")
@root_option
@json_option
def export(
    experiments: Sequence[str],
    every: bool,
    file: Path | None,
    target: str | None,
    no_artifacts: bool,
    no_models: bool,
    own_root: str | None,
    as_json: bool,
) -> None:
    """Export finished runs: as one archive that `labqueue import` reads, or for MLflow.

    CSV and JSON of one experiment are `labqueue report NAME --csv` and `--json`.
    """
    from labqueue.store.queries import experiment

    if (file is None) == (target is None):
        raise LabError("say where to: --archive FILE.tar, or --mlflow DIR|URI")
    if no_artifacts and file is not None:
        raise LabError("--no-artifacts goes with --mlflow: an archive without its files could not be verified")
    if no_models and file is None:
        raise LabError("--no-models goes with --archive; --mlflow has --no-artifacts")
    if bool(experiments) == every:
        raise LabError("name the experiments to export, or give --all")
    db, chosen = open_database(own_root), settings(own_root)
    known = experiment.names(db)
    for name in experiments:
        if name not in known:
            raise LabError(f"there is no experiment {name!r}: {nearest(name, known)}")
    names = sorted(known) if every else list(dict.fromkeys(experiments))
    if file is not None:
        _to_archive(db, chosen, names, file, not no_models, as_json)
    else:
        assert target is not None
        _to_mlflow(db, chosen, names, target, not no_artifacts, as_json)


def _to_archive(db: Database, chosen: Settings, names: Sequence[str], file: Path, models: bool, as_json: bool) -> None:
    from labqueue.workspace import archive_file

    packed = archive_file.pack(db, chosen, names, file, models=models)
    if as_json:
        dump({"schema": 1, "file": str(file), "experiments": names, "runs": packed.runs, "left_out": packed.left_out})
        return
    echo(f"wrote {file}: {len(packed.runs)} runs of {', '.join(names)}, {packed.bytes:,} bytes")
    for words in packed.left_out:
        echo(f"left out: {words}")


def _to_mlflow(
    db: Database, chosen: Settings, names: Sequence[str], target: str, artifacts: bool, as_json: bool
) -> None:
    from labqueue.report import mlflow
    from labqueue.store.queries import experiment
    from labqueue.store.workspace import identity

    is_uri = re.match(r"[a-z][a-z0-9+.-]*:", target) is not None and not target.startswith("file:")
    folder = Path(unquote(urlsplit(target).path) if target.startswith("file:") else target)
    workspace = identity.workspace_id(db)
    written = {}
    for name in names:
        view = experiment.experiment(db, name)
        runs = mlflow.exported(view, experiment.Series(db), chosen.root, workspace, artifacts=artifacts)
        written[name] = mlflow.send(target, name, runs) if is_uri else mlflow.write_folder(folder, name, runs)
    if as_json:
        dump({"schema": 1, "mlflow": target, "experiments": written})
        return
    for name, count in written.items():
        echo(f"{name}: {count} runs {'new ' if is_uri else ''}in {target}")
    if not is_uri:
        source, store = shlex.quote(str(folder)), shlex.quote(f"sqlite:///{quote(str(folder))}/mlflow.db")
        echo(f"MLflow before 3.13:  mlflow ui --backend-store-uri {source}")
        echo(
            f"MLflow from 3.13 on: mlflow migrate-filestore --source {source} --target {store}, "
            f"then mlflow ui --backend-store-uri {store}"
        )


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE|WORKSPACE")
@root_option
@json_option
@click.pass_context
def import_(ctx: click.Context, source: Path, own_root: str | None, as_json: bool) -> None:
    """Bring in the finished runs of another workspace, or of a file that `labqueue export --archive` wrote.

    Runs keep their ids where those are free here. Every artifact is verified by its SHA-256; a run with one that does
    not hold is refused, and said so. Importing again changes nothing.
    """
    from labqueue.store.db import create_or_migrate
    from labqueue.workspace import importer

    chosen = settings(own_root)
    found = importer.bring(create_or_migrate(chosen.database), chosen, source)
    if as_json:
        dump({"schema": 1, "workspace": found.workspace, "runs": found.runs, "known": found.known,
              "refused": found.refused})  # fmt: skip
    else:
        echo(
            f"from workspace {found.workspace[:12]}: {len(found.runs)} runs new, {len(found.known)} known already, "
            f"{len(found.refused)} refused"
        )
        moved = [f"{theirs} → {ours}" for theirs, ours in found.runs.items() if theirs != ours]
        if moved:
            echo(f"new ids: {', '.join(moved[:20])}{' …' if len(moved) > 20 else ''}")
        for words in found.refused.values():
            echo(f"refused: {words}", err=True)
    ctx.exit(1 if found.refused else 0)
