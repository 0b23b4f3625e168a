"""What a run takes from another: found by its hash, told in its history, and part of what decides about reuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import own_kinds
from tests.commands import call
from tests.conftest import Lab

MAKER = """
    import pathlib
    from labqueue.domain import artifacts, kind

    USES_TORCH = False

    class Params(kind.Params):
        'Where its words come from.'
        file: str

    def run(params, rec):
        rec.artifact("words", artifacts.Text(text=pathlib.Path(params.file).read_text()))
"""

TAKER = """
    import pathlib
    from labqueue.domain import kind

    USES_TORCH = False

    class Params(kind.Params):
        'What is taken.'
        source: str

    def run(params, rec):
        rec.metric("letters", len(pathlib.Path(params.source).read_text()), 0)
"""


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_kinds.install(tmp_path_factory.mktemp("site"), {"maker": MAKER, "taker": TAKER})


def submitted(lab: Lab, site: dict[str, str], spec: Path, *words: str) -> dict[str, Any]:
    answer = lab.run("submit", str(spec), "--profile", "cpu", "--json", *words, **site)
    assert answer.code == 0, answer.err
    return answer.json  # type: ignore[no-any-return]  # JSON


def drained(lab: Lab, site: dict[str, str]) -> int:
    return lab.run("worker", "--drain", "--device", "cpu", **site).code


def made(lab: Lab, words: str) -> Path:
    file = lab.root / "words"
    file.write_text(words)
    return lab.spec("source", kind="maker", params={"file": str(file)})


TAKE = {"source": {"from_run": {"experiment": "source", "artifact": "words"}}}


def test_a_run_says_what_it_took_and_runs_again_only_when_that_has_changed(lab: Lab, site: dict[str, str]) -> None:
    submitted(lab, site, made(lab, "one"))
    taker = lab.spec("taker", kind="taker", params=TAKE)
    (first,) = submitted(lab, site, taker)["runs"]
    assert drained(lab, site) == 0
    (source,) = call(lab, "report", "source", "--json").json["runs"]
    shown = call(lab, "show", first, "--json").json
    digest = source["artifacts"][0]["sha256"]
    first_length = shown["metrics"]["letters"]["last"]
    told = [event["text"] for event in shown["history"] if event["kind"] == "input"]
    assert told == [f"params.source is artifact words of run {source['id']} (source), SHA-256 {digest}"]

    assert submitted(lab, site, taker)["reused"] == [first], "the artifact is the same"
    submitted(lab, site, made(lab, "one"), "--force")
    assert drained(lab, site) == 0
    assert submitted(lab, site, taker)["reused"] == [first], "another run of the same content"
    submitted(lab, site, made(lab, "more"), "--force")
    assert drained(lab, site) == 0
    again = submitted(lab, site, taker)
    assert again["reused"] == []
    assert drained(lab, site) == 0
    assert call(lab, "show", again["runs"][0], "--json").json["metrics"]["letters"]["last"] > first_length


SEVERAL = """
    import json
    import pathlib
    from typing import Annotated
    from pydantic import Field
    from labqueue.domain import kind

    USES_TORCH = False

    class Params(kind.Params):
        'What is taken.'
        sources: Annotated[tuple[str, ...], Field(strict=False)]

    def run(params, rec):
        rec.metric("sum", sum(int(json.loads(pathlib.Path(each).read_text())["text"]) for each in params.sources), 0)
"""

NUMBER = """
    from labqueue.domain import artifacts, kind

    USES_TORCH = False

    class Lora(kind.Params):
        rank: int = 1

    class Params(kind.Params):
        lora: Lora = Lora()

    def run(params, rec):
        rec.artifact("number", artifacts.Text(text=str(params.lora.rank + 10 ** (rec.seed + 1))))
"""


def test_a_list_takes_from_several_seeds_and_a_sweep_over_a_dotted_where_from_several_points(
    lab: Lab, tmp_path: Path
) -> None:
    site = own_kinds.install(tmp_path, {"number": NUMBER, "several": SEVERAL})
    grid = {"grid": {"lora.rank": [1, 4]}}
    source = lab.spec("source", kind="number", sweep=grid, seeds=[0, 1, 2])
    taken = {"experiment": "source", "artifact": "number", "where": {"lora.rank": 1}}
    pair = [{"from_run": {**taken, "seed": seed}} for seed in ("same", "next")]
    ranks = {"grid": {f"sources.{place}.from_run.where.lora.rank": [1, 4] for place in (0, 1)}}
    taker = lab.spec("taker", kind="several", params={"sources": pair}, sweep=ranks, seeds=[0, 1, 2])
    answer = lab.run("submit", str(source), str(taker), "--profile", "cpu", "--json", **site)
    assert answer.code == 0, answer.err
    assert drained(lab, site) == 0
    sums = {}
    for run in call(lab, "report", "taker", "--json").json["runs"]:
        sums[run["seed"], *run["varied"].values()] = run["metrics"]["sum"]["last"]
    following = {0: 1, 1: 2, 2: 0}
    assert sums == {
        (seed, one, other): one + 10 ** (seed + 1) + other + 10 ** (following[seed] + 1)
        for seed in following
        for one in (1, 4)
        for other in (1, 4)
    }
    assert len(submitted(lab, site, taker, "--seeds", "0")["reused"]) == 4, (
        "what was taken is remembered by its place in the list"
    )


def test_relative_paths_start_at_the_workspace_wherever_worker_and_submitter_stand(
    lab: Lab, site: dict[str, str]
) -> None:
    (lab.root / "words").write_text("in the workspace")
    spec = lab.spec("taker", kind="taker", params={"source": "words"})
    there = {"cwd": "/", "env": lab.environment(**site), "capture_output": True, "text": True, "check": False}
    for words in (("submit", str(spec), "--profile", "cpu"), ("worker", "--drain", "--device", "cpu")):
        done = subprocess.run([sys.executable, "-m", "labqueue", *words], **there)  # type: ignore[call-overload]  # words
        assert done.returncode == 0, done.stderr
    (run,) = call(lab, "report", "taker", "--json").json["runs"]
    assert run["metrics"]["letters"]["last"] == len("in the workspace")


def test_an_artifact_that_was_changed_on_the_disk_is_not_taken(lab: Lab, site: dict[str, str]) -> None:
    submitted(lab, site, made(lab, "one"))
    assert drained(lab, site) == 0
    (source,) = call(lab, "report", "source", "--json").json["runs"]
    (lab.root / source["artifacts"][0]["path"]).write_text("another")
    (run,) = submitted(lab, site, lab.spec("taker", kind="taker", params=TAKE))["runs"]
    assert drained(lab, site) == 1
    shown = call(lab, "show", run, "--json").json
    assert shown["outcome"] == "failed"
    assert "has changed since" in shown["reason"]
    assert f"run {source['id']} again" in shown["reason"]
