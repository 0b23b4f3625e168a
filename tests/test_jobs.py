"""Every spec that is shipped is valid with every profile that it has."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from labqueue import kinds
from labqueue.domain.spec.schema import Spec
from labqueue.submission import specfile
from labqueue.submission.plan import Request, plan

JOBS = Path(__file__).resolve().parent.parent / "jobs"
SPECS = sorted(JOBS.rglob("*.yaml"))


def test_there_are_specs() -> None:
    assert "drill.yaml" in {path.name for path in SPECS}
    assert not list(JOBS.rglob("*.py")), "no code among the specs"
    assert not list(JOBS.rglob("*.yml")), "one ending for all, so that none is overlooked"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.relative_to(JOBS).as_posix())
def test_a_shipped_spec_is_valid_with_every_profile(path: Path) -> None:
    source = specfile.read(path)
    spec = specfile.to_spec(source)
    for profile in {"cpu", "gpu", *spec.profiles}:
        planned = plan(source, Request(profile=profile))
        assert planned.job.runs
        assert planned.job.device in ("cpu", "cuda")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.relative_to(JOBS).as_posix())
def test_a_shipped_spec_for_a_gpu_is_predicted_to_fit_a_16_gb_card(path: Path) -> None:
    planned = plan(specfile.read(path), Request(profile="gpu"))
    for run in planned.job.runs:
        assert run.estimated_memory_gib is None or run.estimated_memory_gib <= 14.5, run.varied.text


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.relative_to(JOBS).as_posix())
def test_a_shipped_spec_says_what_it_expects_and_how_it_is_run(path: Path) -> None:
    spec: Spec = specfile.to_spec(specfile.read(path))
    assert spec.name == path.stem, "so that people find it"
    assert spec.hypothesis.strip()
    assert spec.methodology.strip()
    assert spec.predictions
    head = "".join(itertools.takewhile(lambda line: line.startswith("#"), path.open()))
    assert f"jobs/{path.relative_to(JOBS).as_posix()}" in head, "its launch command"
    assert len(spec.seeds) >= 2, "one seed gives no verdict"


def test_every_kind_describes_itself_and_its_parameters() -> None:
    names = kinds.names()
    assert names
    for name in names:
        kind = kinds.get(name)
        assert kind.about.rstrip("."), name
        undescribed = [key for key, field in kind.params.model_fields.items() if not field.description]
        assert undescribed == [], name
