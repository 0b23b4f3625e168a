"""Names and folders as MLflow demands them. A real MLflow reads them in ``benchmarks/mlflow_export.py``."""

from __future__ import annotations

import importlib.util
import posixpath
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from labqueue.domain.errors import LabError
from labqueue.report import mlflow
from tests.report.factories import make_run, sweep


@given(st.lists(st.text(min_size=1, max_size=400) | st.sampled_from(["a", "a/b", "a/b/c", "a//b", "a*", "a?", "../a"]),
                unique=True, max_size=12))  # fmt: skip
def test_every_name_is_one_that_mlflow_takes_and_different_ones_stay_different(names: list[str]) -> None:
    found = mlflow.clean(names)
    assert list(found) == list(dict.fromkeys(names))
    shown = list(found.values())
    assert len(set(shown)) == len(shown)
    for name in shown:
        # MLflow's own rules: _VALID_PARAM_AND_METRIC_NAMES, path_not_unique, MAX_ENTITY_KEY_LENGTH.
        assert re.fullmatch(r"[/\w.\- :]+", name)
        assert posixpath.normpath(name) == name
        assert not name.startswith(("/", ".."))
        assert name != "."
        assert len(name) <= 250
        assert all(len(part.encode()) <= 255 for part in name.split("/"))
        assert not any(other.startswith(f"{name}/") for other in shown), "a file cannot be a folder"


def test_a_name_that_begins_with_two_dots_is_no_way_out() -> None:
    assert mlflow.clean(["..0", "_.0", "...", "a/..b"]).keys() == {"..0", "_.0", "...", "a/..b"}
    assert not any(name.startswith("..") for name in mlflow.clean(["..0", "_.0", "..."]).values())
    assert mlflow.clean(["a/..b"]) == {"a/..b": "a/..b"}


def test_a_plain_name_stays_as_it_is() -> None:
    names = ["eval_loss", "eval/loss", "lora.rank", "größe: a-b c"]
    assert mlflow.clean(names) == {name: name for name in names}


def test_a_folder_holds_each_run_once_however_often_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("{}")
    view, series = sweep({"rank": [1, 2]}, [0, 1], lambda p, s: {"loss": [(0, 2.0), (5, None), (9, 0.1 * p["rank"])]})
    runs = mlflow.exported(view, series, tmp_path, "w" * 32)
    out = tmp_path / "mlruns"
    for _ in range(2):
        assert mlflow.write_folder(out, view.experiment, runs) == 4
    (home,) = out.iterdir()
    meta = YAML(typ="safe").load((home / "meta.yaml").read_text())
    assert meta["name"] == view.experiment
    folders = [path for path in home.iterdir() if path.is_dir()]
    assert len(folders) == 4
    for folder in folders:
        run = YAML(typ="safe").load((folder / "meta.yaml").read_text())
        assert run["run_id"] == folder.name
        assert (run["status"], run["lifecycle_stage"], run["experiment_id"]) == (3, "active", home.name)
        assert run["end_time"] > run["start_time"] > 1_600_000_000_000, "milliseconds"
        lines = [line.split() for line in (folder / "metrics" / "loss").read_text().splitlines()]
        rank = int((folder / "params" / "rank").read_text())
        assert [(float(value), int(step)) for _, value, step in lines] == [(2.0, 0), (0.1 * rank, 9)]


def test_outcomes_keep_their_name_and_long_values_are_cut_at_mlflows_limit(tmp_path: Path) -> None:
    broken = make_run(7, {"prompt": "x" * 10_000}, 0, {}, outcome="diverged", reason="r" * 9_000)
    waiting = make_run(8, {"prompt": "y"}, 1, {}, outcome=None)
    view, series = sweep({"prompt": ["z"]}, [0], lambda p, s: {})
    from dataclasses import replace

    (run,) = mlflow.exported(replace(view, runs=[broken, waiting]), series, tmp_path, "w")
    assert run.status == ("FAILED", 4)
    assert run.tags["labqueue.outcome"] == "diverged"
    assert len(run.params["prompt"]) == 6000
    assert all(len(value) <= 5000 for value in run.tags.values())


def test_artifacts_are_copied_whole(tmp_path: Path) -> None:
    view, series = sweep({"rank": [1]}, [0], lambda p, s: {})
    folder = tmp_path / view.runs[0].artifacts[0].path
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"1")
    for artifacts, expected in ((True, [b"1"]), (False, [])):
        runs = mlflow.exported(view, series, tmp_path, "w", artifacts=artifacts)
        mlflow.write_folder(tmp_path / "out", view.experiment, runs)
        assert [path.read_bytes() for path in (tmp_path / "out").glob("*/*/artifacts/adapter/weights")] == expected


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="mlflow is installed here")
def test_without_the_package_a_uri_is_refused_with_the_cure() -> None:
    with pytest.raises(LabError, match="--mlflow DIR"):
        mlflow.send("http://localhost:1", "x", [])
