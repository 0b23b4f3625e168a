"""Out of sight and back, and deleting nothing that somebody needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from labqueue.domain.canonical import Canonical
from labqueue.domain.errors import LabError
from labqueue.store.db import Database
from labqueue.store.queries import experiment, read
from labqueue.store.runs import control, results
from labqueue.store.runs.jobs import add_jobs
from labqueue.store.workspace import archive
from tests.store.factories import claimed, executed, job, needing, results_store, submitted


def counts(db: Database) -> dict[str, int]:
    """Rows of every table that is about experiments; without the history, which only grows."""
    names = (
        "experiments",
        "jobs",
        "runs",
        "job_runs",
        "attempts",
        "checkpoints",
        "series",
        "metrics",
        "samples",
        "artifacts",
    )
    with db.read() as connection:
        return {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names}


def full(db: Database, name: str) -> int:
    """An experiment with one run that has something in every table; returns the run."""
    submitted(db, name)
    running = claimed(db)
    file = {"path": f"outputs/{name}/{running.run_id}/a", "sha256": "0", "bytes": 1}
    results.add_artifact(db, running.ref, name="a", type="text", **file)
    checkpoint = {"step": 1, "path": "x", "sha256": "0", "bytes": 1, "points": [("value", 1, 1.0)], "keep": 2}
    results.add_checkpoint(db, running.ref, **checkpoint)
    results.flush(db, running.ref, [("value", 2, None)], None, ["a note"], [(2, "Once", " upon")])
    control.cancel(db, str(running.run_id))
    from labqueue.domain.state import Ending
    from labqueue.store.runs import attempts

    attempts.end(db, running.ref, Ending.CANCELLED, "enough")
    return running.run_id


def test_an_archived_experiment_leaves_the_listing_and_nothing_else(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, "first")
    executed(db)
    submitted(db, "second")
    executed(db)
    before = counts(db)
    archive.archive(db, ["first"])
    archive.archive(db, ["first"])
    assert [row.experiment for row in read.experiments(db)] == ["second"]
    assert [row.experiment for row in read.experiments(db, archived=True)] == ["first"]
    assert [run.id for run in experiment.experiment(db, "first").runs] == [1]
    assert read.run(db, 1).outcome == "succeeded"
    archive.restore(db, ["first"])
    assert [row.experiment for row in read.experiments(db)] == ["first", "second"]
    assert counts(db) == before


def test_what_has_not_finished_is_not_archived_and_then_none_of_those_named_is(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, "done")
    executed(db)
    submitted(db, "waits")
    with pytest.raises(LabError, match=r"'waits' has 1 runs .*\(2\).*labqueue cancel waits"):
        archive.archive(db, ["done", "waits"])
    assert read.experiments(db, archived=True) == []
    with pytest.raises(LabError, match="did you mean 'done'"):
        archive.archive(db, ["doen"])
    with pytest.raises(LabError, match="'done' is not archived"):
        archive.restore(db, ["done"])


def test_a_search_with_trials_to_come_is_not_archived(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    found = job("searched", seeds=[0], trials=5)
    add_jobs(db, [type(found)(**{**vars(found), "spec": {**found.spec, "seeds": [0]}})])
    executed(db)
    with pytest.raises(LabError, match="trials to come"):
        archive.archive(db, ["searched"])


def test_nothing_is_submitted_under_an_archived_name(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, "old")
    executed(db)
    archive.archive(db, ["old"])
    before = counts(db)
    with pytest.raises(LabError, match="labqueue restore old"):
        add_jobs(db, [job("fresh"), job("old", seeds=[7])])
    assert counts(db) == before


def test_deleting_leaves_no_row_of_it_and_every_row_of_others(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    full(db, "keep")
    before = counts(db)
    gone = full(db, "gone")
    control.pause(db, "gone", None)
    assert read.control(db, "pause:gone") is not None
    with pytest.raises(LabError, match="labqueue archive gone"):
        archive.delete(db, "gone")
    archive.archive(db, ["gone"])
    told = archive.delete(db, "gone")
    assert (told.jobs, told.runs, told.artifacts, told.points) == (1, [gone], 1, 2)
    assert counts(db) == before
    assert read.control(db, "pause:gone") is None
    with db.read() as connection:
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        said = connection.execute(text("SELECT text FROM events WHERE kind = 'delete'")).scalars().all()
    assert said == ["gone: 1 jobs and 1 runs deleted by a person"]
    assert submitted(db, "gone").runs == [gone + 1], "an id is never given twice"


def test_what_others_need_is_not_deleted(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    full(db, "base")
    add_jobs(db, [job("follows", needs=needing(db, "base", accept=["cancelled"]))])
    executed(db)
    archive.archive(db, ["base"])
    with pytest.raises(LabError, match="'follows' needs 'base'"):
        archive.delete(db, "base")
    archive.archive(db, ["follows"])
    archive.delete(db, "follows")
    archive.delete(db, "base")
    assert counts(db)["runs"] == 0


@pytest.mark.parametrize(
    "value",
    [
        {"from_run": {"experiment": "base", "where": {}, "artifact": "a"}},
        [{"deep": {"from_run": {"experiment": "base", "artifact": "a"}}}],
        "outputs/base/1/a",
    ],
)
def test_what_others_use_by_its_artifacts_is_not_deleted(tmp_path: Path, value: object) -> None:
    db = results_store(tmp_path)
    full(db, "base")
    using = job("uses")
    runs = [run._replace(params=Canonical.of({"adapter": value})) for run in using.runs]
    add_jobs(db, [type(using)(**{**vars(using), "runs": runs})])
    executed(db)
    archive.archive(db, ["base"])
    with pytest.raises(LabError, match="runs 2 of experiment 'uses' use artifacts of 'base'"):
        archive.delete(db, "base")


def test_a_like_name_is_no_use(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    full(db, "base")
    using = job("base_two", [{"note": "based on outputs/base_two/9 and on base"}])
    add_jobs(db, [using])
    executed(db)
    archive.archive(db, ["base"])
    assert archive.delete(db, "base").runs == [1]
