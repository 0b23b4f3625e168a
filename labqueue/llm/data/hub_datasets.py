"""Datasets of the hub: fetched before the night, read offline in it. No torch, no runs.

Only Parquet, JSON and CSV are taken and read, through ``datasets`` 4, which runs no code of a repository. What a
revision pointed at when it was fetched is written down, and used until somebody asks for another revision; by its
commit it is found from then on.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.llm.data.files import formats
from labqueue.llm.data.files.records import Columns, Found, collect
from labqueue.llm.models import hub
from labqueue.llm.types import Json
from labqueue.system.files import cache_folder, write_bytes

ENDINGS = (".parquet", ".json", ".jsonl", ".csv")
MAX_GIB = 20.0
"""A dataset above this is fetched by subset, or not at all: data to fine-tune on are smaller. Assumption."""

CONVERTED = "refs/convert/parquet"
"""The branch on which the hub keeps Parquet of datasets that are scripts."""

CURE = (
    "Connect once and submit again, give rows of your own (data.path), or use a generated task, which needs no hub "
    "(data.task: chain_sum)"
)


def available(name: str, revision: str, subset: str | None) -> bool:
    """Whether every file of the dataset that was once fetched is still here."""
    return _known(name, revision, subset) is not None


def fetch(name: str, revision: str, subset: str | None) -> Path:
    """Brings the dataset's data files onto this machine; returns the folder.

    Raises:
        LabError: no hub, no such dataset, nothing in it that can be read, or too much.
    """
    asked: Json = {"kind": "dataset", "revision": revision, "cure": CURE, "key": "data.hub"}
    about = hub.info(name, **asked)
    sizes = {entry.rfilename: entry.size or 0 for entry in about.siblings or []}
    card = hub.download(name, ["README.md"], **asked) / "README.md" if "README.md" in sizes else None
    files = [file for file in sizes if file.endswith(ENDINGS) and _of_subset(file, _patterns(card, subset))]
    if not files:
        script = f"; it is a script, try data.revision: {CONVERTED}" if any(f.endswith(".py") for f in sizes) else ""
        of = f" for the subset {subset!r}" if subset else ""
        raise LabError(f"dataset {name!r} has no Parquet, JSON or CSV files{of}{script}", key="data.hub")
    if (gib := sum(sizes[file] for file in files) / 2**30) > MAX_GIB:
        raise LabError(
            f"dataset {name!r} is {gib:.0f} GiB, more than {MAX_GIB:.0f}; name a data.subset, or rows of your own",
            key="data.hub",
        )
    assert about.sha is not None, "the hub names the commit of what it describes"
    folder = hub.download(name, [*map(re_glob, files), "README.md"], **(asked | {"revision": about.sha}))
    for known in (about.sha, revision):
        _mark(_marker(name, known, subset), {"commit": about.sha, "folder": str(folder), "files": sorted(files)})
    return folder


def commit(name: str, revision: str, subset: str | None) -> str | None:
    """The commit that a revision pointed at when the dataset was fetched; None where it is not here. From then on it is
    known by its commit, too, whatever the revision comes to mean."""
    known = _known(name, revision, subset)
    if known is None:
        return None
    marker = _marker(name, known["commit"], subset)
    if not marker.is_file():
        _mark(marker, known)
    return str(known["commit"])


def read(name: str, *, revision: str, subset: str | None, split: str, columns: Columns | None) -> Found:
    """Rows of a fetched dataset, without touching the network.

    Raises:
        LabError: it is not on this machine, has no such subset or split, or a bad row.
    """
    known = _known(name, revision, subset)
    if known is None:
        at = "" if revision == "main" else f" at {revision}"
        raise LabError(f"dataset {name!r}{at} is not on this machine. {CURE}", key="data.hub")
    label = f"{name}@{known['commit'][:12]}" + (f" ({subset})" if subset else "") + f", split {split}"
    return read_folder(Path(known["folder"]), label, subset=subset, split=split, columns=columns)


def read_folder(folder: Path, label: str, *, subset: str | None, split: str, columns: Columns | None) -> Found:
    """Rows of a folder of Parquet, JSON or CSV, with the splits and subsets that ``datasets`` finds in it.

    Raises:
        LabError: no such subset or split, files that cannot be read, or a bad row.
    """
    import datasets

    quiet = datasets.utils.logging
    shown = quiet.is_progress_bar_enabled()
    quiet.disable_progress_bar()
    cache = str(cache_folder() / "datasets" / "arrow")
    try:
        data = datasets.load_dataset(str(folder), name=subset, split=split, cache_dir=cache)
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().splitlines()[0]
        key = "data.split" if "split" in reason.lower() else "data.subset" if "onfig" in reason else "data.hub"
        raise LabError(f"dataset {label}: {reason}", key=key) from error
    finally:
        if shown:
            quiet.enable_progress_bar()
    values = ((number, formats.cells(row)) for number, row in enumerate(data))
    form = "a dataset of the hub"
    return collect(values, columns, label, "row", lambda number: {"file": label, "line": number}, form)


def re_glob(file: str) -> str:
    """The glob pattern that means exactly this file name."""
    return re.sub(r"([*?\[])", r"[\1]", file)


def _known(name: str, revision: str, subset: str | None) -> Json | None:
    try:
        known: Json = json.loads(_marker(name, revision, subset).read_text())
    except (OSError, ValueError):
        return None
    return known if all((Path(known["folder"]) / file).is_file() for file in known["files"]) else None


def _marker(name: str, revision: str, subset: str | None) -> Path:
    words = f"{name}@{revision}" + (f"#{subset}" if subset else "")
    return cache_folder() / "datasets" / f"{words.replace('/', '--')}.json"


def _mark(marker: Path, known: Json) -> None:
    write_bytes(marker, json.dumps(known).encode(), shared=True)  # whole: another process may be reading it


def _patterns(card: Path | None, subset: str | None) -> list[str] | None:
    """The patterns of a subset's files as the dataset's card gives them; None: all files."""
    from huggingface_hub import metadata_load

    configs = ((metadata_load(card) or {}) if card is not None else {}).get("configs") or []
    given = next((config.get("data_files") for config in configs if config.get("config_name") == subset), None)
    return None if subset is None or given is None else list(_flat(given))


def _flat(data_files: object) -> Iterable[str]:
    if isinstance(data_files, str):
        yield data_files
    elif isinstance(data_files, dict):
        yield from _flat(data_files.get("path", []))
    elif isinstance(data_files, list):
        for each in data_files:
            yield from _flat(each)


def _of_subset(file: str, patterns: list[str] | None) -> bool:
    return patterns is None or any(fnmatch.fnmatch(file, pattern) for pattern in patterns)
