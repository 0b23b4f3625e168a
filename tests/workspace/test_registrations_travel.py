"""Registrations go along with an export: with their own times, and refused where their digest does not hold."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.views import RegistrationView
from labqueue.store.db import Database
from labqueue.store.queries.experiment import experiment
from tests.commands import call, refused
from tests.conftest import Lab
from tests.store.factories import executed, job, submitted

LOW = {"id": "low", "claim": "Low.", "threshold": {"metric": "value", "below": 2.0}}
LOWER = {"id": "low", "claim": "Low.", "threshold": {"metric": "value", "below": 1.0}}


def stated(db: Database, *predictions: dict[str, Any], seeds: tuple[int, ...] = (0, 1)) -> None:
    submitted(db, seeds=seeds, spec=job().spec | {"predictions": list(predictions), "seeds": list(seeds)})


def finished(db: Database, *values: float) -> None:
    for value in values:
        executed(db, points=[("value", 10, value)])


@pytest.fixture
def there(tmp_path: Path) -> Lab:
    """A workspace in which a claim was edited after its runs, and another one that waits with new seeds."""
    lab = Lab(tmp_path / "there")
    lab.root.mkdir()
    db = lab.db
    stated(db, LOW)
    finished(db, 0.5299792458, 0.6314159265)
    stated(db, LOWER)
    db.close()
    return lab


@pytest.fixture
def here(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "here")
    lab.root.mkdir()
    return lab


def exported(lab: Lab, name: str = "x.tar") -> Path:
    file = lab.root / name
    answer = call(lab, "export", "--all", "--archive", file)
    assert answer.code == 0, answer.err
    return file


def rewritten(file: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None], schema: int = 3) -> Path:
    """An export whose rows were changed; None takes a row out."""
    made = file.with_name("changed.tar")
    with tarfile.open(file) as source, tarfile.open(made, "w") as target:
        for member in source:
            opened = source.extractfile(member)
            content = opened.read() if opened is not None else b""
            if member.name == "ledger.jsonl":
                lines = (change(json.loads(line)) for line in content.splitlines())
                content = "\n".join(json.dumps(line) for line in lines if line is not None).encode()
            elif member.name == "manifest.json":
                content = json.dumps({**json.loads(content), "schema": schema}).encode()
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return made


def facts(views: list[RegistrationView]) -> list[tuple[Any, ...]]:
    """What does not depend on the numbers of a workspace."""
    return [(view.id, view.digest, view.at, view.prediction, view.withdrawn_at, len(view.seen_runs)) for view in views]


def test_an_imported_registration_keeps_its_time_and_what_it_has_seen(there: Lab, here: Lab) -> None:
    before = experiment(there.db, "drill").registrations
    assert [(view.prediction, view.seen_runs, view.withdrawn_at is None) for view in before] == [
        (LOWER, [1, 2], True),
        (LOW, [], False),
    ]
    submitted(here.db, "other")  # so that ids there are taken here
    executed(here.db)
    file = exported(there)
    for _ in range(2):
        assert call(here, "import", file).code == 0
        assert facts(experiment(here.db, "drill").registrations) == facts(before)


def test_an_export_of_the_version_before_has_its_registrations_computed(there: Lab, here: Lab) -> None:
    before = experiment(there.db, "drill").registrations
    older = rewritten(exported(there), lambda row: None if row.get("table") == "registrations" else row, schema=2)
    assert call(here, "import", older).code == 0
    assert facts(experiment(here.db, "drill").registrations) == facts(before)


def test_a_claim_edited_here_has_seen_the_imported_runs_and_theirs_is_withdrawn(there: Lab, here: Lab) -> None:
    assert call(here, "import", exported(there)).code == 0
    third = {**LOW, "threshold": {"metric": "value", "below": 0.7}}
    stated(here.db, third)
    views = experiment(here.db, "drill").registrations
    assert [view.prediction for view in views] == [third, LOW, LOWER]
    assert views[0].seen_runs, "seeds 0 and 1 were run there"
    assert views[2].withdrawn_at == views[0].at


def test_a_claim_that_was_registered_there_is_not_late_here(there: Lab, here: Lab) -> None:
    assert call(here, "import", exported(there)).code == 0
    theirs = experiment(here.db, "drill").registrations[0]
    stated(here.db, LOWER, seeds=(0, 1, 2))
    ours = experiment(here.db, "drill").registrations[0]
    assert (ours.at, ours.job) == (theirs.at, theirs.job)


def other_clause(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("table") == "registrations":
        row["row"]["prediction"] = {**row["row"]["prediction"], "threshold": {"metric": "value", "below": 9.0}}
    return row


def other_id(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("table") == "registrations":
        row["row"]["prediction_id"] = "high"
    return row


def no_claims(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("table") == "jobs":
        row["row"]["spec"]["predictions"] = [7]
    return row


@pytest.mark.parametrize(
    ("change", "words"),
    [(other_clause, "not the digest of its clause"), (other_id, "not the digest"), (no_claims, "predictions of job 1")],
)
def test_a_registration_that_no_lab_has_written_is_refused(
    there: Lab, here: Lab, change: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    evil = rewritten(exported(there), change)
    assert words in refused(call(here, "import", evil, "--json"))["message"]
