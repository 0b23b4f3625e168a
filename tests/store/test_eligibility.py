"""What a claim reads from columns is what the rule says when everything is looked at anew, whatever has happened.

Needs of every sort (of a sweep, of some of its runs, of a search, of a rehearsal), pauses with and without an end,
back-offs; and the clocks: a wall clock that jumps, a machine that is started anew.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select, text

from labqueue.domain.errors import LabError
from labqueue.domain.state import Ending
from labqueue.store import trials
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.runs import attempts, control, search_state
from labqueue.store.runs.eligibility import ready
from labqueue.store.runs.jobs import add_jobs
from labqueue.store.tables import Run
from labqueue.system import clock
from tests.store.eligibility_rule import needs_unmet, picture, ready_by_rule, ready_now
from tests.store.factories import claimed, executed, job, needing, results_store, runs_at, submitted, worker
from tests.store.searching import searched

NAMES = ("ash", "birch", "cedar", "dogwood", "elder")
EXAMPLES = int(os.environ.get("LABQUEUE_CHAOS_EXAMPLES", "0"))

names = st.sampled_from(NAMES)
some = st.integers(0, 30)
targets = st.one_of(names, st.just("queue"), some)


class Columns(RuleBasedStateMachine):
    """The store's own doors; the rule from scratch is the judge."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.boot, self.wall_s, self.boot_s = 0, 1_800_000_000.0, 1000.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(clock, "now", lambda: self.wall_s)
        self.patch.setattr(clock, "boot_s", lambda: self.boot_s)
        self.patch.setattr(clock, "boot_id", lambda: f"boot-{self.boot}")
        self.db: Database = results_store(Path(self.folder.name))
        self.worker = worker(self.db)
        self.points = 0

    def teardown(self) -> None:
        self.db.close()
        self.patch.undo()
        self.folder.cleanup()

    def total(self) -> int:
        return len(read.recent(self.db, 1000))

    def known(self, name: str) -> bool:
        return read.newest_job(self.db, name) is not None

    def word(self, target: str | int) -> str | None:
        """The word that a person types; None where there is nothing of that name."""
        if isinstance(target, str):
            return target if target == "queue" or self.known(target) else None
        runs = read.recent(self.db, 100)
        return str(runs[target % len(runs)].id) if runs else None

    def searches(self) -> list[int]:
        with self.db.read() as connection:
            keys = connection.exec_driver_sql("SELECT key FROM controls WHERE key LIKE 'search:%'").scalars()
            return sorted(int(key.partition(":")[2]) for key in keys)

    @initialize()
    def begin(self) -> None:
        """Something of each sort waits already, so that few steps meet what they would have to build first."""
        submitted(self.db, "ash", [{"steps": 1}, {"steps": 2}])
        submitted(self.db, "birch", [{"steps": 1}, {"steps": 3}], needs=needing(self.db, "ash", None))
        self.search("cedar", 2)
        submitted(self.db, "dogwood", [{"steps": 4}], needs=needing(self.db, "cedar", ["cancelled"]))
        self.submit_with_a_rehearsal("elder", [1, 2, 3])

    @precondition(lambda self: self.total() < 40)
    @rule(
        name=names,
        points=st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
        priority=st.integers(-1, 1),
        needed=st.lists(
            st.tuples(names, st.sampled_from([None, [], ["failed"]]), st.sampled_from([{}, {"steps": 2}])),
            min_size=1,
            max_size=2,
        ),
        force=st.booleans(),
    )
    def submit(self, name: str, points: list[int], priority: int, needed: list[Any], force: bool) -> None:
        needs = [
            each
            for other, accept, where in needed
            if self.known(other)
            for each in needing(self.db, other, accept, where)
        ]
        sweep = [{"steps": step} for step in points]
        submitted(self.db, name, sweep, priority=priority, needs=needs, force=force)

    @precondition(lambda self: self.total() < 40)
    @rule(name=names, points=st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True))
    def submit_with_a_rehearsal(self, name: str, points: list[int]) -> None:
        runs = [run for point in points for run in runs_at({"steps": point})]
        short = {run.spec_hash: run._replace(spec_hash=f"short-{run.spec_hash}") for run in runs[:2]}
        before = job(f"{name}_preflight", runs=list(short.values()), priority=1, force=True)
        serves = {served: run.spec_hash for served, run in short.items()}
        need = {"experiment": before.experiment, "where": {}, "accept": [], "job": None, "serves": serves}
        add_jobs(self.db, [before, job(name, runs=runs, needs=[need], force=True)])

    @precondition(lambda self: self.total() < 40)
    @rule(name=names, planned=st.integers(1, 3))
    def search(self, name: str, planned: int) -> None:
        self.points += 1
        searched(self.db, [{"distance": float(self.points)}], trials=planned, name=name)

    @precondition(lambda self: self.searches())
    @rule(at=some)
    def propose(self, at: int) -> None:
        of = self.searches()[at % len(self.searches())]
        study = trials.study(self.db, of)
        assert study is not None
        self.points += 1
        trials.record(self.db, of, len(study.trials), runs_at({"distance": float(self.points)}))

    @precondition(lambda self: self.searches())
    @rule(at=some, opened=st.booleans())
    def end_or_reopen_a_search(self, at: int, opened: bool) -> None:
        of = self.searches()[at % len(self.searches())]
        if opened:
            trials.reopen(self.db, of)
        else:
            trials.end(self.db, of, "budget", "its budget ended")

    @rule(times=st.integers(1, 5), ending=st.sampled_from(["succeeded", "failed"]))
    def work_on(self, times: int, ending: str) -> None:
        for _ in range(times):
            self.work(ending)
            self.the_columns_say_what_the_rule_says()

    @rule(named=targets, wish=st.sampled_from(["cancel", "retry", "release", "resume", "pause", "pause a while"]))
    def ask(self, named: str | int, wish: str) -> None:
        word = self.word(named)
        if word is None:
            return
        with contextlib.suppress(LabError):
            if wish.startswith("pause"):
                control.pause(self.db, word, 50.0 if wish == "pause a while" else None)
            else:
                {"cancel": control.cancel, "retry": control.retry, "release": control.release,
                 "resume": control.resume}[wish](self.db, word)  # fmt: skip

    @rule(named=targets, priority=st.integers(-2, 2))
    def prioritize(self, named: str | int, priority: int) -> None:
        word = self.word(named)
        if word is not None:
            control.prioritize(self.db, word, priority)

    @rule(ending=st.sampled_from(["succeeded", "succeeded", "failed", "pruned", "crashed"]))
    def work(self, ending: str) -> None:
        expected = ready_by_rule(self.db, "cpu")
        claim = attempts.claim(self.db, device="cpu", worker_id=self.worker)
        assert (None if claim is None else claim.run_id) == (expected[0] if expected else None)
        if claim is None:
            return
        later = {"not_before": str(clock.Deadline.after(20.0))} if ending == "crashed" else None
        attempts.attempt_fields(self.db, claim.ref, sources_hash="s", packages_hash="p")
        attempts.end(self.db, claim.ref, Ending(ending), "a reason", requeue=later)

    @rule(seconds=st.sampled_from([5.0, 30.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boot_s += seconds

    @rule(seconds=st.sampled_from([-40.0, 40.0]))
    def the_wall_clock_jumps(self, seconds: float) -> None:
        self.wall_s += seconds

    @rule()
    def the_machine_is_started_anew(self) -> None:
        self.boot, self.boot_s = self.boot + 1, 3.0

    @invariant()
    def the_columns_say_what_the_rule_says(self) -> None:
        assert ready_now(self.db, "cpu") == ready_by_rule(self.db, "cpu")
        with self.db.read() as connection:
            seen = picture(connection)
            for run in connection.execute(select(Run)).all():
                assert run.needs_unmet == needs_unmet(seen, run), run

    @invariant()
    def what_waits_says_why(self) -> None:
        ready = ready_now(self.db, "cpu")
        for run in read.status(self.db).queued:
            assert (run.waiting is None) == (run.id in ready), run
            assert run.waiting is None or run.waiting.text, run


Columns.TestCase.settings = settings(
    max_examples=EXAMPLES or 25,
    stateful_step_count=60 if EXAMPLES else 25,
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)

TestColumns = Columns.TestCase


@pytest.mark.parametrize("same_boot", [True, False])
@pytest.mark.parametrize("seconds", [-1.0, -0.001, 0.0, 0.001, 1.0])
def test_a_deadline_means_the_same_in_the_database_and_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_boot: bool, seconds: float
) -> None:
    db = results_store(tmp_path)
    submitted(db)
    monkeypatch.setattr(clock, "now", lambda: 1_800_000_000.0)
    monkeypatch.setattr(clock, "boot_s", lambda: 1000.0)
    boot, other = clock.boot_id(), "another-boot"
    # Of the two clocks the one that does not count says the contrary.
    deadline = clock.Deadline(
        boot if same_boot else other,
        1000.0 + (seconds if same_boot else -seconds),
        1_800_000_000.0 + (-seconds if same_boot else seconds),
    )
    with db.write() as connection:
        connection.execute(Run.update().values(not_before=str(deadline)))
    assert ready_now(db, "cpu") == ([1] if clock.Deadline.parse(str(deadline)).passed else [])
    assert clock.Deadline.parse(str(deadline)).passed == (seconds <= 0)


@pytest.mark.parametrize("after", [None, (0, 0)])
def test_a_claim_reads_its_two_indexes_and_no_table_whole(tmp_path: Path, after: tuple[int, int] | None) -> None:
    db = results_store(tmp_path)
    submitted(db)
    with db.read() as connection:
        statement = ready(connection, "cpu", limit=1, after=after)
        assert statement is not None
        words = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = [row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {words}"))]
    reads = [step for step in plan if "runs" in step]
    assert len(reads) == 2, plan
    assert "USING INDEX runs_ready (device=?" in reads[0], plan
    assert "USING INDEX runs_timed (device=?" in reads[1], plan


def agreed(db: Database) -> list[int]:
    """What may start, where the columns and the rule say the same."""
    ready = ready_now(db, "cpu")
    assert ready == ready_by_rule(db, "cpu")
    with db.read() as connection:
        seen = picture(connection)
        for run in connection.execute(select(Run)).all():
            assert run.needs_unmet == needs_unmet(seen, run), run
    return ready


def waiting_for(folder: Path, accept: list[str] | None) -> Database:
    """Run 1 is needed by run 2."""
    db = results_store(folder)
    submitted(db, "ash")
    submitted(db, "birch", needs=needing(db, "ash", accept))
    assert agreed(db) == [1]
    return db


def test_a_cancelled_run_meets_a_need_of_any_outcome_and_its_retry_takes_that_back(tmp_path: Path) -> None:
    db = waiting_for(tmp_path, None)
    control.cancel(db, "1")
    assert agreed(db) == [2]
    control.retry(db, "1")
    assert agreed(db) == [1]


def test_a_released_run_waits_for_no_need_any_more(tmp_path: Path) -> None:
    db = waiting_for(tmp_path, [])
    control.release(db, "2")
    assert agreed(db) == [1, 2]
    executed(db, "failed")
    assert agreed(db) == [2]


@pytest.mark.parametrize(("ending", "ready"), [("succeeded", [2]), ("pruned", [2]), ("failed", []), ("diverged", [2])])
def test_an_attempts_ending_meets_a_need_where_it_is_accepted(tmp_path: Path, ending: str, ready: list[int]) -> None:
    db = waiting_for(tmp_path, ["diverged"])
    executed(db, ending)
    assert agreed(db) == ready


def test_a_search_that_is_needed_is_waited_for_until_its_end(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    job = searched(db, [{"distance": 1.0}], trials=3).job
    submitted(db, "birch", needs=needing(db, "searched", []))
    executed(db)
    assert agreed(db) == [], "the search has trials to come"
    assert trials.record(db, job, 1, runs_at({"distance": 2.0})) == [3]
    trials.end(db, job, "budget", "its budget ended")
    assert agreed(db) == [2], "what had not begun is pruned, which meets the need"
    trials.reopen(db, job)
    assert agreed(db) == [3]
    executed(db)
    assert agreed(db) == []
    assert trials.record(db, job, 2, runs_at({"distance": 3.0})) == [4]
    assert agreed(db) == [4], "the last trial ends the search, and is waited for itself"
    executed(db)
    assert agreed(db) == [2]


def test_other_seeds_of_a_pruned_trial_meet_a_need(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    job = searched(db, [{"distance": 1.0}], trials=1, seeds=(0, 1)).job
    submitted(db, "birch", needs=needing(db, "searched", []))
    first = executed(db, "pruned")
    assert agreed(db) == [2]
    assert search_state.settle_siblings(db, first.run_id) == [2]
    assert agreed(db) == [3]
    assert job == 1


def test_a_run_waits_for_the_rehearsal_of_its_own_shape_and_a_back_off_for_its_time(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    one, two = (runs_at({"steps": step})[0] for step in (1, 2))
    short = [run._replace(spec_hash=f"short-{run.spec_hash}") for run in (one, two)]
    serves = {run.spec_hash: f"short-{run.spec_hash}" for run in (one, two)}
    need = {"experiment": "before", "where": {}, "accept": [], "job": None, "serves": serves}
    add_jobs(db, [job("before", runs=short, priority=1), job("after", runs=[one, two], needs=[need])])
    assert agreed(db) == [1, 2]
    executed(db, "succeeded")
    assert agreed(db) == [2, 3]
    executed(db, "failed")
    assert agreed(db) == [3], "the shape that failed holds back its own"
    claim = attempts.claim(db, device="cpu", worker_id=worker(db))
    assert claim is not None
    later = {"not_before": str(clock.Deadline.after(1000.0))}
    attempts.end(db, claim.ref, Ending.CRASHED, "died", requeue=later)
    assert agreed(db) == []


def test_a_run_that_a_search_queues_again_is_waited_for_again(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    of = searched(db, [{"distance": 1.0}], trials=2).job
    submitted(db, "birch", needs=needing(db, "searched", ["cancelled"]))
    trials.end(db, of, "budget", "its budget ended")
    assert agreed(db) == [2]
    trials.reopen(db, of)
    claim = claimed(db)
    assert claim.run_id == 1
    trials.end(db, of, "budget", "its budget ended")
    assert agreed(db) == [], "the search has ended again, and its run computes"
    attempts.end(db, claim.ref, Ending.SUCCEEDED, None)
    assert agreed(db) == [2]
