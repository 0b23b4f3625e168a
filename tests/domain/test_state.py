"""The table of transitions, seen from outside."""

from __future__ import annotations

import itertools

from labqueue.domain.state import SETTLED, TRANSITIONS, Ending, Outcome, State, allowed


def test_a_run_can_only_start_from_the_queue_and_never_goes_from_a_state_to_itself() -> None:
    possible = {pair for pair in itertools.product(State, State) if allowed(*pair)}
    assert possible == set(TRANSITIONS)
    assert {before for before, after in possible if after is State.RUNNING} == {State.QUEUED}
    assert not any(before is after for before, after in possible)


def test_every_outcome_of_a_run_is_an_ending_of_an_attempt() -> None:
    assert {str(outcome) for outcome in Outcome} < {str(ending) for ending in Ending}
    assert {str(outcome) for outcome in SETTLED} == {"succeeded", "pruned"}
