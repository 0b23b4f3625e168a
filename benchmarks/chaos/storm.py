"""The storm: random SIGKILLs of worker, child and both while a queue of drills is worked off.

Law-abiding settings: a run may be tried 100 times (a SIGKILL of a child counts as a crash of it; the default is 3),
and one that waits out a back-off is freed with ``labqueue release``, as a person would who knows what happened.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.chaos import judge
from benchmarks.chaos.workspace import WORKER, Workspace, children, lines, until

STEPS = 24
EVERY = 4
STEP_S = 0.04

MORE = 10
"""Runs that are submitted anew when the queue is empty before the last kill."""

VICTIMS = ("worker", "child", "both")
PAUSE_S = (0.05, 2.0)
"""Between kills, drawn evenly: from before a worker is ready to after a run has ended."""

AIMED = 0.6
AFTER_STEP_S = (0.0, 0.7)
"""This share of kills waits for a step to be done first, so that starts do not get them all."""


def storm(folder: Path, *, kills: int, runs: int, seed: int, limit_s: float) -> dict[str, Any]:
    """One workspace with at least ``runs`` runs: a storm until ``kills`` have struck, then peace until all is done."""
    chance = random.Random(seed)
    workspace = Workspace(folder).with_kinds()
    more = itertools.count(1)

    def submit(seeds: int) -> int:
        workspace.submit(
            f"storm_{next(more)}", "drill_files", seeds=seeds, attempts=100,
            steps=STEPS, step_s=STEP_S, checkpoint_every=EVERY,
        )  # fmt: skip
        return seeds

    submitted = submit(runs)
    started = time.monotonic()
    struck = dict.fromkeys(VICTIMS, 0)
    working = dead = 0
    worker = workspace.start(*WORKER)
    while sum(struck.values()) < kills and time.monotonic() - started < limit_s:
        _pause(workspace, chance)
        if worker.poll() is not None:
            if _left(workspace) == 0:
                submitted += submit(MORE)
            worker = workspace.start(*WORKER)
            continue
        victim = chance.choice(VICTIMS)
        before = judge.blocks(workspace.witness)
        hit = _strike(worker, victim, chance)
        if not hit:
            continue
        struck[victim] += 1
        # Whether the victim was in the middle of a run that had begun to count.
        working += bool(before) and before[-1].steps[-1] < STEPS
        if victim != "child":
            worker.wait()
            dead += 1
            worker = workspace.start(*WORKER)
        if sum(struck.values()) % 25 == 0:
            _release(workspace)
    after_kills_s = time.monotonic() - started
    status = _peace(workspace, worker, limit_s)
    broken = judge.history(workspace.witness, steps=STEPS, checkpoint_every=EVERY)
    broken += judge.results(folder, steps=STEPS, runs=submitted)
    if len({block.run for block in judge.blocks(workspace.witness)}) != submitted:
        broken.append("some runs never wrote a line")
    if status != 0:
        broken.append(f"the last worker ended with status {status}: {workspace.said()[-300:]}")
    if sum(struck.values()) < kills:
        broken.append(f"only {sum(struck.values())} of {kills} kills struck within {limit_s:.0f} s")
    history = judge.blocks(workspace.witness)
    return {
        "runs": submitted,
        "kills": sum(struck.values()),
        **{f"kills of {victim}": count for victim, count in struck.items()},
        "kills while a run had begun and not ended": working,
        "attempts that worked": len(history),
        "steps done again after a resume": sum(len(block.steps) for block in history) - submitted * STEPS,
        "minutes under fire": round(after_kills_s / 60, 1),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "broken laws": broken,
    }


def _pause(workspace: Workspace, chance: random.Random) -> None:
    if chance.random() < AIMED:
        done = lines(workspace.witness)
        with contextlib.suppress(TimeoutError):
            until(lambda: lines(workspace.witness) > done, 5.0)
        time.sleep(chance.uniform(*AFTER_STEP_S))
    else:
        time.sleep(chance.uniform(*PAUSE_S))


def _strike(worker: subprocess.Popen[bytes], victim: str, chance: random.Random) -> bool:
    """Kills; False when there was nobody of that kind."""
    below = children(worker.pid)
    if victim == "child":
        if not below:
            return False
        targets = [chance.choice(below)]
    else:
        targets = [worker.pid]
        if victim == "both":
            targets += below
            chance.shuffle(targets)
    for pid in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return True


def _release(workspace: Workspace) -> None:
    for spec in workspace.root.glob("storm_*.yaml"):
        workspace.run("release", spec.stem)


def _left(workspace: Workspace) -> int:
    with judge.opened(workspace.database) as connection:
        return int(connection.execute("SELECT count(*) FROM runs WHERE state != 'finished'").fetchone()[0])


def _peace(workspace: Workspace, worker: subprocess.Popen[bytes], limit_s: float) -> int:
    give_up = time.monotonic() + limit_s
    while worker.poll() is None and time.monotonic() < give_up:
        _release(workspace)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(3.0)
    if worker.poll() is None:
        workspace.kill_all()
        worker.wait()
        return -signal.SIGKILL
    # Once more, for one that had ended just before the last strike.
    return workspace.run(*WORKER)


def run(
    *, kills: int, runs: int, lanes: int, seed: int = 0, limit_s: float = 1500.0
) -> tuple[dict[str, Any], list[str]]:
    """Figures and what was broken. ``lanes`` workspaces at once share the kills and the runs."""
    with tempfile.TemporaryDirectory(prefix="storm-") as folder, concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        shares = [
            pool.submit(
                storm,
                Path(folder) / str(lane),
                kills=kills // lanes + (lane < kills % lanes),
                runs=runs // lanes + (lane < runs % lanes),
                seed=seed + lane,
                limit_s=limit_s,
            )
            for lane in range(lanes)
        ]
        each = [share.result() for share in shares]
    figures: dict[str, Any] = {"seed": seed, "workspaces": lanes}
    for key in each[0]:
        if key == "broken laws":
            figures[key] = [words for one in each for words in one[key]]
        else:
            figures[key] = max(one[key] for one in each) if "minutes" in key else sum(one[key] for one in each)
    return figures, figures["broken laws"]
