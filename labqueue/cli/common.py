"""Shared by the subcommands: the workspace, the results store, JSON output."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from labqueue.domain.errors import LabError
from labqueue.domain.text import ascii_json, safe_json
from labqueue.domain.values import MAX_PRIORITY
from labqueue.settings import Settings, find_root

if TYPE_CHECKING:
    from labqueue.store.db import Database

F = TypeVar("F", bound=Callable[..., Any])

PRIORITY = click.IntRange(-MAX_PRIORITY, MAX_PRIORITY)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


def root_option(command: F) -> F:
    """``--root`` also after the subcommand, where people type it."""
    return click.option("--root", "own_root", metavar="DIR", help="The workspace.")(command)


def settings(own_root: str | None, **fields: Any) -> Settings:
    """The settings of this call: the subcommand's ``--root``, else the group's, else the environment's."""
    ctx = click.get_current_context()
    return Settings(find_root(own_root or (ctx.find_root().obj or {}).get("root")), **fields)


def at_root(root: Path) -> contextlib.AbstractContextManager[None]:
    """Relative paths of a spec start at the workspace, here as in the run; a folder that is not there yet has none."""
    return contextlib.chdir(root) if root.is_dir() else contextlib.nullcontext()


def known_database(own_root: str | None) -> Database | None:
    """The workspace's results store, or None where nothing has been submitted yet: a new folder is no mistake."""
    from labqueue.store.db import open_existing

    return open_existing(settings(own_root).database)


def nothing_yet(own_root: str | None) -> str:
    """What a listing says of a folder in which nothing has been submitted."""
    return (
        f"nothing has been submitted in {settings(own_root).root} yet: try labqueue submit jobs/quickstart.yaml, or "
        "choose another workspace with --root"
    )


def open_database(own_root: str | None) -> Database:
    """The workspace's results store, to look at or to control.

    Raises:
        LabError: there is none yet.
    """
    db = known_database(own_root)
    if db is None:
        raise LabError(
            f"there is no results.db in {settings(own_root).root}: submit something first "
            "(labqueue submit jobs/quickstart.yaml), or choose the workspace with --root"
        )
    return db


def dump(value: Any) -> None:
    """Prints one JSON document; numbers that are not finite become null."""
    from labqueue.report.document.export import plain

    echo_json(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def echo_json(document: str) -> None:
    """Prints a JSON document that means the same whatever the output's encoding has letters for."""
    utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    click.echo(safe_json(document if utf8 else ascii_json(document)))


def jobs_folder(spec: Path) -> Path:
    """The folder in which other experiments are looked for: the nearest ``jobs`` above a spec, else its own."""
    return next((parent for parent in spec.resolve().parents if parent.name == "jobs"), spec.resolve().parent)
