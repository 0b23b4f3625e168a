"""Reasons why a queued run waits: a code with its facts, and the one place where they become a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from labqueue.domain.state import State, Waiting

SHOWN = 3
"""Unmet needs that a sentence names; the others are counted."""


class Reason(NamedTuple):
    """A code of ``Waiting`` and what the sentence says beside it: plain JSON values."""

    code: str
    parameters: dict[str, Any]


def describe(reason: Reason) -> str:
    """The sentence of a reason. ``{"text": …}`` alone is one that an earlier version has written."""
    given = reason.parameters
    if "text" in given:
        return str(given["text"])
    return _SENTENCES[Waiting(reason.code)](given)


def _paused(given: dict[str, Any]) -> str:
    if given["paused"] == "run":
        return "paused until `labqueue resume`" if given["until"] is None else f"paused until {given['until']}"
    what = "the queue" if given["paused"] == "queue" else f"experiment {given['experiment']}"
    return f"{what} is paused: {given['reason']}"


def _needs(given: dict[str, Any]) -> str:
    sentences = [_need(unmet) for unmet in given["unmet"]]
    more = f"; and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else ""
    return "; ".join(sentences[:SHOWN]) + more


def _need(unmet: dict[str, Any]) -> str:
    if unmet["run"] is None:
        return f"the search of {unmet['experiment']} has {unmet['recorded']} of {unmet['trials']} trials"
    run, finished = unmet["run"], unmet["state"] == State.FINISHED
    cure = f"`labqueue retry {run}`, or `labqueue release` what waits"
    if unmet["rehearsal"]:
        which = f"its rehearsal, run {run} of {unmet['experiment']},"
        return f"{which} ended {unmet['outcome']} (`labqueue logs {run}`; {cure})" if finished else (
            f"{which} is {unmet['state']}"
        )  # fmt: skip
    which = f"run {run} of {unmet['experiment']}"
    return f"{which} ended {unmet['outcome']} ({cure})" if finished else f"{which} is {unmet['state']}"


def _backoff(given: dict[str, Any]) -> str:
    why = f": {given['reason']}" if given["reason"] else ""
    return f"tries again in {given['left_s']:.0f} s{why}"


def _memory(given: dict[str, Any]) -> str:
    source = " (limits.memory_gib)" if given["limit"] else ""
    needed = f"needs {given['needed_gib']:.1f} GiB{source}"
    free = f"less than {given['free_below_gib']:.1f} are free on {given['where']}"
    return f"{needed} and {free}: something else holds the rest"


def _device(given: dict[str, Any]) -> str:
    if "needed_gib" not in given:
        return f"{given['device']} does not answer its driver"
    return (
        f"needs {given['needed_gib']:.1f} GiB with its CUDA context; {given['card']} ({given['device']}) has "
        f"{given['total_gib']:.1f}. Lower limits.memory_gib or make the run smaller"
    )


def _hours(given: dict[str, Any]) -> str:
    def parts() -> Iterator[str]:
        if given["between"] is not None:
            yield "between {} and {}".format(*given["between"])
        if given["until"] is not None:
            yield f"until {given['until']}"

    minutes = given["expected_min"]
    long = "" if minutes is None else f", and it is expected to take {minutes:.0f} min"
    return f"this worker works only {' and '.join(parts())}{long}"


_SENTENCES = {
    Waiting.PAUSED: _paused,
    Waiting.NEEDS: _needs,
    Waiting.BACKOFF: _backoff,
    Waiting.MEMORY: _memory,
    Waiting.DEVICE: _device,
    Waiting.HOURS: _hours,
}
