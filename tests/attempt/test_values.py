"""What the results store cannot hold is refused where it is said: once, with the value in the sentence."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from labqueue.attempt import retry_policy
from labqueue.attempt.recorder import RunRecorder
from labqueue.domain.artifacts import Text
from labqueue.domain.errors import LabError
from labqueue.domain.state import Ending
from labqueue.store.db import Database
from labqueue.store.queries import read
from tests import own_kinds
from tests.commands import call, refused, rows
from tests.conftest import Lab
from tests.store.factories import claimed, submitted

HUGE = "9" * 20
LONG = "9" * 5000

NUMBERS = {
    f"show {HUGE}": "no run",
    f"show {2**63}": "no run",
    f"cancel {HUGE}": "there is no run",
    f"cancel {LONG}": "there is no run",
    f"metrics {HUGE} value": "no run",
    f"logs {HUGE}": "no run",
    f"compare 1 {HUGE}": "no run",
    f"compare {LONG} 1": "no run",
    f"runs --limit {HUGE}": "--limit",
    f"prioritize 1 {HUGE}": "is not in the range",
    f"submit spec.yaml --priority {HUGE}": "is not in the range",
    f"submit spec.yaml --priority -{HUGE}": "is not in the range",
    f"submit spec.yaml --seeds {HUGE}": HUGE,
    f"submit spec.yaml --set steps={HUGE}": "whole number from -2^63",
    f"submit spec.yaml --sweep steps=1,-{HUGE}": "whole number from -2^63",
    f"pause 1 --for {HUGE}h": "100 years",
    f"pause 1 --for {LONG}s": "100 years",
}


@pytest.mark.parametrize("command", NUMBERS, ids=lambda command: command[:40])
def test_a_number_that_the_results_store_cannot_hold_is_refused_on_the_command_line(lab: Lab, command: str) -> None:
    submitted(lab.db, "mine")
    lab.spec("spec")
    before = rows(lab)
    message = refused(call(lab, *command.split(), "--json"))["message"]
    assert NUMBERS[command] in message
    assert rows(lab) == before
    assert call(lab, "status").code == 0


@pytest.mark.parametrize(
    "command", ["show", "cancel", "report", "archive", "retry", "submit spec.yaml --after", "runs"]
)
def test_a_word_that_is_no_text_is_refused_on_the_command_line(lab: Lab, command: str) -> None:
    submitted(lab.db, "mine")
    lab.spec("spec")
    message = refused(call(lab, *command.split(), "caf\udce9", "--json"))["message"]
    assert r"'caf\udce9' on the command line is not text" in message


SPECS = {
    "a deep number": ("params: {steps: 3, deep: {er: [1, 18446744073709551616]}}", "params.deep.er.1", "whole number"),
    "a number of a search": ("sweep: {random: {samples: 1, seed: -9223372036854775809, space: {}}}",
                             "sweep.random.seed", "whole number"),
    "a zero byte": (r'params: {witness: "a\0b"}', "params.witness", "zero byte"),
    "half of a pair in a key": (r'sweep: {grid: {"st\ud800": [1]}}', "sweep.grid", "half of a surrogate pair"),
    "half of a pair in a condition": (r'needs: [{experiment: a, where: {x: "\udfff"}}]', "needs.0.where.x",
                                      "half of a surrogate pair"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPECS)
def test_a_value_that_the_results_store_cannot_hold_is_refused_in_a_spec_at_its_line(lab: Lab, case: str) -> None:
    text, key, words = SPECS[case]
    path = lab.text(f"name: x\nkind: drill\n{text}\n")
    error = refused(call(lab, "submit", path, "--profile", "cpu", "--json"))
    assert (error["file"], error["line"], error["key"]) == (str(path), 3, key)
    assert words in error["message"]
    assert rows(lab) == {}


def test_a_whole_number_at_the_edge_is_taken(lab: Lab) -> None:
    path = lab.text(f"name: x\nkind: drill\nparams: {{fault_at: {2**63 - 1}}}\n")
    assert call(lab, "submit", path, "--profile", "cpu", "--priority", 10**9).code == 0
    assert call(lab, "show", 1, "--json").json["params"]["fault_at"] == 2**63 - 1


def test_a_step_is_taken_as_numpy_and_torch_have_it(lab: Lab, recorder: RunRecorder) -> None:
    import numpy
    import torch

    recorder.start()
    for step in (numpy.int64(1), torch.tensor(2), 3.0):
        recorder.metric("loss", numpy.float32(0.5), step)  # type: ignore[arg-type]  # people pass what they have
    recorder.close()
    assert read.series(lab.db, 1, "loss") == [(1, 0.5), (2, 0.5), (3, 0.5)]


@pytest.fixture
def recorder(lab: Lab) -> RunRecorder:
    db: Database = lab.db
    submitted(db, "mine")
    return RunRecorder(lab.settings, db, claimed(db), "cpu")


def never(_folder: Path) -> None:
    raise AssertionError("nothing is saved under a step that cannot be recorded")


SAYINGS: dict[str, tuple[Callable[[RunRecorder], None], str]] = {
    "a step": (lambda rec: rec.metric("loss", 1.0, 2**63), "step 9223372036854775808 of metric 'loss'"),
    "a step below": (lambda rec: rec.metric("loss", 1.0, -(2**63) - 1), "step -9223372036854775809 of metric 'loss'"),
    "a name with half of a pair": (lambda rec: rec.metric("lo\ud800ss", 1.0, 1), r"metric name 'lo\ud800ss'"),
    "a name with a zero byte": (lambda rec: rec.metric("lo\0ss", 1.0, 1), r"metric name 'lo\x00ss'"),
    # The wrong type is what is tried.
    "a name that is no text": (lambda rec: rec.metric(7, 1.0, 1), "metric name 7"),  # type: ignore[arg-type]
    "a step between two": (lambda rec: rec.metric("loss", 1.0, 1.5), "step 1.5 of metric 'loss' is no whole"),  # type: ignore[arg-type]
    "a step that is no number": (lambda rec: rec.metric("loss", 1.0, "2"), "step '2' of metric 'loss' is no"),  # type: ignore[arg-type]
    "a value beyond floats": (lambda rec: rec.metric("loss", 10**400, 1), "of metric 'loss' is no number that can be"),
    "a value that is text": (lambda rec: rec.metric("loss", "low", 1), "value 'low' of metric 'loss' is no"),  # type: ignore[arg-type]
    "a note": (lambda rec: rec.note("said \udfff"), r"note 'said \udfff'"),
    "a sample's step": (lambda rec: rec.sample(2**63, "p", "t"), "step 9223372036854775808 of a sample"),
    "a prompt": (lambda rec: rec.sample(1, "p\0", "t"), r"prompt 'p\x00'"),
    "a phase": (lambda rec: rec.progress(1, 2, phase="a\ud800"), r"phase 'a\ud800'"),
    "progress": (lambda rec: rec.progress(1, 10**30), f"progress 1 of {10**30}"),
    "an artifact's name": (lambda rec: rec.artifact("a\ud800", Text(text="fine")), r"artifact name 'a\ud800'"),
    "an artifact": (lambda rec: rec.artifact("a", Text(text="\ud800")), "artifact 'a'"),
    "a checkpoint": (lambda rec: rec.checkpoint(2**63, never), "checkpoint of step 9223372036854775808"),
}


@pytest.mark.parametrize("what", SAYINGS)
def test_what_a_run_says_that_the_results_store_cannot_hold_is_refused_by_name_and_the_rest_is_stored(
    lab: Lab, recorder: RunRecorder, what: str
) -> None:
    say, words = SAYINGS[what]
    recorder.start()
    recorder.metric("good", 1.0, 1)
    with pytest.raises(LabError) as caught:
        say(recorder)
    assert words in str(caught.value)
    str(caught.value).encode()
    recorder.metric("good", 2.0, 2)
    recorder.close()
    assert recorder.refused is None
    assert read.series(lab.db, 1, "good") == [(1, 1.0), (2, 2.0)]
    assert read.metric_names(lab.db, 1) == ["good"]


def test_what_a_model_wrote_is_kept_with_what_no_text_holds_as_escapes(lab: Lab, recorder: RunRecorder) -> None:
    """It is no fault of the run: a model that has learnt nothing yet writes any bytes."""
    recorder.sample(1, "Once", "a\0b\udfffc")
    recorder.close()
    assert [(sample.step, sample.text) for sample in read.run(lab.db, 1).samples] == [(1, r"a\x00b\udfffc")]


TAB = "    "

KINDS = {
    "says": """
        for step in range(3):
            rec.metric("good", 1.0, step)
        rec.metric("step", 1.0, 2**63)
    """,
    "unfit": """
        from labqueue.domain import artifacts
        rec.artifact("kept", artifacts.Files(type="text", path=pathlib.Path("x")))
    """,
    # Somebody damages the results store: nothing that is measured can be stored, and no later attempt could.
    "damaged": """
        import sqlite3
        results = sqlite3.connect(pathlib.Path(os.environ["LABQUEUE_ROOT"]) / "results.db")
        results.execute("ALTER TABLE metrics RENAME TO lost")
        results.close()
        for step in range(10_000):
            rec.metric("good", 1.0, step)
            time.sleep(0.01)
    """,
}
ENDINGS = {
    "says": "step 9223372036854775808 of metric 'step' is no whole number from -2^63 to 2^63 - 1",
    "unfit": "ValidationError: Files: type: Input should be 'file' or 'model'",
    "damaged": "what the run measured could not be stored: ",
}


def test_a_run_that_says_what_cannot_be_stored_fails_once_and_the_queue_goes_on(lab: Lab) -> None:
    head = "import os, pathlib, time\nfrom labqueue.domain import kind\nclass Params(kind.Params):\n    pass\n"
    sources = {
        name: f"{head}def run(params, rec):\n{textwrap.indent(textwrap.dedent(body), TAB)}"
        for name, body in KINDS.items()
    }
    own = own_kinds.install(lab.root, sources)
    for name in KINDS:
        assert lab.run("submit", lab.spec(name, kind=name), "--profile", "cpu", **own).code == 0
    assert lab.run("worker", "--drain", "--device", "cpu", **own).code == 1
    for run, name in enumerate(KINDS, 1):
        view = call(lab, "show", run, "--json").json
        assert view["outcome"] == "failed", name
        assert view["reason"].startswith(ENDINGS[name])
        assert len(view["attempts"]) == 1
    assert call(lab, "status", "--json").json["paused"] is None


def test_the_words_of_an_error_are_kept_with_what_no_text_holds_as_escapes(lab: Lab) -> None:
    submitted(lab.db, "mine")
    claim = claimed(lab.db)
    retry_policy.conclude(lab.db, claim, Ending.FAILED, "left \ud800 and \0", None)
    assert call(lab, "show", 1, "--json").json["reason"] == r"left \ud800 and \x00"
