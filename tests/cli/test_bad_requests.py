"""Wrong words on the command line: exit status 2, one paragraph, the nearest valid choice, nothing recorded."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from labqueue.domain.spec.schema import MetricPair
from tests.commands import call, refused, rows
from tests.conftest import Lab

WRONG_OPTIONS = {
    ("--set", "steps"): ("'steps'", "KEY=VALUE"),
    ("--set", "=3"): ("KEY=VALUE",),
    ("--set", "steps.=3"): ("'steps.'", "dotted key"),
    ("--set", "step=3"): ("'step'", "did you mean 'steps'?"),
    ("--set", "steps=ten"): ("params.steps", "'ten'"),
    ("--set", "steps="): ("params.steps", "nothing"),
    ("--set", "step_s=.nan"): ("nan", "finite"),
    ("--set", "steps=["): ("not valid YAML",),
    ("--set", "steps=2024-01-01"): ("date",),
    ("--set", "limits.wall_minute=3"): ("'wall_minute'", "did you mean 'wall_minutes'?"),
    ("--set", "limits.attempts=-1"): ("limits.attempts", "-1"),
    ("--sweep", "steps"): ("KEY=VALUE",),
    ("--sweep", "steps="): ("steps", "empty axis"),
    ("--sweep", "steps=1,2,1"): ("steps", "the value 1 twice"),
    ("--sweep", "step=1,2"): ("'step'", "did you mean 'steps'?"),
    ("--sweep", "steps=1,two"): ("sweep axis steps", "'two'"),
    ("--sweep", "step_s=.inf,1"): ("finite",),
    ("--seeds", ""): ("--seeds",),
    ("--seeds", "a"): ("--seeds 'a'", "0,1,2"),
    ("--seeds", "0,-1"): ("--seeds '0,-1'",),
    ("--seeds", "1.5"): ("--seeds '1.5'",),
    ("--seeds", "true"): ("--seeds 'true'",),
    ("--seeds", "3,3"): ("[3]", "twice"),
    ("--seeds", "99999999999"): ("99999999999",),
    ("--priority", "high"): ("'high'", "integer"),
    ("--profile", "smoll"): ("'smoll'", "did you mean 'smol'?"),
    ("--after", "nope"): ("'nope'", "never submitted"),
    ("--sed", "1"): ("--sed", "--seeds"),
}


@pytest.mark.parametrize("words", WRONG_OPTIONS, ids=" ".join)
def test_a_wrong_option_of_submit_is_refused(lab: Lab, words: tuple[str, ...]) -> None:
    path = lab.spec("x", profiles={"smol": {"device": "cpu"}})
    profile = () if "--profile" in words else ("--profile", "cpu")
    error = refused(call(lab, "submit", path, *profile, *words, "--json"))
    for word in WRONG_OPTIONS[words]:
        assert word in error["message"], error["message"]
    if words[0] in ("--set", "--sweep"):
        assert error["file"] in ("command line", None), "the fault is not in the spec's file"
    assert rows(lab) == {}


LOOKS = ("report x", "show 1", "metrics 1 value", "logs 1", "compare 1 2")
CONTROLS = ("cancel x", "pause queue", "resume queue", "retry x", "release 1", "prioritize x 3")


@pytest.mark.parametrize("command", LOOKS + CONTROLS)
def test_what_is_asked_of_an_empty_workspace_says_how_to_fill_it(lab: Lab, command: str) -> None:
    error = refused(call(lab, *command.split(), "--json"))
    assert "no results.db" in error["message"]
    assert str(lab.root) in error["message"]
    assert "labqueue submit" in error["message"]
    assert not lab.settings.database.exists(), "looking makes nothing"


UNKNOWN = {
    "show 99": ("no run 99", "up to 1"),
    "show 0": ("0",),
    "show one": ("'one'",),
    "metrics 99 value": ("no run 99",),
    "metrics 1 value": ("no metric 'value'",),
    "logs 99": ("no run 99",),
    "logs 1": ("1",),
    "compare 1": ("at least two",),
    "compare 1 99": ("no run 99",),
    "report dril": ("'dril'", "did you mean 'drill'?"),
    "report drill --csv": ("--json", "--csv"),
    "cancel 99": ("no run 99",),
    "cancel dril": ("did you mean 'drill'?",),
    "pause 1 --for soon": ("'soon'", "1h30m"),
    "pause 1 --for -1h": ("1h30m",),
    "retry 1": ("run 1", "queued"),
    "release dril": ("did you mean 'drill'?",),
    "prioritize 1 high": ("'high'",),
    "resume 99": ("no run 99",),
    "kinds dril": ("did you mean 'drill'?",),
    "sumbit x.yaml": ("'sumbit'", "did you mean 'submit'?"),
    "estimate dril.yaml": ("no file dril.yaml", "did you mean 'drill.yaml'?"),
    "worker --device cuda:77": ("'cuda:77'", "cpu"),
    "worker --memory-gib 0": ("0",),
}


@pytest.mark.parametrize("command", UNKNOWN)
def test_what_does_not_exist_is_refused_with_what_does(lab: Lab, command: str) -> None:
    call(lab, "submit", lab.spec("drill"), "--profile", "cpu")
    before = rows(lab)
    asked = command.split()
    answer = call(lab, *asked, *(() if asked[0] == "worker" else ("--json",)))
    message = refused(answer)["message"] if asked[0] != "worker" else answer.err
    assert answer.code == 2
    assert "Traceback" not in answer.err
    for word in UNKNOWN[command]:
        assert word in message, message
    assert rows(lab) == before


def test_a_finished_run_can_be_neither_cancelled_nor_paused(lab: Lab) -> None:
    call(lab, "submit", lab.spec("drill"), "--profile", "cpu")
    assert call(lab, "cancel", 1, "--json").json == {"schema": 1, "cancelled": [1], "asked": []}
    for word in ("cancel", "pause"):
        error = refused(call(lab, word, 1, "--json"))
        assert "run 1" in error["message"]
        assert "finished (cancelled)" in error["message"]
    assert call(lab, "retry", 1, "--json").json["retried"] == [1]
    assert call(lab, "show", 1, "--json").json["state"] == "queued"


def test_new_writes_only_what_is_valid_and_overwrites_nothing(lab: Lab) -> None:
    for words, cure in ((("mine", "--kind", "dril"), "did you mean 'drill'?"), (("My", "--kind", "drill"), "a-z")):
        answer = call(lab, "new", *words)
        assert answer.code == 2
        assert cure in answer.err
    assert call(lab, "new", "mine", "--kind", "drill").code == 0
    assert call(lab, "submit", "jobs/mine.yaml", "--profile", "cpu", "--json").json["experiment"] == "mine"
    again = call(lab, "new", "mine", "--kind", "drill")
    assert again.code == 2
    assert "exists" in again.err


def test_every_part_of_a_new_spec_is_valid_when_it_is_uncommented(lab: Lab) -> None:
    assert call(lab, "new", "mine", "--kind", "drill").code == 0
    path = lab.root / "jobs" / "mine.yaml"
    about, *lines = path.read_text().splitlines()
    for marks in ("# plots", "# predictions", "# sweep"):
        start = next(at for at, line in enumerate(lines) if line.startswith(marks))
        while start < len(lines) and lines[start].startswith("# "):
            lines[start] = lines[start].removeprefix("# ")
            start += 1
        path.write_text("\n".join([about, *lines]).replace("some.key", "steps"))
        answer = call(lab, "submit", "jobs/mine.yaml", "--profile", "cpu", "--dry-run", "--json")
        assert answer.code == 0, f"{marks} uncommented: {answer.err}"
    path.write_text(path.read_text().replace("    # by: ", "    by: "))
    assert call(lab, "submit", "jobs/mine.yaml", "--profile", "cpu", "--json").code == 0
    (plot,) = YAML(typ="safe").load(path)["plots"]
    assert set(plot) == set(MetricPair.model_fields), "every field is shown"
