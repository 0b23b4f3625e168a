"""Samples, phases and what is kept on demand: from a run's process to whoever asks."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from labqueue.attempt.recorder import RunRecorder
from labqueue.domain.artifacts import Files, Page, Tensor
from labqueue.domain.errors import LabError
from labqueue.domain.state import Ending
from labqueue.kinds import drill
from labqueue.store.queries import read
from labqueue.store.runs import attempts, control, results
from tests import own_kinds
from tests.attempt.test_checkpoints import GATED
from tests.commands import call, refused
from tests.conftest import Lab, wait_until
from tests.helpers_recorder import MemoryRecorder
from tests.store.factories import claimed, executed, submitted

STEPS = 20
SAID = {"steps": STEPS, "step_s": 0.0, "checkpoint_every": 5, "sample_every": 1}


def gated(lab: Lab, tmp_path: Path) -> dict[str, Any]:
    """Submits a drill that waits at step 8 until the gate is open."""
    own = own_kinds.install(tmp_path, {"gated": GATED + "\n    KEEPS_ON_DEMAND = True\n"})
    assert lab.run("submit", lab.spec(kind="gated", params=SAID), "--profile", "cpu", **own).code == 0
    return own


def query(lab: Lab, words: str) -> list[Any]:
    """Rows of the results store, read past the lab."""
    connection = sqlite3.connect(lab.settings.database)
    found = connection.execute(words).fetchall()
    connection.close()
    return found


def at_step_8(lab: Lab) -> bool:
    return query(lab, "SELECT progress_done FROM runs") == [(8,)]


def test_samples_of_a_run_that_was_killed_are_those_of_one_that_was_not(lab: Lab, tmp_path: Path) -> None:
    own = gated(lab, tmp_path)
    worker = lab.start("worker", "--device", "cpu", "--drain", **own)
    wait_until(lambda: at_step_8(lab) and query(lab, "SELECT max(step) FROM samples") == [(8,)])
    ((pid,),) = query(lab, "SELECT pid FROM attempts")
    os.kill(pid, signal.SIGKILL)
    (lab.root / "gate").touch()
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    whole = MemoryRecorder(tmp_path / "whole")
    drill.run(drill.Params(**SAID), whole)
    view = call(lab, "show", 1, "--json").json
    assert [attempt["resumed_from_step"] for attempt in view["attempts"]] == [None, 5]
    assert {(each["step"], each["prompt"]): each["text"] for each in view["samples"]} == whole.samples
    assert len(view["samples"]) == 2 * STEPS
    assert [each["number"] for each in view["samples"]] == [0, 1] * STEPS
    written = dict(query(lab, "SELECT step, max(attempt) FROM samples GROUP BY step"))
    assert written == {step: 1 if step <= 5 else 2 for step in range(1, STEPS + 1)}
    shown = call(lab, "show", 1).out
    assert "samples of step 20; those of 19 earlier steps" in shown
    assert "    and then it is done" in shown


def test_a_person_who_asks_gets_what_the_run_has_now_once(lab: Lab, tmp_path: Path) -> None:
    own = gated(lab, tmp_path)
    worker = lab.start("worker", "--device", "cpu", "--drain", **own)
    wait_until(lambda: at_step_8(lab))
    answer = lab.run("checkpoint", "1", "--json", **own)
    assert (answer.code, answer.json) == (0, {"schema": 1, "asked": [1]})
    (lab.root / "gate").touch()
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    view = call(lab, "show", 1, "--json").json
    (kept,) = view["artifacts"]
    assert kept["type"] == "model"
    assert 8 < int(kept["name"].removeprefix("step_")) <= STEPS
    assert f"kept as {kept['name']}, as a person asked" in [event["text"] for event in view["history"]]
    assert query(lab, "SELECT keep_asked_at FROM runs") == [(None,)]


@pytest.fixture
def recorder(lab: Lab) -> RunRecorder:
    submitted(lab.db, "mine")
    return RunRecorder(lab.settings, lab.db, claimed(lab.db), "cpu")


def model(folder: Path) -> Files:
    (folder / "weights").write_text("w")
    return Files(type="model", path=folder / "weights")


def test_what_was_asked_for_is_wanted_until_a_model_is_stored(lab: Lab, recorder: RunRecorder, tmp_path: Path) -> None:
    recorder.flush()
    assert recorder.keep_wanted is False
    control.keep(lab.db, 1)
    recorder.flush()
    assert (recorder.keep_wanted, recorder.should_stop) == (True, None)
    recorder.artifact("log", Files(path=model(tmp_path).path))
    assert recorder.keep_wanted is True, "a file is no model"
    recorder.artifact("step_000001", model(tmp_path))
    assert recorder.keep_wanted is False
    recorder.flush()
    assert recorder.keep_wanted is False
    control.keep(lab.db, 1)
    recorder.flush()
    assert recorder.keep_wanted is True, "a person may ask again"


def test_what_was_asked_for_is_wanted_of_the_next_attempt_too(lab: Lab, recorder: RunRecorder) -> None:
    control.keep(lab.db, 1)
    recorder.close()
    attempts.interrupt(lab.db, attempts.Ref(1, 1), "its worker died")
    second = RunRecorder(lab.settings, lab.db, claimed(lab.db), "cpu")
    second.flush()
    assert second.keep_wanted is True
    attempts.end(lab.db, attempts.Ref(1, 2), Ending.FAILED, "why")
    history = read.run(lab.db, 1).history
    assert "the run ended before it kept what a person asked for" in [event.text for event in history]
    assert query(lab, "SELECT keep_asked_at FROM runs") == [(None,)]


def test_what_cannot_keep_anything_now_refuses_to(lab: Lab) -> None:
    submitted(lab.db, "mine", [{"at": 1}, {"at": 2}])
    executed(lab.db)
    for run, words in ((1, "run 1 is not running (succeeded)"), (2, "run 2 is not running (queued)"), (9, "no run 9")):
        assert words in refused(call(lab, "checkpoint", run, "--json"))["message"]
    with lab.db.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET kind = 'generate' WHERE id = 2")
    claimed(lab.db)
    message = refused(call(lab, "checkpoint", 2, "--json"))["message"]
    assert message.startswith("run 2 is of kind 'generate', which keeps nothing on demand")
    assert "is not in the range" in refused(call(lab, "checkpoint", 0, "--json"))["message"]
    assert query(lab, "SELECT count(*) FROM runs WHERE keep_asked_at IS NOT NULL") == [(0,)]


def test_each_phase_has_a_rate_of_its_own(lab: Lab, recorder: RunRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("labqueue.attempt.recorder.time.monotonic", lambda: now[0])
    for done in range(0, 500_001, 100_000):
        recorder.progress(done, 10**6, phase="tokenizing")
        now[0] += 1.0
    recorder.flush()
    view = read.run(lab.db, 1)
    assert (view.progress.done, view.progress.total, view.progress.phase) == (500_000, 10**6, "tokenizing")
    assert view.eta_s == pytest.approx(5.0)
    recorder.progress(0, 100)
    recorder.flush()
    assert read.run(lab.db, 1).eta_s is None, "one call has no rate, and tokens a second are not steps a second"
    now[0] += 2.0
    recorder.progress(1, 100)
    recorder.flush()
    view = read.run(lab.db, 1)
    assert (view.progress.phase, view.eta_s) == (None, pytest.approx(198.0))


def test_status_names_the_phase(lab: Lab) -> None:
    submitted(lab.db, "mine")
    claim = claimed(lab.db)
    results.flush(lab.db, claim.ref, [], results.Progress(3, 12, 1.0, "tokenizing"), [])
    assert "tokenizing 3/12 (25 %)" in call(lab, "status").out
    assert "tokenizing 3/12" in call(lab, "show", 1).out
    assert call(lab, "status", "--json").json["running"][0]["progress"]["phase"] == "tokenizing"
    results.flush(lab.db, claim.ref, [], results.Progress(3, 12, 1.0), [])
    assert " 3/12 (25 %)" in call(lab, "status").out
    assert "tokenizing" not in call(lab, "status").out


def test_the_end_of_a_phase_is_not_the_end_of_the_queue(lab: Lab) -> None:
    submitted(lab.db, "mine", [{"at": 1}, {"at": 2}])
    executed(lab.db)
    with lab.db.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET wall_s = 100.0 WHERE id = 1")
    claim = claimed(lab.db)
    results.flush(lab.db, claim.ref, [], results.Progress(3, 12, 1.0, "tokenizing"), [])
    assert call(lab, "status", "--json").json["eta_s"] == pytest.approx(100.0, abs=5.0)
    results.flush(lab.db, claim.ref, [], results.Progress(3, 12, 0.01, "tokenizing"), [])
    assert call(lab, "status", "--json").json["eta_s"] == pytest.approx(900.0)
    results.flush(lab.db, claim.ref, [], results.Progress(3, 12, 1.0), [])
    assert call(lab, "status", "--json").json["eta_s"] == pytest.approx(9.0)


def test_a_tensor_and_a_page_are_kept_as_they_are_with_their_hash(
    lab: Lab, recorder: RunRecorder, tmp_path: Path
) -> None:
    numbers, html = bytes(range(256)) * 40, "<!doctype html><title>é</title>"
    (tmp_path / "maps").write_bytes(numbers)
    recorder.artifact("maps", Tensor(path=tmp_path / "maps"))
    recorder.artifact("page", Page(html=html))
    kept = {each.name: each for each in read.run(lab.db, 1).artifacts}
    assert {name: each.type for name, each in kept.items()} == {"maps": "tensor", "page": "page"}
    for name, wanted, file in (("maps", numbers, "maps"), ("page", html.encode(), "page.html")):
        path = lab.settings.root / kept[name].path
        assert (path.name, path.read_bytes()) == (file, wanted)
        assert (kept[name].bytes, kept[name].sha256) == (len(wanted), hashlib.sha256(wanted).hexdigest())


def test_a_tensor_is_one_file(recorder: RunRecorder, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"artifact 'maps': .* is no file; a tensor is one"):
        recorder.artifact("maps", Tensor(path=tmp_path))
