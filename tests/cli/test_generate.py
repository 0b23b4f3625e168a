"""``labqueue generate``: a kept model goes on with a prompt, streamed, seeded, under the device's lock."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from labqueue.cli.generate import _model, _Printed
from labqueue.domain.errors import LabError
from labqueue.domain.state import Ending
from labqueue.domain.views import SampleView
from labqueue.llm.models import tiny
from labqueue.store.queries import read
from labqueue.store.runs import attempts, inputs, results
from labqueue.system.files import sha256
from tests.commands import call, refused
from tests.conftest import Lab, wait_until
from tests.report.factories import make_run
from tests.store.factories import claimed, submitted, worker

WORDS = ("--prompt", "Once", "--prompt", "Twice", "--max-new-tokens", "6", "--profile", "cpu")


def kept(lab: Lab, *names: str, kind: str = "model", ending: Ending | None = Ending.SUCCEEDED) -> None:
    """Run 1, which has left models (random weights) under these names."""
    submitted(lab.db, "taught")
    claim = claimed(lab.db)
    for name in names:
        folder = lab.settings.run("taught", claim.run_id) / name
        tiny.write(folder)
        path = lab.settings.relative(folder)
        results.add_artifact(lab.db, claim.ref, name=name, type=kind, path=path, sha256=sha256(folder), bytes=1)
    if ending is not None:
        attempts.end(lab.db, claim.ref, ending, None)
    with lab.db.write() as connection:
        connection.exec_driver_sql("UPDATE workers SET ended_at = 1.0")


def outcomes(lab: Lab) -> dict[int, str | None]:
    return {view.id: view.outcome for view in read.recent(lab.db, 100)}


def test_a_kept_model_goes_on_with_prompts_and_says_the_same_for_the_same_seed(lab: Lab) -> None:
    """Without a worker: an own one executes this run and no other."""
    kept(lab, "final")
    submitted(lab.db, "waits")
    first = lab.run("generate", "1", *WORDS)
    assert first.code == 0, first.err
    view = read.run(lab.db, 3)
    assert (view.experiment, view.outcome) == ("generate_taught", "succeeded")
    assert view.params["model"] == "outputs/taught/1/final"
    once, twice = (sample.text for sample in view.samples)
    assert [sample.prompt for sample in view.samples] == ["Once", "Twice"]
    assert first.out.startswith("Once")
    assert "\n\nTwice" in first.out
    assert outcomes(lab)[2] is None, "what waited still waits"
    again = call(lab, "generate", 1, *WORDS, "--json")
    assert (again.json["run"], again.json["reused"]) == (3, True)
    assert [each["text"] for each in again.json["samples"]] == [once, twice]
    other = lab.run("generate", "1", *WORDS, "--seed", "1", "--json")
    assert (other.json["run"], other.json["reused"], other.json["outcome"]) == (4, False, "succeeded")
    assert [each["text"] for each in other.json["samples"]] != [once, twice]


def test_an_adapter_on_the_next_seeds_base_is_asked_on_the_base_that_it_took(lab: Lab) -> None:
    """Though the next seed is another by now."""
    submitted(lab.db, "base", seeds=[0, 5])
    for _ in range(2):
        claim = claimed(lab.db)
        results.add_artifact(lab.db, claim.ref, name="final", type="model", path="p", sha256=f"s{claim.seed}", bytes=1)
        attempts.end(lab.db, claim.ref, Ending.SUCCEEDED, None)
    base = {"from_run": {"experiment": "base", "seed": "next", "artifact": "final"}}
    submitted(lab.db, "adapted", points=[{"model": base}])
    claim = claimed(lab.db)
    (taken,) = inputs.taken(lab.db, claim.ref, {"model": base}, claim.seed)
    assert taken.artifact.sha256 == "s5"
    submitted(lab.db, "base", seeds=[3])
    folder = lab.settings.root / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    source = read.run(lab.db, claim.run_id)
    asked = _model(lab.settings, lab.db, source, "adapter")
    assert asked["model"] == {"from_run": {"experiment": "base", "seed": 5, "artifact": "final"}}
    with lab.db.write() as connection:
        connection.exec_driver_sql("UPDATE inputs SET source_run_id = NULL")
    with pytest.raises(LabError, match="of a run of 'base' that is not in this workspace"):
        _model(lab.settings, lab.db, source, "adapter")


def test_ctrl_c_cancels_the_run(lab: Lab) -> None:
    """Executed by a worker of the command's own once the lease of one that died a moment ago has lapsed."""
    kept(lab, "final")
    worker(lab.db)
    # More than can be written before the signal comes, however late that is.
    prompts = [word for number in range(40) for word in ("--prompt", f"Once {number}")]
    process = lab.start("generate", "1", *prompts, "--max-new-tokens", "900", "--profile", "cpu")
    wait_until(lambda: any(view.state == "running" for view in read.recent(lab.db, 9)), 120.0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "run 2 is cancelled" in said
    assert wait_until(lambda: outcomes(lab)[2]) == "cancelled"


def test_a_paused_queue_is_said_and_the_run_waits_on(lab: Lab) -> None:
    kept(lab, "final")
    assert call(lab, "pause", "queue").code == 0
    answer = lab.run("generate", "1", *WORDS)
    assert answer.code == 2
    assert "nobody executes it now" in answer.err
    assert "paused" in answer.err
    assert outcomes(lab)[2] is None


REFUSALS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "no such artifact": ({"names": ("final", "step_000500")}, ("--artifact", "step_00600"), "mean 'step_000500'"),
    "several": ({"names": ("adapter", "merged")}, (), "name one with --artifact: adapter, merged"),
    "none": ({"names": ()}, (), "run 1 (taught, kind drill) has left no model"),
    "none yet": ({"names": (), "ending": None}, (), "`labqueue checkpoint 1` asks for one"),
    "a file is no model": ({"names": ("final",), "kind": "file"}, (), "has left no model"),
    "nothing to draw": ({"names": ("final",)}, ("--temperature", "0", "--top-k", "3"), "draws nothing"),
    "twice": ({"names": ("final",)}, ("--prompt", "Once"), "listed twice"),
    "no room": ({"names": ("final",)}, ("--prompt", "a" * 1024), "no room is left for a single one more"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_asked_is_refused_before_a_run_is_made(lab: Lab, what: str) -> None:
    made, words, said = REFUSALS[what]
    options = dict(made)
    kept(lab, *options.pop("names"), **options)
    answer = call(lab, "generate", 1, "--prompt", "Once", *words, "--profile", "cpu", "--json")
    assert said in refused(answer)["message"]
    assert list(outcomes(lab)) == [1]


def test_a_model_without_a_class_of_transformers_and_one_that_is_gone_are_refused(lab: Lab) -> None:
    kept(lab, "final")
    folder = lab.settings.run("taught", 1) / "final"
    (folder / "config.json").rename(folder / "gpt.json")
    words = ("generate", 1, "--prompt", "Once", "--profile", "cpu", "--json")
    message = refused(call(lab, *words))["message"]
    assert "model folder 'outputs/taught/1/final' has no Hugging Face class" in message
    folder.rename(folder.with_name("elsewhere"))
    assert "its files are gone" in refused(call(lab, *words))["message"]
    assert "no run 9" in refused(call(lab, "generate", 9, "--prompt", "a", "--json"))["message"]


def test_text_is_printed_once_as_it_grows(capsys: pytest.CaptureFixture[str]) -> None:
    printed = _Printed(quiet=False)

    def seen(*texts: tuple[str, str], state: str = "running") -> str:
        samples = [SampleView(0, number, prompt, text) for number, (prompt, text) in enumerate(texts)]
        printed.show(make_run(1, outcome=None, state=state, samples=samples))
        return capsys.readouterr().out

    assert seen() == ""
    assert seen(("Once", "")) == "Once"
    assert seen(("Once", " upon")) == " upon"
    assert seen(("Once", " up")) == "", "an attempt that begins again"
    assert seen(("Once", " upon a"), ("Twice", "")) == " a\n\nTwice"
    assert seen(("Once", " upon a"), ("Twice", "!"), state="finished") == "!\n"
