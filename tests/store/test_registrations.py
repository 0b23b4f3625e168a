"""Predictions are registered with the job that states them, and what was known by then is found in the store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from labqueue.domain.views import ExperimentView
from labqueue.store.db import Database
from labqueue.store.migrations import version_2
from labqueue.store.queries.experiment import experiment
from labqueue.store.runs import control
from labqueue.store.runs.jobs import Submitted
from labqueue.store.tables import Job, Registration
from labqueue.store.workspace import archive
from tests.store.factories import executed, job, results_store, submitted

LOW = {"id": "low", "claim": "The value is low.", "threshold": {"metric": "value", "below": 2.0}}
LOWER = {"id": "low", "claim": "The value is low.", "threshold": {"metric": "value", "below": 1.0}}
OTHER = {"id": "other", "claim": "Loss.", "threshold": {"metric": "loss", "below": 2.0}}


def spec(*predictions: dict[str, Any], name: str = "drill", seeds: Iterable[int] = (), **fields: Any) -> dict[str, Any]:
    return job(name).spec | {"predictions": list(predictions), "seeds": list(seeds)} | fields


def stated(
    db: Database,
    *predictions: dict[str, Any],
    name: str = "drill",
    seeds: Sequence[int] = (0, 1),
    points: Sequence[dict[str, Any]] = ({},),
    looks: Sequence[int] = (),
    **fields: Any,
) -> Submitted:
    """Submits an experiment with predictions."""
    frozen = spec(*predictions, name=name, seeds=seeds, looks=list(looks))
    return submitted(db, name, points=points, seeds=seeds, spec=frozen, **fields)


def finished(db: Database, values: Iterable[float], metric: str = "value") -> None:
    """Executes what waits, a value for each run."""
    for value in values:
        executed(db, points=[(metric, 10, value)])


def seen(view: ExperimentView) -> dict[str, list[int]]:
    return {each.id: each.seen_runs for each in view.registrations if each.withdrawn_at is None}


def test_a_claim_that_was_registered_before_the_runs_has_seen_none(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    first = stated(db, LOW, OTHER)
    finished(db, (0.5299792458, 0.6314159265))
    view = experiment(db, "drill")
    assert [(each.id, each.job, each.seen_runs, each.withdrawn_at) for each in view.registrations] == [
        ("low", first.job, [], None),
        ("other", first.job, [], None),
    ]
    stated(db, {**OTHER, "claim": "The loss is low."}, LOW)
    again = experiment(db, "drill")
    assert [(each.id, each.job, each.seen_runs) for each in again.registrations] == [("other", 1, []), ("low", 1, [])]
    assert [each.at for each in again.registrations] == [each.at for each in view.registrations]
    assert again.registrations[0].prediction["claim"] == "The loss is low."


def test_an_edited_claim_has_seen_the_runs_and_the_old_one_stays_withdrawn(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW)
    finished(db, (0.5299792458, 0.6314159265))
    second = stated(db, LOWER)
    assert second.reused == [1, 2]
    view = experiment(db, "drill")
    new, old = view.registrations
    assert (new.job, new.seen_runs, new.withdrawn_at, new.prediction) == (second.job, [1, 2], None, LOWER)
    assert (old.job, old.seen_runs, old.withdrawn_at, old.prediction) == (1, [], new.at, LOW)


def test_a_claim_that_was_removed_stays_and_is_registered_anew_when_it_comes_back(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW)
    finished(db, (2.51234567, 2.61234567))
    stated(db)
    (gone,) = experiment(db, "drill").registrations
    assert (gone.id, gone.job, gone.withdrawn_at is None) == ("low", 1, False)
    third = stated(db, LOW)
    back, gone = experiment(db, "drill").registrations
    assert (back.job, back.seen_runs, back.withdrawn_at) == (third.job, [1, 2], None)
    assert (gone.job, gone.seen_runs) == (1, [])


def test_a_new_claim_has_seen_the_old_seeds_and_not_the_new_ones(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW)
    finished(db, (0.5299792458, 0.6314159265))
    stated(db, LOW, OTHER, seeds=(0, 1, 2, 3))
    finished(db, (0.7141421356, 0.8173205081))
    assert seen(experiment(db, "drill")) == {"low": [], "other": [1, 2]}


def test_a_trivial_change_of_a_parameter_makes_no_seed_new_and_no_claim_old(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW)
    finished(db, (0.5299792458, 0.6314159265))
    stated(db, LOW, OTHER, points=[{"log_every": 7}], seeds=(0, 1, 2))
    finished(db, (0.52234567, 0.62234567, 0.7))
    view = experiment(db, "drill")
    assert [run.id for run in view.runs] == [3, 4, 5]
    assert seen(view) == {"low": [], "other": [3, 4]}


def test_a_run_of_the_same_spec_hash_under_another_name_was_seen(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, name="pilot", seeds=(0,))
    finished(db, [0.5299792458])
    stated(db, LOW)
    finished(db, (0.5299792458, 0.6314159265))
    assert seen(experiment(db, "drill")) == {"low": [2]}


def under_another_name(db: Database, metric: str, pilot: Sequence[float], again: Sequence[float]) -> dict[str, Any]:
    """Runs of a pilot with another parameter, then of an experiment that claims; returns what was seen."""
    stated(db, name="pilot", points=[{"log_every": 7}])
    finished(db, pilot, metric)
    claim = {"id": "low", "claim": "", "threshold": {"metric": metric, "below": 2.0}}
    stated(db, claim)
    finished(db, again, metric)
    return seen(experiment(db, "drill"))


def test_the_same_results_under_another_name_were_seen(tmp_path: Path) -> None:
    found = under_another_name(
        results_store(tmp_path), "loss", (0.5299792458, 0.6314159265), (0.5299792458, 0.7141421356)
    )
    assert found == {"low": [3]}


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, 1.0), (0.75, 0.984375), (0.5299792458, 0.5299792458)])
def test_values_that_many_runs_share_are_no_sign_of_the_same_run(tmp_path: Path, values: tuple[float, ...]) -> None:
    """Yes/no metrics, shares, and what is the same in every seed."""
    assert under_another_name(results_store(tmp_path), "right", values, values) == {"low": []}


def test_a_shared_value_was_seen_where_another_metric_tells_the_same_run(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    claim = {"id": "low", "claim": "", "threshold": {"metric": "right", "below": 2.0}}
    for name, points, predictions in (("pilot", [{"log_every": 7}], ()), ("drill", [{}], (claim,))):
        stated(db, *predictions, name=name, points=points)
        for loss in (0.5299792458, 0.6314159265):
            executed(db, points=[("right", 10, 1.0), ("loss", 10, loss)])
    assert seen(experiment(db, "drill")) == {"low": [3, 4]}


def test_a_failed_run_was_seen_and_one_that_never_began_was_not(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW)
    executed(db, "failed")
    control.cancel(db, "2")
    stated(db, LOWER)
    finished(db, (0.5299792458, 0.6314159265))
    view = experiment(db, "drill")
    assert [(run.id, run.seed) for run in view.runs] == [(3, 0), (4, 1)]
    assert seen(view) == {"low": [3]}


def test_withdrawn_claims_are_listed_oldest_first_after_those_that_stand(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    for predictions in ((LOW, OTHER), (OTHER,), (LOWER,), (OTHER, LOW)):
        stated(db, *predictions)
    view = experiment(db, "drill")
    found = [(each.id, each.job, each.withdrawn_at is None) for each in view.registrations]
    assert found == [("other", 4, True), ("low", 4, True), ("low", 1, False), ("other", 1, False), ("low", 3, False)]


def looks(view: ExperimentView) -> list[list[int]]:
    return [look.seeds for look in view.found_looks]


def test_seeds_that_are_added_after_a_run_ended_are_a_look_of_their_own(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW, seeds=(0, 1), looks=(3, 5))
    stated(db, LOW, seeds=(0, 1, 2), looks=(3, 5))
    assert looks(experiment(db, "drill")) == [[0, 1, 2]], "nothing had ended: nobody looked"
    finished(db, (0.5299792458, 0.6314159265, 0.7141421356))
    stated(db, LOW, seeds=(0, 1, 2, 4), looks=(3, 5))
    stated(db, LOW, seeds=(0, 1, 2, 3, 4), looks=(3, 5))
    view = experiment(db, "drill")
    assert looks(view) == [[0, 1, 2], [4, 3]]
    assert [look.job for look in view.found_looks] == [1, 3]
    assert (view.looks, view.looks_seen_runs) == ([3, 5], [])
    assert view.looks_at == view.registrations[0].at
    finished(db, [0.8173205081])
    stated(db, LOW, seeds=(5,), looks=(3, 5))
    assert looks(experiment(db, "drill")) == [[0, 1, 2], [4, 3], [5]]


def test_seeds_of_another_version_of_the_spec_are_no_look_of_this_one(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW)
    finished(db, (0.5299792458, 0.6314159265))
    stated(db, LOW, points=[{"log_every": 7}], seeds=(0, 1, 2))
    assert looks(experiment(db, "drill")) == [[0, 1, 2]]


def test_looks_that_are_registered_after_runs_had_ended_say_so(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW, seeds=(0, 1, 2))
    assert experiment(db, "drill").looks_at is None
    finished(db, (0.5299792458, 0.6314159265, 0.7141421356))
    stated(db, LOW, seeds=(0, 1, 2, 3, 4), looks=(3, 5))
    view = experiment(db, "drill")
    assert (view.looks, view.looks_seen_runs) == ([3, 5], [1, 2, 3])
    assert view.looks_at == view.found_looks[1].at


def test_a_deleted_experiment_leaves_no_registration(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    stated(db, LOW, seeds=(0,))
    stated(db, OTHER, name="kept", seeds=(1,))
    finished(db, (0.5299792458, 0.6314159265))
    archive.archive(db, ["drill"])
    assert experiment(db, "drill").registrations[0].id == "low"
    archive.delete(db, "drill")
    with db.read() as connection:
        assert list(connection.execute(select(Registration.c.prediction_id)).scalars()) == ["other"]


@given(
    st.lists(st.lists(st.sampled_from([LOW, LOWER, OTHER]), max_size=2, unique_by=lambda each: each["id"]), min_size=1)
)
@settings(max_examples=25, deadline=None)
def test_registrations_of_old_jobs_are_those_that_their_submission_would_have_written(
    histories: list[list[dict[str, Any]]],
) -> None:
    """The migration reads frozen specs; the store writes as jobs come. Each is the other's oracle."""
    with tempfile.TemporaryDirectory() as folder:
        db = results_store(Path(folder))
        for predictions in histories:
            stated(db, *predictions)
        with db.read() as connection:
            written = [dict(row._mapping) for row in connection.execute(select(Registration))]
            jobs = connection.execute(select(Job.c.id, Job.c.created_at, Job.c.spec).order_by(Job.c.id)).all()
        computed = version_2.registrations([(row.id, row.created_at, row.spec) for row in jobs])
        plain = [{key: row[key] for key in row if key not in ("id", "experiment_id")} for row in written]
        key = lambda row: (row["job_id"], row["digest"])  # noqa: E731  # of both lists
        assert sorted(plain, key=key) == sorted(computed, key=key)
        views = experiment(db, "drill").registrations
        assert [asdict(view)["prediction"] for view in views[: len(histories[-1])]] == histories[-1]
