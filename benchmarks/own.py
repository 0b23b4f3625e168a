"""What the lab's own code costs a step of a fine-tuning, in milliseconds, whatever the card.

    python benchmarks/own.py [--steps 200] [--step-ms 351]

Two things of the lab run while a model trains: what it does in the training thread between two steps (reading the
numbers, the rules, the metrics), and the recorder's thread, which commits to SQLite several times a second and can at
worst hold the interpreter for all of its processor time. Both are measured in one process with the real recorder and a
tiny model, whose steps tell more often than any real one's. Against ``--step-ms``, the fastest step of the 7B QLoRA of
benchmarks/gpu_7b.py on an H200 by default, they say what share of a real step the lab costs: medians, and this
processor's time beside another machine's step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from labqueue.attempt.recorder import FLUSH_S, RunRecorder
from labqueue.kinds import finetune
from labqueue.llm.training import trl_trainer
from labqueue.settings import Settings
from labqueue.store.db import create_or_migrate
from labqueue.store.runs import attempts, results
from labqueue.submission import plan, specfile, submit


def recorder(flushes_s: list[float]) -> RunRecorder:
    """The real one, of a claimed run, that notes each commit's processor time."""
    settings = Settings(Path(tempfile.mkdtemp()))
    db = create_or_migrate(settings.database)
    request = plan.Request(profile="cpu")
    submit.submit(settings, [plan.plan(specfile.parse("name: own\nkind: drill\n", "own"), request)], request)
    worker = results.register_worker(db, device="cpu", host="benchmark", pid=os.getpid(), pid_start=0)
    claim = attempts.claim(db, device="cpu", worker_id=worker)
    assert claim is not None, "just submitted"

    class Timed(RunRecorder):
        def flush(self) -> None:
            before = time.thread_time()
            super().flush()
            flushes_s.append(time.thread_time() - before)

    return Timed(settings, db, claim, "cpu")


def time_own(own_s: list[float]) -> None:
    """Notes, of each step, what the lab's trainer does between two of them, without what TRL's does in it."""
    make = trl_trainer.make_trainer

    def made(*args: Any, **options: Any) -> Any:
        result = make(*args, **options)
        ours: Any = type(result)
        theirs: Any = ours.__mro__[1]
        inner = [0.0]
        ours_at, theirs_at = ours._maybe_log_save_evaluate, theirs._maybe_log_save_evaluate

        def timed_theirs(self: Any, *args: Any, **options: Any) -> None:
            before = time.perf_counter()
            theirs_at(self, *args, **options)
            inner[0] += time.perf_counter() - before

        def timed_ours(self: Any, *args: Any, **options: Any) -> None:
            inner[0], before = 0.0, time.perf_counter()
            ours_at(self, *args, **options)
            own_s.append(time.perf_counter() - before - inner[0])

        theirs._maybe_log_save_evaluate, ours._maybe_log_save_evaluate = timed_theirs, timed_ours
        return result

    trl_trainer.make_trainer = made


def main() -> None:
    """Trains, and prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--step-ms", type=float, default=351)
    given = parser.parse_args()
    own_s: list[float] = []
    flushes_s: list[float] = []
    rec = recorder(flushes_s)
    time_own(own_s)
    task = {"task": "chain_sum", "options": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}}
    params = {
        "model": "random-tiny",
        "data": task | {"train_items": 512, "eval_items": 8},
        "steps": given.steps,
        "batch": 2,
        "learning_rate": 1e-3,
        "max_length": 128,
        "evaluations": 0,
        "samples": 0,
        "gradient_checkpointing": False,
    }
    rec.start()
    finetune.run(finetune.Params.parse(params), rec)
    rec.close()
    own_ms = 1e3 * statistics.median(own_s[1:-1])
    flush_ms = 1e3 * statistics.median(flushes_s)
    found = {
        "own_ms_per_step": round(own_ms, 3),
        "recorder_ms_per_commit": round(flush_ms, 3),
        "steps": len(own_s),
        "commits": len(flushes_s),
        f"share_of_a_step_of_{given.step_ms:g}_ms": round(own_ms / given.step_ms + flush_ms / (1e3 * FLUSH_S), 4),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
