"""What a report says of registrations: exploratory and withdrawn claims stand apart, and each verdict has its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from labqueue.domain.views import ExperimentView, Registered, RegistrationView, VerdictView
from labqueue.report import declarations, questions
from labqueue.report.document.report import Report
from labqueue.report.document.verdicts import registered
from labqueue.search.stop_rules import decided
from tests.report.factories import make_experiment, make_run, prediction

THEN, LATER = "2026-01-02T03:04:05.000Z", "2026-01-03T03:04:05.000Z"


def verdict(name: str, said: str, digest: str, *, job: int = 1, look: int | None = 3, n: int = 3) -> VerdictView:
    given = Registered(THEN, job, digest * 64, [3, 5], look)
    return VerdictView(name, f"claim of {name}", said, 1.0, [0.5, 1.5], n, "It is 1.", given)


VERDICTS = [
    verdict("late", "exploratory", "b", job=2, look=None),
    verdict("early", "supported", "a"),
    verdict("gone", "withdrawn", "c"),
    verdict("late", "withdrawn", "d"),
]


def registrations() -> list[RegistrationView]:
    def one(name: str, digest: str, job: int, seen: list[int], gone: str | None = None) -> RegistrationView:
        return RegistrationView(name, digest * 64, THEN, job, {"id": name}, seen, gone)

    return [
        one("late", "b", 2, [1, 2]),
        one("early", "a", 1, []),
        one("gone", "c", 1, [], LATER),
        one("late", "d", 1, [], LATER),
    ]


def composed() -> Report:
    runs = [make_run(at, {}, at, {"eval_loss": 1.0}) for at in (1, 2, 3)]
    view: ExperimentView = make_experiment(
        runs,
        [prediction()],
        registrations=registrations(),
        looks=[3, 5],
        looks_at=THEN,
        looks_seen_runs=[1, 2],
    )
    return Report(view, VERDICTS, [], None, [], declarations.of("finetune"))


def test_what_was_not_tested_stands_after_what_was_under_its_own_heading() -> None:
    text = composed().markdown()
    heads = re.findall(r"^#+ .*$", text, re.MULTILINE)
    begin = heads.index("## Verdicts")
    assert heads[begin : begin + 7] == [
        "## Verdicts",
        "### early: **supported**",
        "## Exploratory claims",
        "### late: **exploratory**",
        "## Withdrawn claims",
        "### gone: **withdrawn**",
        "### late: **withdrawn**",
    ]
    results = text.split("## RESULTS")[1]
    order = [results.index(words) for words in ("supported: claim", "exploratory: claim", "withdrawn: claim of gone")]
    assert order == sorted(order)


def test_each_verdict_says_since_when_it_is_registered_and_which_look_decided() -> None:
    text = composed().markdown()
    assert f"Registered {THEN} by job 1 (digest aaaaaaaaaaaa); look 1 of 2, at 3 seeds (looks at 3, 5)." in text
    assert "by job 2 (digest bbbbbbbbbbbb); no registered look was taken (looks at 3, 5 seeds). " in text
    assert "Could be known by then: runs 1, 2." in text
    assert f"Looks at 3, 5 seeds share the 5 % of wrong decisions, registered {THEN} after 2 runs had finished." in text


def test_a_withdrawn_claim_says_what_stands_in_its_place() -> None:
    gone, changed = composed().markdown().split("### gone")[1].split("### late")
    assert f"Withdrawn {LATER}: the newest spec leaves it out." in gone
    assert f"Withdrawn {LATER}: the newest spec states another clause under its id." in changed


def test_exploratory_claims_have_a_colour_that_no_other_verdict_has() -> None:
    page = composed().html()
    assert '<span class="badge exploratory">exploratory</span>' in page
    rules = dict(re.findall(r"\.badge\.(\w+)[^{}]*\{ color: var\((--\w+)\)", page))
    assert rules["exploratory"] not in (rules["supported"], rules["refuted"], "--open")
    for name in ("--apart", "--yes", "--no"):
        assert len(re.findall(rf"{name}: #", page)) == 2, "light and dark"


def test_the_json_document_has_the_registration_of_each_verdict() -> None:
    data = json.loads(composed().json())
    assert data["verdicts"][1]["registration"] == {
        "at": THEN, "job": 1, "digest": "a" * 64, "looks": [3, 5], "look": 3,
    }  # fmt: skip
    assert data["registrations"][2]["withdrawn_at"] == LATER
    assert (data["looks"], data["looks_seen_runs"]) == ([3, 5], [1, 2])


def test_one_look_is_said_to_be_one() -> None:
    assert registered(Registered(THEN, 7, "a" * 64, [], None)).endswith(
        "by job 7 (digest aaaaaaaaaaaa); one look, at all seeds."
    )


def test_a_committed_document_is_read_with_its_registrations_and_without(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "results"
    folder.mkdir(parents=True)
    data = json.loads(composed().json())
    (folder / "new.json").write_text(json.dumps(data))
    for each in data["verdicts"]:
        del each["registration"]
    (folder / "old.json").write_text(json.dumps({**data, "experiment": "older"}))
    found = questions.committed(tmp_path)
    assert list(found["lora_rank"][0].verdicts) == VERDICTS
    assert [each.registration for each in found["older"][0].verdicts] == [None] * 4


@pytest.mark.parametrize(
    ("said", "look", "n", "looks", "expected"),
    [
        ("supported", 3, 3, [3, 5], "supported"),
        ("refuted", 5, 5, [3, 5], "refuted"),
        ("supported", None, 4, [3, 5], None),
        ("supported", 4, 4, [3, 5], None),
        ("exploratory", None, 3, [3, 5], None),
        ("inconclusive", 3, 3, [3, 5], None),
        ("supported", None, 5, [], "supported"),
        ("supported", None, 4, [], None),
    ],
)
def test_a_loop_heeds_a_decision_at_a_registered_look_alone(
    said: str, look: int | None, n: int, looks: list[int], expected: str | None
) -> None:
    assert decided(verdict("p", said, "a", look=look, n=n), looks, 5) == expected
    assert decided(None, looks, 5) is None
