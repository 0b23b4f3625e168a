from dataclasses import replace

import pytest

from labqueue.domain.declarations import Metrics
from labqueue.domain.views import LookView, RegistrationView
from labqueue.report.statistics.looks import SHARES
from labqueue.report.statistics.verdicts import judge
from tests.report.factories import Series, make_experiment, make_run, prediction

TEST = prediction(compare={"metric": "m", "a": {"x": 1}, "b": {"x": 2}, "difference_below": 0.0})
CLEAR = [-0.50, -0.52, -0.49, -0.51, -0.53, -0.48]
"""Differences per seed of which three are enough."""
FAINT = [-0.20, -0.26, -0.31, -0.22, -0.27, -0.21]
"""Of these three are enough at 5 %, and not at 1 %."""


def experiment(differences, *, groups=(), looks=(), **registration):
    runs = [
        make_run(10 * seed + x, {"x": x}, seed, {"m": 2 + 0.3 * seed + (difference if x == 1 else 0)})
        for seed, difference in enumerate(differences)
        for x in (1, 2)
    ]
    found = [LookView(list(group), job, "2026-01-01T00:00:00Z") for job, group in enumerate(groups, 1)]
    view = make_experiment(runs, [TEST], looks=list(looks), found_looks=found)
    if not registration:
        return view
    known = {"seen_runs": [], "withdrawn_at": None, **registration}
    return replace(view, registrations=[RegistrationView("p", "d" * 64, "2026-01-01T00:00:00Z", 1, TEST, **known)])


def verdict(*args, **more):
    return judge(experiment(*args, **more), Series(), Metrics())[0]


def test_the_shares_of_registered_looks_add_up_to_the_level():
    assert all(sum(shares) == pytest.approx(0.05) for shares in SHARES.values())


def test_a_look_decides_at_its_own_share():
    assert verdict(FAINT[:3]).verdict == "supported"
    first = verdict(FAINT[:3], groups=[range(3)], looks=[3, 5])
    assert first.verdict == "inconclusive"
    assert "this look decides at p = 0.01" in first.why
    assert verdict(CLEAR[:3], groups=[range(3)], looks=[3, 5]).verdict == "supported"
    second = verdict(FAINT[:5], groups=[range(3), range(3, 5)], looks=[3, 5])
    assert second.verdict == "supported"
    assert "look 2 of 2 (at 3 and 5 seeds), which spends 4 %" in second.why


def test_the_first_look_that_decides_stands():
    spoilt = [*CLEAR[:3], 3.0, -4.0]
    assert verdict(spoilt).verdict == "inconclusive"
    found = verdict(spoilt, groups=[range(3), range(3, 5)], looks=[3, 5], seen_runs=[])
    assert (found.verdict, found.n, found.registration.look) == ("supported", 3, 3)


def test_between_two_registered_looks_the_earlier_one_counts():
    found = verdict(FAINT[:4], groups=[range(4)], looks=[3, 5])
    assert (found.verdict, found.n) == ("inconclusive", 3)
    early = verdict(CLEAR[:2], groups=[range(2)], looks=[3, 5])
    assert early.verdict == "inconclusive"
    assert "the first registered look is at 3 seeds, here are 2" in early.why


def test_seeds_after_the_last_registered_look_are_said_and_not_counted():
    found = verdict(CLEAR, groups=[range(3), range(3, 5), [5]], looks=[3, 5])
    beyond = verdict([*FAINT[:5], 9.0], groups=[range(3), range(3, 5), [5]], looks=[3, 5])
    assert found.verdict == beyond.verdict == "supported"
    assert "seeds 5 came after the last registered look" in beyond.why


def test_seeds_added_after_an_unregistered_look_decide_nothing():
    noise = [-0.1, 0.05, -0.3]
    found = verdict([*noise, -0.2, -0.22, -0.21, -0.2], groups=[range(3), range(3, 7)])
    assert found.verdict == "exploratory"
    assert "a look that was not registered; with them the numbers say supported" in found.why
    stands = verdict([*CLEAR[:3], 3.0, -4.0], groups=[range(3), range(3, 5)])
    assert (stands.verdict, stands.n) == ("supported", 3)


def test_one_seed_decides_nothing_so_that_seeing_it_is_no_look():
    assert verdict(CLEAR[:4], groups=[[0], range(1, 4)]).verdict == "supported"


def test_a_claim_that_is_younger_than_its_runs_is_exploratory_and_never_supported():
    found = verdict(CLEAR, seen_runs=[1, 2])
    assert found.verdict == "exploratory"
    assert "registered when 2 of its runs had finished; the numbers by themselves say supported" in found.why
    assert verdict(CLEAR, seen_runs=[]).verdict == "supported"


def test_a_claim_that_was_taken_back_stays_with_what_became_of_it():
    up = [-difference for difference in CLEAR]
    found = verdict(up, withdrawn_at="2026-02-03T00:00:00Z")
    assert found.verdict == "withdrawn"
    assert found.why.startswith("withdrawn 2026-02-03; it is refuted: ")
    assert found.registration.digest == "d" * 64


def test_an_exploratory_claim_does_not_weaken_those_that_were_registered_in_time():
    view = experiment(FAINT[:3], seen_runs=[])
    late = [replace(view.registrations[0], id=f"late{i}", seen_runs=[1]) for i in range(5)]
    together = judge(replace(view, registrations=[*view.registrations, *late]), Series(), Metrics())
    assert [each.verdict for each in together] == ["supported", *["exploratory"] * 5]
