"""What is true of the library's tasks, found in a process of its own: ``python -m tests.llm.task_proof < request``.

The request is JSON: cases (task, options, rows), whether to draw in reverse order, and whether to try the scorers.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from labqueue.domain.errors import LabError
from labqueue.llm.data.generated import task_list
from labqueue.llm.data.generated.task_source import Source

ROOT = Path(__file__).resolve().parents[2]
ZONES = ("EST5EDT", "IST-5:30")
SEED = 7
SCORED = 8
"""Rows of a case whose scorer is tried with junk."""
CANARY = 7919
"""Stands in no row; seen among the constants of code that runs, it came from a reply."""

ran: list[types.CodeType] = []


def start(cases: list[tuple[str, dict[str, Any], int]], *, hash_seed: int, reverse: bool, scorers: bool) -> Any:
    """A fresh process with another hash seed, random state, order, number of rows and time zone."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.llm.task_proof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": str(hash_seed), "TZ": ZONES[hash_seed % 2], "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"cases": cases, "unrelated": hash_seed, "reverse": reverse, "scorers": scorers}))
    process.stdin.close()
    return process


def result(process: Any) -> list[dict[str, Any]]:
    """What it found, in the order of the cases."""
    found: list[dict[str, Any]] = json.loads(process.stdout.read())
    assert process.wait() == 0
    return found


def junk(entry: dict[str, Any], others: list[str]) -> Iterator[str]:
    """Replies that are no answer to an entry."""
    answer = entry["answer"].strip()
    yield from others
    yield from (answer[: len(answer) // 2], answer[:-1], answer[1:])
    yield from (f"The answer is {answer}", f"{answer} is the answer", f"{answer} or something else", f"{answer}1")
    yield from (f"{answer} {answer}", f"{answer}\nno", f"{answer}\0", f"{answer} {others[0]}", answer * 1000 + "q")
    yield from ("", " \n", "?", "answer", "The quick brown fox jumps over the lazy dog.", "x" * 100_000, "9" * 10_000)
    yield from ("答え ☃ é", "１２３", "\ud800", "\0", "a\nb\nc", ",,,", "1 2 3 4", "0", "-1", "1/0", "1e400", "(" * 300)
    yield from ("nan", "inf", "-inf", "None", "True", "False", "null", "[]", "{}", "[[]]", "[[1,2],[3]]")
    yield from ('{"a": [1, null, {"b": "c"}]}', "[" * 100_000, "9**9")


def findings(source: Source, entries: list[dict[str, Any]], *, by_library: bool) -> Iterator[str]:
    """What is wrong with a scorer."""
    score = source.by_library if by_library else source.score
    answers = [entry["answer"].strip() for entry in entries]
    for own, entry in zip(answers, entries, strict=True):
        if score(entry, own) != 1.0:
            yield f"takes its own answer {own[:40]!r} for wrong"
    for own, entry in list(zip(answers, entries, strict=True))[:SCORED]:
        shapes = (
            re.sub(r"\d+", str(CANARY), own, count=1),
            f"[{CANARY}]",
            f"[[{CANARY}]]",
            str(CANARY),
            f"['{CANARY}']",
        )
        for reply in shapes:
            ran.clear()
            score(entry, reply)
            if any(str(CANARY) in repr(code.co_consts) for code in ran):
                yield f"runs the reply {reply[:40]!r}"
        others = [other for other in answers if other != own][:2] or ["zz"]
        for reply in junk(entry, others):
            if not _same(reply, own) and score(entry, reply) != 0.0:
                yield f"takes {reply[:60]!r} for {own[:40]!r}"


def _same(reply: str, answer: str) -> bool:
    """Whether it is the answer after all: equal text, or an equal number."""
    try:
        return reply.strip() == answer or Fraction(reply) == Fraction(answer)
    except (ValueError, ZeroDivisionError):
        return False


def prove(task: str, options: dict[str, Any], rows: int, *, reverse: bool, scorers: bool) -> dict[str, Any]:
    """Digests of the rows by index, and what is wrong with the task."""
    found: dict[str, Any] = {"digests": [], "wrong": [], "library": []}
    try:
        source = Source(task, options, seed=SEED, rows=4 * rows if reverse else rows)
        order = range(rows)[::-1] if reverse else range(rows)
        entries = list(source.entries(order))
    except LabError as error:
        return {**found, "wrong": [error.message], "library": [error.message]}
    if reverse:
        entries.reverse()
    for entry in entries:
        text = json.dumps([entry["question"], entry["answer"]])
        found["digests"].append(hashlib.sha256(text.encode()).hexdigest()[:16])
    if scorers:
        some = [entry for entry in entries if entry["answer"].strip()]
        offered = task not in task_list.NOT_OFFERED
        if offered:
            found["wrong"] = list(findings(source, some, by_library=False))
        if task not in task_list.BY_LIBRARY:
            first = next(findings(source, some, by_library=True), None)
            found["library"] = [first] if first else []
    return found


def main() -> None:
    """Answers one request."""
    request = json.load(sys.stdin)
    import numpy

    random.seed(request["unrelated"])
    numpy.random.seed(request["unrelated"])

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "exec" and isinstance(given[0], types.CodeType):
            ran.append(given[0])

    sys.addaudithook(hook)
    how = {"reverse": request["reverse"], "scorers": request["scorers"]}
    json.dump([prove(task, options, rows, **how) for task, options, rows in request["cases"]], sys.stdout)


if __name__ == "__main__":
    main()
