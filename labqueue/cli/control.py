"""``labqueue cancel``, ``pause``, ``resume``, ``retry``, ``release``, ``prioritize``, ``checkpoint``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from labqueue.cli.common import PRIORITY, dump, json_option, open_database, root_option, settings
from labqueue.cli.render import echo
from labqueue.domain.errors import LabError

LONGEST_S = 100 * 365.25 * 86_400
"""Of a pause: a calendar must have the day on which it ends."""

_TARGET = click.argument("target", metavar="ID|EXPERIMENT|queue")


def _answer(as_json: bool, words: str, **ids: list[int]) -> None:
    if as_json:
        dump({"schema": 1, **ids})
    else:
        echo(words)


def _count(ids: list[int]) -> str:
    listed = ", ".join(map(str, ids[:8])) + ("…" if len(ids) > 8 else "")
    return f"{len(ids)} run{'s' if len(ids) != 1 else ''}" + (f" ({listed})" if ids else "")


def _wake(own_root: str | None) -> None:
    from labqueue.system import wakeups

    for device in ("cpu", "cuda"):
        wakeups.wake(settings(own_root).wakeups, device)


@click.command()
@_TARGET
@root_option
@json_option
def cancel(target: str, own_root: str | None, as_json: bool) -> None:
    """End runs as cancelled; running ones checkpoint first."""
    from labqueue.store.runs import control

    ended, asked = control.cancel(open_database(own_root), target)
    _wake(own_root)
    _answer(as_json, f"cancelled {_count(ended)}; asked {_count(asked)} to stop", cancelled=ended, asked=asked)


@click.command()
@_TARGET
@click.option("--for", "duration", metavar="1h", help="For so long (30s, 45m, 1h, 1h30m); default until `resume`.")
@root_option
@json_option
def pause(target: str, duration: str | None, own_root: str | None, as_json: bool) -> None:
    """Hold runs; running ones checkpoint and give the device back."""
    from labqueue.store.runs import control

    seconds = None if duration is None else _seconds(duration)
    held, asked = control.pause(open_database(own_root), target, seconds)
    _answer(as_json, f"holding {_count(held)}; asked {_count(asked)} to checkpoint and stop", held=held, asked=asked)


@click.command()
@_TARGET
@root_option
@json_option
def resume(target: str, own_root: str | None, as_json: bool) -> None:
    """End a pause."""
    _simple("resumed", target, own_root, as_json)


@click.command()
@_TARGET
@click.option("--failed", "failed_only", is_flag=True, help="Only what failed; not what a person cancelled.")
@root_option
@json_option
def retry(target: str, failed_only: bool, own_root: str | None, as_json: bool) -> None:
    """Queue finished runs again under their own ids; never a succeeded one."""
    from labqueue.store.runs import control

    ids = control.retry(open_database(own_root), target, failed_only=failed_only)
    _wake(own_root)
    _answer(as_json, f"queued again {_count(ids)}", retried=ids)


@click.command()
@_TARGET
@root_option
@json_option
def release(target: str, own_root: str | None, as_json: bool) -> None:
    """Free queued runs from what they wait for (needs, a back-off, their own pause)."""
    _simple("released", target, own_root, as_json)


@click.command(context_settings={"ignore_unknown_options": True})  # a priority below 0 begins with a dash
@_TARGET
@click.argument("priority", type=PRIORITY)
@root_option
@json_option
def prioritize(target: str, priority: int, own_root: str | None, as_json: bool) -> None:
    """Change the priority of unfinished runs; higher starts earlier. What they wait for is raised with them."""
    from labqueue.store.runs import control

    ids, raised = control.prioritize(open_database(own_root), target, priority)
    with_them = f"; raised what they wait for: {_count(raised)}" if raised else ""
    _answer(as_json, f"priority {priority} for {_count(ids)}{with_them}", prioritized=ids, raised=raised)


@click.command()
@click.argument("run", type=click.IntRange(min=1), metavar="RUN")
@root_option
@json_option
def checkpoint(run: int, own_root: str | None, as_json: bool) -> None:
    """Ask a running run to keep the model that it has now as an artifact; it goes on."""
    from labqueue import kinds
    from labqueue.store.queries import read
    from labqueue.store.runs import control

    db = open_database(own_root)
    view = read.run(db, run)
    if not kinds.get(view.kind).keeps_on_demand:
        raise LabError(
            f"run {run} is of kind {view.kind!r}, which keeps nothing on demand: it leaves what it has as it ends"
        )
    control.keep(db, run)
    _answer(as_json, f"asked run {run} to keep what it has now; `labqueue show {run}` lists it", asked=[run])


def _simple(word: str, target: str, own_root: str | None, as_json: bool) -> None:
    from labqueue.store.runs import control

    functions: dict[str, Callable[[Any, str], list[int]]] = {"resumed": control.resume, "released": control.release}
    ids = functions[word](open_database(own_root), target)
    _wake(own_root)
    _answer(as_json, f"{word} {_count(ids)}", **{word: ids})


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or found is None:
        raise LabError(f"--for {text!r} is not a duration: write 30s, 45m, 1h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    if hours * 3600 + minutes * 60 + seconds > LONGEST_S:
        raise LabError(f"--for {text!r:.80} is longer than 100 years: leave --for out, and it holds until `resume`")
    return hours * 3600 + minutes * 60 + seconds
