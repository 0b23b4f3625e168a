"""``labqueue archive``, ``restore`` and ``delete``: cleaning up among experiments, never by accident."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from labqueue.cli.common import dump, json_option, open_database, root_option, settings
from labqueue.cli.render import echo
from labqueue.domain.errors import LabError

if TYPE_CHECKING:
    from labqueue.settings import Settings
    from labqueue.store.db import Database
    from labqueue.store.workspace.archive import Contents


@click.command()
@click.argument("experiments", nargs=-1, required=True, metavar="EXPERIMENT…")
@root_option
@json_option
def archive(experiments: Sequence[str], own_root: str | None, as_json: bool) -> None:
    """Take experiments out of the listings; nothing is lost.

    Their runs stay: `report NAME` and `show RUN` answer as before, and `report --archived` lists them. Nothing new can
    be submitted under an archived name.
    """
    from labqueue.store.workspace import archive

    archive.archive(open_database(own_root), experiments)
    _say("archived", experiments, as_json)


@click.command()
@click.argument("experiments", nargs=-1, required=True, metavar="EXPERIMENT…")
@root_option
@json_option
def restore(experiments: Sequence[str], own_root: str | None, as_json: bool) -> None:
    """Bring archived experiments back into the listings."""
    from labqueue.store.workspace import archive

    archive.restore(open_database(own_root), experiments)
    _say("restored", experiments, as_json)


@click.command()
@click.argument("experiment")
@click.option("--yes", is_flag=True, help="Really delete. Without it nothing is touched.")
@root_option
@json_option
@click.pass_context
def delete(ctx: click.Context, experiment: str, yes: bool, own_root: str | None, as_json: bool) -> None:
    """Delete an archived experiment for good: its jobs, its runs and what they left in outputs.

    Refused while another experiment needs it or uses its artifacts. What people put into its folder (learnings.md)
    stays.
    """
    from labqueue.store.workspace import archive

    db, chosen = open_database(own_root), settings(own_root)
    known = archive.contents(db, experiment)
    if known.archived and not yes:
        raise LabError(f"this deletes {_words(known)}, for good: add --yes, or keep it archived")
    gone = archive.delete(db, experiment)
    left = _remove(db, chosen, gone)
    if as_json:
        dump({"schema": 1, "deleted": experiment, "jobs": gone.jobs, "runs": gone.runs, "left": left})
    else:
        echo(f"deleted {_words(gone)}")
        for words in left:
            echo(f"left: {words}")
    folder = chosen.experiment(experiment)
    with contextlib.suppress(OSError):
        folder.rmdir()
    if folder.is_dir() and not as_json:
        echo(f"kept: {', '.join(sorted(path.name for path in folder.iterdir())[:8])} in {folder}")
    ctx.exit(1 if left else 0)


def _remove(db: Database, chosen: Settings, gone: Contents) -> list[str]:
    """Removes the folders of runs that the results store has forgotten, and the report; returns what could not go, and
    why."""
    from labqueue.workspace.garbage import Item, Sort
    from labqueue.workspace.removal import remove

    folder = chosen.experiment(gone.experiment)
    items = [
        Item(f"outputs/{gone.experiment}/{run}", Sort.UNKNOWN, "deleted", 0)
        for run in gone.runs
        if (folder / str(run)).exists()
    ]
    if (folder / "report").exists():
        items.append(Item(f"outputs/{gone.experiment}/report", Sort.SCRATCH, "deleted", 0))
    return [f"{one.item.path}: {one.spared}" for one in remove(db, chosen, items) if one.spared is not None]


def _words(known: Contents) -> str:
    return (
        f"{known.experiment}: {known.jobs} jobs, {len(known.runs)} runs, {known.points:,} metric points "
        f"and {known.artifacts} artifacts"
    )


def _say(word: str, experiments: Sequence[str], as_json: bool) -> None:
    if as_json:
        dump({"schema": 1, word: list(experiments)})
    else:
        echo(f"{word} {', '.join(experiments)}")
