"""The file in which finished runs travel: a tar of ``manifest.json``, ``ledger.jsonl`` and what the runs left.

``ledger.jsonl`` is a row a line. A file may come from anybody: only plain files at known places are taken from it,
sizes are bounded, and nothing in it is executed or unpickled.
"""

from __future__ import annotations

import json
import math
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from labqueue.domain.errors import LabError
from labqueue.settings import Settings
from labqueue.store.db import Database
from labqueue.store.migrations import version_1, version_2, version_2_names, version_3
from labqueue.store.tables import SCHEMA_VERSION
from labqueue.store.workspace import bundle, identity
from labqueue.store.workspace.bundle import Bundle, Points
from labqueue.system import clock, files

FORMAT = 1
MANIFEST, ROWS = "manifest.json", "ledger.jsonl"
MAX_MEMBERS = 1_000_000
MAX_LINE = 64_000_000
"""Bytes of one row, and of the manifest: more is no row that a lab has written."""
SPARE = 0.95
"""Share of the free disk that an import may fill."""
MAX_STEP = 2**63
"""Of SQLite's integers."""


@dataclass(frozen=True)
class Packed:
    """What an export wrote."""

    runs: list[int]
    bytes: int
    left_out: list[str]


def pack(db: Database, settings: Settings, names: Sequence[str], target: Path, *, models: bool = True) -> Packed:
    """Writes the finished runs of experiments into one new file (compressed where its name ends in gz).

    Without ``models``, artifacts of that type stay behind and each run notes which, with their SHA-256.

    Raises:
        LabError: the file is there already or cannot be written, or an artifact is missing.
    """
    if target.exists():
        raise LabError(f"{target} is there already; choose another name", file=str(target))
    workspace = identity.workspace_id(db)
    aside = target.with_name(f".{target.name}.partial")
    try:
        # Beside the file, whose disk is the one that must have the room.
        beside: dict[str, Any] = {"mode": "w", "encoding": "utf-8", "dir": target.parent, "prefix": f".{target.name}."}
        with db.read() as connection, tempfile.NamedTemporaryFile(**beside, suffix=".jsonl") as rows:
            held = bundle.collect(connection, workspace, names)
            behind = [] if models else held.leave_models()
            for line in _lines(held, bundle.points(connection, [row["id"] for row in held.tables["series"]])):
                rows.write(json.dumps(line, ensure_ascii=False) + "\n")
            rows.flush()
            with tarfile.open(aside, "w:gz" if target.suffix in (".gz", ".tgz") else "w") as tar:
                manifest = {"labqueue": FORMAT, "schema": SCHEMA_VERSION, "workspace": workspace,
                            "made_at": clock.iso(clock.now()),
                            "experiments": {str(key): name for key, name in held.experiments.items()}}  # fmt: skip
                with tempfile.NamedTemporaryFile(**beside, suffix=".json") as about:
                    json.dump(manifest, about)
                    about.flush()
                    tar.add(about.name, MANIFEST)
                tar.add(rows.name, ROWS)
                for path, needed in _paths(held):
                    if (settings.root / path).exists():
                        tar.add(settings.root / path, path)
                    elif needed:
                        raise LabError(f"the artifact {path} is missing; without it the export could not be verified")
                for name in held.experiments.values():
                    learnings = settings.experiment(name) / "learnings.md"
                    if learnings.is_file():
                        tar.add(learnings, settings.relative(learnings))
        files.publish(aside, target)
    except OSError as error:
        raise LabError(f"cannot write {target}: {error.strerror or error}", file=str(target)) from error
    finally:
        aside.unlink(missing_ok=True)
    left_out = [f"{held.unfinished} runs that have not finished"] if held.unfinished else []
    if behind:
        left_out.append(f"{len(behind)} models of {sum(behind):,} bytes")
    return Packed(sorted(held.runs), target.stat().st_size, left_out)


def _lines(held: Bundle, points: Iterable[Points]) -> Iterator[dict[str, Any]]:
    for table, rows in held.tables.items():
        yield from ({"table": table, "row": row} for row in rows)
    yield from ({"series": series_id, "points": piece} for series_id, piece in points)


def _paths(held: Bundle) -> Iterator[tuple[str, bool]]:
    """Files of a bundle's runs, relative to the workspace, and whether a run is nothing without it."""
    yield from ((row["path"], True) for row in held.tables["artifacts"])
    yield from ((row["log"], False) for row in held.tables["attempts"])
    yield from ((path, False) for path in sorted({row["patch"] for row in held.tables["attempts"] if row["patch"]}))


def extract(source: Path, inside: Path) -> None:
    """Unpacks a file into an empty folder.

    Raises:
        LabError: it is damaged, too large for the disk, or holds anything but plain files at known places.
    """
    total, free_bytes = 0, shutil.disk_usage(inside).free
    try:
        with tarfile.open(source) as tar:
            for count, member in enumerate(tar, 1):
                parts = PurePosixPath(member.name).parts
                known = parts in ((MANIFEST,), (ROWS,)) or (len(parts) > 1 and parts[0] == "outputs")
                if not known or ".." in parts or not (member.isfile() or member.isdir()):
                    raise _refused(source, f"it holds {member.name!r}, which no export does")
                total += member.size
                if count > MAX_MEMBERS or total > SPARE * free_bytes:
                    raise _refused(source, f"it is too large for the {free_bytes:,} bytes that are free")
                tar.extract(member, inside, filter="data")
    except (tarfile.TarError, EOFError, ValueError) as error:
        words = str(error).splitlines()[0].rstrip(":")
        raise _refused(source, f"it is no archive of this lab, or damaged ({words})") from error


def read(inside: Path, source: Path) -> Bundle:
    """The rows of an unpacked file, without points and unchecked.

    Raises:
        LabError: it is no export, or one of another version.
    """
    path = inside / MANIFEST
    if not path.is_file() or not (inside / ROWS).is_file() or path.stat().st_size > MAX_LINE:
        raise _refused(source, f"it has no {MANIFEST} and {ROWS}: it is no export of this lab")
    try:
        about = json.loads(path.read_bytes())
        version = about["labqueue"], about["schema"]
        if version not in {(FORMAT, schema) for schema in range(1, SCHEMA_VERSION + 1)}:
            words = f"its format and schema are {version}, this program's {(FORMAT, SCHEMA_VERSION)}"
            raise _refused(source, f"{words}: export it again with the same version of the lab")
        workspace = str(about["workspace"])
        held = Bundle(workspace, {int(key): str(name) for key, name in about["experiments"].items()})
        for line in _rows(inside, source):
            if "table" in line:
                held.tables[line["table"]].append(dict(line["row"]))
        if about["schema"] == 1:
            version_1.upgrade_rows(held.tables)
        if about["schema"] < 3:
            version_2_names.rename(held.tables, held.experiments)
            version_2.upgrade_rows(held.tables)
        if about["schema"] < 4:
            version_3.upgrade_rows(held.tables)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(source, f"its rows cannot be read ({type(error).__name__}: {error})") from error
    return held


def _rows(inside: Path, source: Path) -> Iterator[dict[str, Any]]:
    with (inside / ROWS).open("rb") as rows:
        while line := rows.readline(MAX_LINE):
            found = json.loads(line)
            if not isinstance(found, dict):
                raise _refused(source, "its rows cannot be read")
            yield found


def points(inside: Path, source: Path, wanted: set[int]) -> Iterator[Points]:
    """The points of series of an unpacked file.

    Raises:
        LabError: one is no point.
    """
    for line in _rows(inside, source):
        if line.get("series") in wanted:
            try:
                yield line["series"], [_point(pair, source) for pair in line["points"]]
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise _refused(source, f"its points cannot be read ({error})") from error


def _point(pair: Any, source: Path) -> tuple[int, float | None]:
    step, value = pair
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if type(step) is not int or abs(step) >= MAX_STEP or not (value is None or number):
        raise _refused(source, f"it holds the point {pair!r:.60}, which cannot be")
    return step, value


def _refused(source: Path, words: str) -> LabError:
    return LabError(f"{source} is not imported: {words}", file=str(source))
