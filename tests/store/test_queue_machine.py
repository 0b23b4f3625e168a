"""The queue under every order of submissions, claims, endings, deaths and requests that Hypothesis can think of.

The real store on a real file, against ``queue_model``: state, outcome, what each run waits for, what a worker gets
next, metrics, checkpoints and every attempt's ending must be the model's after each step. Time alone is ours.
``LABQUEUE_CHAOS_EXAMPLES=2000`` makes it a long search.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from labqueue.attempt import retry_policy
from labqueue.domain.errors import LabError
from labqueue.domain.state import Ending
from labqueue.store.queries import read
from labqueue.store.runs import attempts, control, results
from labqueue.store.runs.attempts import Claim, Fenced, Ref
from labqueue.system import clock
from labqueue.worker import recovery
from tests.store.eligibility_rule import ready_now
from tests.store.factories import needing, results_store, submitted, worker
from tests.store.queue_model import Model

EXPERIMENTS = ("ash", "birch", "cedar")
DEVICES = ("cpu", "cuda")
ENDINGS = [ending for ending in Ending if ending is not Ending.INTERRUPTED]
"""Interruptions have a rule of their own."""

START_S = 1_800_000_000.0

EXAMPLES = int(os.environ.get("LABQUEUE_CHAOS_EXAMPLES", "0"))

some = st.integers(0, 30)
"""Chooses one of what there is, by its remainder."""
steps = st.integers(1, 12)
requests = st.sampled_from([None, None, "cancel", "pause", "cancel, pause"])
targets = st.tuples(st.sampled_from(["run", "run", "experiment", "queue"]), some)


def pulled(model: Model, runs: list[Any], priority: int) -> list[int]:
    """Gives all that the runs wait for, directly or not, at least their priority; returns what was lower."""
    lower, seen, frontier = [], {run.id for run in runs}, list(runs)
    while frontier:
        run = frontier.pop()
        if run.state == "finished" or run.released:
            continue
        behind = [model.runs[i] for job, _ in model.jobs[run.job][2] for i in model.jobs[job][1]]
        for needed in behind:
            if needed.id not in seen:
                seen.add(needed.id)
                frontier.append(needed)
                if needed.state != "finished" and needed.priority < priority:
                    needed.priority = priority
                    lower.append(needed.id)
    return sorted(lower)


class Queue(RuleBasedStateMachine):
    """The store's own doors on one side of each rule, the model on the other."""

    def __init__(self) -> None:
        super().__init__()
        # In memory where there is such a place: an fsync costs nothing there, and power cuts are not tried here.
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.clock = pytest.MonkeyPatch()
        self.clock.setattr(clock, "now", lambda: START_S + self.model.now)
        self.clock.setattr(clock, "boot_s", lambda: 1000.0 + self.model.now)
        self.model: Any = Model()
        self.db = results_store(Path(self.folder.name))
        self.workers = {device: worker(self.db, device) for device in DEVICES}
        self.claims: dict[int, Claim] = {}
        self.stale: list[Ref] = []

    def teardown(self) -> None:
        self.db.close()
        self.clock.undo()
        self.folder.cleanup()

    # What is there to choose from.

    def of_state(self, *states: str) -> list[Any]:
        return [run for run in self.model.runs.values() if run.state in states]

    def running(self, at: int) -> Any:
        mine = self.of_state("running")
        return mine[at % len(mine)]

    def target(self, named: tuple[str, int]) -> tuple[str, list[Any], str | None]:
        """(the word a person types, the model's runs that it names, the switch that it is)."""
        kind, at = named
        runs = list(self.model.runs.values())
        if kind == "run":
            run = runs[at % len(runs)]
            return str(run.id), [run], None
        if kind == "experiment":
            name = runs[at % len(runs)].what[0]
            return name, [run for run in runs if run.what[0] == name], name
        return "queue", runs, ""

    # People.

    @initialize()
    def begin(self) -> None:
        self.submit("ash", "cpu", 0, 2, False, [])

    @precondition(lambda self: len(self.of_state("queued", "running")) < 6)
    @rule(
        experiment=st.sampled_from(EXPERIMENTS),
        device=st.sampled_from(DEVICES),
        priority=st.integers(-1, 1),
        points=st.integers(1, 3),
        force=st.booleans(),
        needs=st.lists(
            st.tuples(st.sampled_from(EXPERIMENTS), st.sampled_from([(), ("failed", "cancelled"), None])), max_size=2
        ),
    )
    def submit(self, experiment: str, device: str, priority: int, points: int, force: bool, needs: list[Any]) -> None:
        known = {name for name, _, _ in self.model.jobs.values()}
        needs = [(name, accept) for name, accept in needs if name in known]
        accepted = [(name, None if accept is None else list(accept)) for name, accept in needs]
        frozen = [need for name, accept in accepted for need in needing(self.db, name, accept)]
        sweep = [{"steps": step} for step in range(1, points + 1)]
        made = submitted(self.db, experiment, sweep, device=device, priority=priority, force=force, needs=frozen)
        self.model.submit(experiment, device, priority, range(1, points + 1), needs, force)
        assert made.runs == self.model.jobs[made.job][1]
        pulled(self.model, [run for run in self.model.runs.values() if run.job == made.job], priority)

    @rule(named=targets)
    def cancel(self, named: tuple[str, int]) -> None:
        word, runs, switch = self.target(named)
        if switch is None and runs[0].state == "finished":
            with pytest.raises(LabError):
                control.cancel(self.db, word)
            return
        ended, asked = control.cancel(self.db, word)
        assert ended == [run.id for run in runs if run.state == "queued"]
        assert asked == [run.id for run in runs if run.state == "running"]
        for run in runs:
            if run.state == "queued":
                run.state, run.outcome, run.paused = "finished", "cancelled", 0
            elif run.state == "running":
                run.request = "cancel"

    @rule(named=targets, for_s=st.sampled_from([None, 5.0, 100.0]))
    def pause(self, named: tuple[str, int], for_s: float | None) -> None:
        word, runs, switch = self.target(named)
        if switch is None and runs[0].state == "finished":
            with pytest.raises(LabError):
                control.pause(self.db, word, for_s)
            return
        control.pause(self.db, word, for_s)
        until = float("inf") if for_s is None else self.model.now + for_s
        if switch is not None:
            self.model.pauses[switch] = until
        for run in runs:
            if run.state != "finished":
                run.paused = until if switch is None else run.paused
                run.request = "pause" if (run.state, run.request) == ("running", None) else run.request

    @rule(named=targets)
    def resume(self, named: tuple[str, int]) -> None:
        word, runs, switch = self.target(named)
        assert control.resume(self.db, word) == [run.id for run in runs if run.state == "queued"]
        if switch is not None:
            self.model.pauses = {} if switch == "" else {k: v for k, v in self.model.pauses.items() if k != switch}
        for run in runs:
            if run.state != "finished":
                run.paused = 0
                run.request = None if run.request == "pause" else run.request

    @rule(named=targets, failed_only=st.booleans())
    def retry(self, named: tuple[str, int], failed_only: bool) -> None:
        word, runs, switch = self.target(named)
        if switch is None and (runs[0].state != "finished" or runs[0].outcome == "succeeded"):
            with pytest.raises(LabError):
                control.retry(self.db, word, failed_only=failed_only)
            return
        kept = {"succeeded"} | ({"pruned"} if switch is not None else set())
        kept |= {"cancelled", "pruned"} if failed_only else set()
        again = [run for run in runs if run.state == "finished" and run.outcome not in kept]
        assert control.retry(self.db, word, failed_only=failed_only) == [run.id for run in again]
        for run in again:
            run.state, run.outcome, run.used, run.stalls, run.wait = "queued", None, 0, 0, 0

    @rule(named=targets)
    def release(self, named: tuple[str, int]) -> None:
        word, runs, _ = self.target(named)
        freed = [run for run in runs if run.state == "queued"]
        assert control.release(self.db, word) == [run.id for run in freed]
        for run in freed:
            run.released, run.paused, run.wait = True, 0, 0

    @rule(named=targets, priority=st.integers(-2, 2))
    def prioritize(self, named: tuple[str, int], priority: int) -> None:
        word, runs, _ = self.target(named)
        changed = [run for run in runs if run.state != "finished"]
        for run in changed:
            run.priority = priority
        raised = pulled(self.model, changed, priority)
        assert control.prioritize(self.db, word, priority) == ([run.id for run in changed], raised)

    @rule(seconds=st.sampled_from([0.5, 2.0, 30.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.model.now += seconds

    # Workers and their children.

    @rule(device=st.sampled_from(DEVICES))
    def claim(self, device: str) -> None:
        expected = self.model.next(device)
        got = attempts.claim(self.db, device=device, worker_id=self.workers[device])
        assert (got and got.run_id) == (expected and expected.id)
        if got is None:
            return
        assert (got.attempt, got.attempts_used) == (expected.attempt + 1, expected.used)
        saved = read.checkpoints(self.db, got.run_id)
        attempts.begin(self.db, got.ref, saved[0].step if saved else None)
        hashes = {"sources_hash": "s", "packages_hash": "p"}
        attempts.attempt_fields(self.db, got.ref, **hashes)
        self.claims[got.run_id] = got
        self.model.claim(expected)

    @precondition(lambda self: self.of_state("running"))
    @rule(at=some)
    def renew(self, at: int) -> None:
        run = self.running(at)
        assert attempts.renew(self.db, Ref(run.id, run.attempt)) == run.request

    @precondition(lambda self: self.of_state("running"))
    @rule(at=some, step=steps, value=st.sampled_from([0.5, -1.0, None]))
    def measure(self, at: int, step: int, value: float | None) -> None:
        run = self.running(at)
        progress = results.Progress(step, 12, None)
        asked = results.flush(self.db, Ref(run.id, run.attempt), [("value", step, value)], progress, [])
        assert asked.stop == run.request
        run.points[step], run.done = value, step

    @precondition(lambda self: self.of_state("running"))
    @rule(at=some, step=steps, value=st.sampled_from([0.5, 2.0]))
    def checkpoint(self, at: int, step: int, value: float) -> None:
        run = self.running(at)
        file = {"path": f"step-{step}", "sha256": "0", "bytes": 1}
        results.add_checkpoint(
            self.db, Ref(run.id, run.attempt), step=step, points=[("value", step, value)], keep=2, **file
        )
        run.points[step] = value
        self.model.save(run, step)

    def ended(self, run: Any, ending: str, **how: Any) -> None:
        self.stale.append(Ref(run.id, run.attempt))
        self.model.end(run, ending, **how)

    def request(self, run: Any, request: str | None) -> None:
        """A person's wish that comes just before an attempt ends by itself."""
        at = list(self.model.runs).index(run.id)
        for wish in request.split(", ") if request else ():
            if wish == "cancel":
                self.cancel(("run", at))
            else:
                self.pause(("run", at), None)

    @precondition(lambda self: self.of_state("running"))
    @rule(at=some, ending=st.sampled_from(ENDINGS), request=requests)
    def end(self, at: int, ending: Ending, request: str | None) -> None:
        run = self.running(at)
        self.request(run, request)
        retry_policy.conclude(self.db, self.claims[run.id], ending, "a reason")
        self.ended(run, str(ending))

    @precondition(lambda self: self.of_state("running"))
    @rule(at=some, asked=st.booleans(), request=requests)
    def interrupt(self, at: int, asked: bool, request: str | None) -> None:
        run = self.running(at)
        self.request(run, request)
        if attempts.interrupt(self.db, Ref(run.id, run.attempt), "the worker was stopped", asked=asked):
            retry_policy.conclude(self.db, self.claims[run.id], Ending.CRASHED, "again and again")
        self.ended(run, "interrupted", asked=asked)

    @precondition(lambda self: self.of_state("running"))
    @rule(device=st.sampled_from(DEVICES))
    def worker_dies(self, device: str) -> None:
        """And the next one takes back what it left."""
        left = [run for run in self.of_state("running") if run.what[1] == device]
        assert sorted(recovery.reclaim(self.db, device, 0.0)) == [run.id for run in left]
        self.workers[device] = worker(self.db, device)
        for run in left:
            cancelled = run.request == "cancel"
            self.ended(run, "cancelled" if cancelled else "interrupted", asked=run.request == "pause")

    @rule(device=st.sampled_from(DEVICES), times=st.integers(2, 5), crash=st.booleans())
    def one_bad_end_after_the_other(self, device: str, times: int, crash: bool) -> None:
        for _ in range(times):
            self.claim(device)
            left = [at for at, run in enumerate(self.of_state("running")) if run.what[1] == device]
            if left and crash:
                self.end(left[-1], Ending.CRASHED, None)
            elif left:
                self.interrupt(left[-1], False, None)
            self.the_results_store_is_the_model()
            self.model.now += 6.0

    @precondition(lambda self: self.stale)
    @rule(at=some, step=steps)
    def a_ghost_writes(self, at: int, step: int) -> None:
        """What an attempt that lost its run tries is refused; that it changed nothing, the invariant sees."""
        ghost = self.stale[at % len(self.stale)]
        file = {"path": "p", "sha256": "0", "bytes": 1}
        for attempt in (
            lambda: results.flush(self.db, ghost, [("value", step, 99.0)], results.Progress(99, 99, None), ["note"]),
            lambda: results.add_checkpoint(self.db, ghost, step=step, points=[], keep=2, **file),
            lambda: results.drop_checkpoint(self.db, ghost, step, "a lie"),
            lambda: results.add_artifact(self.db, ghost, name="a", type="text", **file),
            lambda: attempts.begin(self.db, ghost, None),
            lambda: attempts.renew(self.db, ghost),
            lambda: attempts.interrupt(self.db, ghost, "late"),
            lambda: attempts.end(self.db, ghost, Ending.SUCCEEDED, None),
            lambda: read.asked(self.db, ghost),
        ):
            with pytest.raises(Fenced):
                attempt()

    @rule()
    def the_power_comes_back(self) -> None:
        self.db.close()
        self.db = results_store(Path(self.folder.name))

    # What everybody sees.

    @invariant()
    def the_results_store_is_the_model(self) -> None:
        runs = list(self.model.runs.values())
        eligible = {device: ready_now(self.db, device) for device in DEVICES}
        for run, view in zip(runs, read.runs(self.db, [run.id for run in runs]), strict=True):
            waiting = self.model.waiting(run) if run.state == "queued" else None
            assert (view.state, view.outcome) == (run.state, run.outcome), view
            assert (view.waiting and view.waiting.code) == waiting, view
            assert (view.priority, view.artifacts) == (run.priority, []), view
            open_attempt = []
            if run.state == "running":
                open_attempt = [None]
                assert read.asked(self.db, Ref(run.id, run.attempt)).stop == run.request, view
            assert [attempt.outcome for attempt in view.attempts] == [*run.endings, *open_attempt], view
            assert [attempt.number for attempt in view.attempts] == list(range(1, run.attempt + 1)), view
            if run.state == "queued":
                assert eligible[run.what[1]].count(run.id) == (waiting is None), view
            assert dict(read.series(self.db, run.id, "value")) == run.points, view
            assert [row.step for row in read.checkpoints(self.db, run.id)] == sorted(run.saved, reverse=True), view


Queue.TestCase.settings = settings(
    max_examples=EXAMPLES or 30,
    stateful_step_count=80 if EXAMPLES else 30,
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)


TestQueue = Queue.TestCase


def test_the_model_is_one_page() -> None:
    text = Path(__file__).with_name("queue_model.py").read_text()
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 120
    assert "labqueue" not in text, "it knows nothing of what it judges"
