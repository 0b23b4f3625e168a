"""Admission: a run starts only where it fits, and waits with the reason where it does not."""

from __future__ import annotations

import pytest

from labqueue.domain.waiting import describe
from labqueue.system.cards import Gpu
from labqueue.worker.admission import CONTEXT_GIB, available_gib, refusal_on_card
from tests.conftest import Lab, wait_until


def card(free_gib: float) -> Gpu:
    return Gpu(0, "GPU-1", "a card of 16 GB", 15.5, free_gib, None, None, "580")


@pytest.mark.parametrize(
    ("limit", "estimate", "free_gib", "code"),
    [
        (8.0, None, 8.0 + CONTEXT_GIB, None),
        (8.0, None, 8.0, "memory"),
        ("auto", 8.0, 9.0, None),
        ("auto", 8.0, 8.0, "memory"),
        (8.0, 2.0, 4.0, "memory"),
        ("auto", None, 7.8, None),
        ("auto", None, 7.7, "memory"),
        (15.0, None, 15.5, "device"),
        ("auto", 40.0, 15.5, "device"),
    ],
)
def test_a_limit_counts_before_an_estimate_and_both_include_the_context(
    limit: float | str, estimate: float | None, free_gib: float, code: str | None
) -> None:
    refused = refusal_on_card(limit, estimate, card(free_gib))
    assert (refused.code if refused else None) == code


def test_the_words_hold_still_while_free_memory_flickers() -> None:
    assert refusal_on_card(8.0, None, card(3.1)) == refusal_on_card(8.0, None, card(3.4))
    refused = refusal_on_card(8.0, None, card(3.1))
    assert refused is not None
    assert "less than 3.5 are free on cuda:0" in describe(refused)


def test_a_run_that_needs_more_than_is_free_waits_with_the_reason_and_others_pass_it(lab: Lab) -> None:
    big = lab.spec("big", limits={"memory_gib": 2 * available_gib()})
    assert lab.run("submit", big, "--priority", "5").code == 0
    assert lab.run("submit", lab.spec("small")).code == 0
    worker = lab.start("worker")
    try:
        wait_until(lambda: lab.run("show", "2", "--json").json["outcome"] == "succeeded")
        waiting = lab.run("show", "1", "--json").json["waiting"]
    finally:
        worker.terminate()
        assert worker.wait(20) == 0
    assert waiting["code"] == "memory"
    assert "limits.memory_gib" in waiting["text"]
    assert "this machine" in waiting["text"]


def test_a_limit_on_a_cpu_is_held_and_passing_it_is_out_of_memory(lab: Lab) -> None:
    params = {"fault": "allocate", "allocate_mib": 4096, "steps": 3}
    assert lab.run("submit", lab.spec(limits={"memory_gib": 1.0}, params=params)).code == 0
    assert lab.run("worker", "--drain").code == 1
    run = lab.run("show", "1", "--json").json
    assert run["outcome"] == "out_of_memory"
    assert "What would fit: allocate_mib below 4096" in run["reason"]
    assert run["peak_memory_gib"] < 1.5
