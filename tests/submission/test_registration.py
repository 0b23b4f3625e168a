"""What a person is told, and refused, when a submission comes after runs of its experiment: by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import own_kinds
from tests.commands import call, refused
from tests.conftest import Lab

LOW = {"id": "low", "claim": "The value is low.", "threshold": {"metric": "value", "below": 2.0}}
LOWER = {"id": "low", "claim": "The value is low.", "threshold": {"metric": "value", "below": 1.0}}
FAST = {"steps": 2, "step_s": 0.0}


def drained(lab: Lab) -> None:
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0


def spec(lab: Lab, *predictions: dict[str, Any], seeds: tuple[int, ...] = (0, 1), **fields: Any) -> Path:
    return lab.spec("drill_test", params=FAST, predictions=list(predictions), seeds=list(seeds), **fields)


def submitted(lab: Lab, *words: Any, **fields: Any) -> str:
    answer = call(lab, "submit", spec(lab, *words, **fields), "--profile", "cpu")
    assert answer.code == 0, answer.err
    return answer.err


def test_an_edited_claim_is_told_registered_late_and_the_old_one_withdrawn(lab: Lab) -> None:
    assert submitted(lab, LOW) == ""
    drained(lab)
    late = "note: drill_test: prediction 'low' was registered after 2 runs had finished: it will be exploratory"
    gone = "note: drill_test: prediction 'low' is withdrawn as it was registered"
    tried = call(lab, "submit", spec(lab, LOWER), "--profile", "cpu", "--dry-run")
    assert (tried.code, late in tried.err, gone in tried.err) == (0, True, True)
    before = call(lab, "report", "drill_test", "--json").json["registrations"]
    assert [each["withdrawn_at"] for each in before] == [None], "a dry run registers nothing"
    told = submitted(lab, LOWER)
    assert late in told
    assert gone in told
    new, old = call(lab, "report", "drill_test", "--json").json["registrations"]
    assert (new["prediction"]["threshold"]["below"], new["seen_runs"], new["withdrawn_at"]) == (1.0, [1, 2], None)
    assert (old["prediction"]["threshold"]["below"], old["seen_runs"]) == (2.0, [])
    assert old["withdrawn_at"] == new["at"]
    assert submitted(lab, LOWER) == "", "nothing has changed"


def test_a_claim_for_new_seeds_alone_is_not_late(lab: Lab) -> None:
    submitted(lab, LOW)
    drained(lab)
    assert "late" not in submitted(lab, LOW, {**LOWER, "id": "other"}, seeds=(2, 3))
    standing = call(lab, "report", "drill_test", "--json").json["registrations"]
    assert [(each["id"], each["seen_runs"]) for each in standing] == [("low", []), ("other", [1, 2])]


def test_looks_at_fewer_seeds_than_have_been_run_are_refused_and_those_registered_are_kept(lab: Lab) -> None:
    submitted(lab, LOW, seeds=(0, 1, 2), looks=[3, 5])
    drained(lab)
    assert submitted(lab, LOW, seeds=(0, 1, 2, 3, 4), looks=[3, 5]) == ""
    drained(lab)
    assert submitted(lab, LOW, seeds=(0, 1, 2, 3, 4), looks=[3, 5]) == "", "registered before the runs"
    path = spec(lab, LOW, seeds=(0, 1, 2, 3, 4), looks=[4, 8])
    for words in ((), ("--dry-run",)):
        error = refused(call(lab, "submit", path, "--profile", "cpu", "--json", *words))
        assert error["key"] == "looks"
        assert (error["file"], error["line"]) == (str(path), 1)
        assert "begin at 4 seeds, and 5 have been run (registered are [3, 5])" in error["message"]
    found = call(lab, "report", "drill_test", "--json").json
    assert [look["seeds"] for look in found["found_looks"]] == [[0, 1, 2], [3, 4]]
    assert (found["looks"], found["looks_seen_runs"]) == ([3, 5], [])


def test_looks_that_come_after_the_runs_are_told(lab: Lab) -> None:
    submitted(lab, LOW, seeds=(0, 1, 2))
    drained(lab)
    words = submitted(lab, LOW, seeds=(0, 1, 2, 3, 4), looks=[3, 5])
    assert "the looks [3, 5] were registered after runs had finished" in words
    assert call(lab, "report", "drill_test", "--json").json["looks_seen_runs"] == [1, 2, 3]


ASKS = """
    from labqueue.domain import kind
    from labqueue.domain.declarations import Metric

    METRICS = {"right": Metric(better="higher", role="held_out", scale="yes_no")}

    class Params(kind.Params):
        level: int = 1

    def run(params, rec):
        rec.metric("right", 1.0, 1)
"""


@pytest.mark.parametrize(
    ("test", "key"),
    [
        ({"compare": {"a": {"level": 1}, "b": {"level": 2}, "within": 0.1}}, "compare.within"),
        ({"compare": {"a": {"level": 1}, "b": {"level": 2}, "difference_below": 0.1}}, "compare.difference_below"),
        ({"compare": {"a": {"level": 1}, "b": {"level": 2}, "difference_above": -0.1}}, "compare.difference_above"),
        ({"compare": {"a": {"level": 1}, "b": {"level": 2}, "ratio_above": 1.0}}, "compare.ratio_above"),
        ({"trend": {"over": "level", "shape": "flat", "tolerance": 0.1}}, "trend.tolerance"),
        ({"compare": {"a": {"level": 1}, "b": {"level": 2}, "difference_below": 0}}, None),
        ({"trend": {"over": "level", "shape": "rises"}}, None),
        ({"threshold": {"above": 0.5}}, None),
    ],
)
def test_a_margin_of_a_yes_no_metric_is_refused(lab: Lab, test: dict[str, Any], key: str | None) -> None:
    site = own_kinds.install(lab.root, {"asks": ASKS})
    ((form, fields),) = test.items()
    prediction = {"id": "p", "claim": "", form: {"metric": "right", **fields}}
    path = lab.spec("asks", kind="asks", sweep={"grid": {"level": [1, 2]}}, predictions=[prediction])
    answer = lab.run("submit", path, "--profile", "cpu", "--dry-run", "--json", **site)
    if key is None:
        assert answer.code == 0, answer.err
    else:
        error = refused(answer)
        assert error["key"] == f"predictions.0.{key}"
        assert error["line"] == 1
        assert "declares as yes/no" in error["message"]


def test_a_claim_about_a_metric_that_no_kind_declares_is_refused(lab: Lab) -> None:
    wrong = {"id": "p", "claim": "", "threshold": {"metric": "valu", "below": 1}}
    error = refused(call(lab, "submit", spec(lab, wrong), "--profile", "cpu", "--json"))
    assert error["key"] == "predictions.0.threshold.metric"
    assert "did you mean 'value'" in error["message"]
