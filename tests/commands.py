"""Command lines at the price of a fork, and what every refusal must look like."""

from __future__ import annotations

import atexit
import functools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.conftest import Answer, Lab

REPOSITORY = Path(__file__).resolve().parent.parent

RECORDED = ("experiments", "jobs", "runs", "job_runs", "attempts", "metrics", "series", "events", "artifacts")

STARTED = dict(os.environ)

AFTER_THE_START = ("LABQUEUE_", "PYTEST_", "COLUMNS")
"""How the names of variables begin that no interpreter and no library reads as it starts."""

SET_BY_LOADING = (
    "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "KMP_",
    "TORCHINDUCTOR_CACHE_DIR",
)  # fmt: skip
"""And of those that a process sets itself once it loads a model; a command, its worker and its runs set them anew."""


def read_after_the_start(env: dict[str, str]) -> bool:
    """Whether a fork of the server sees all that differs in this environment from the one it was started in."""
    changed = {name for name in env.keys() | STARTED.keys() if env.get(name) != STARTED.get(name)}
    return all(name.startswith(AFTER_THE_START + SET_BY_LOADING) for name in changed)


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fork_server"],
        cwd=REPOSITORY,
        env=STARTED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait(10)

    atexit.register(end)
    return server


def call(lab: Lab, *words: str | Path | int, **extra: str) -> Answer:
    """``labqueue WORDS`` to its end in a process of its own, without the start of an interpreter."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        request = {
            "words": [str(word) for word in words],
            "cwd": str(lab.root),
            "env": lab.environment(**extra),
            "out": str(out),
            "err": str(err),
        }
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code, cpu_s = server.stdout.readline().split()
        return Answer(int(code), out.read_bytes().decode(), err.read_bytes().decode(), float(cpu_s))


def rows(lab: Lab) -> dict[str, int]:
    """How many rows each table of the workspace holds, read past the lab; nothing where there is no database."""
    path = lab.settings.database
    if not path.exists():
        return {}
    with sqlite3.connect(path) as connection:
        found = {}
        for table in RECORDED:
            n = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            if n:
                found[table] = n
    connection.close()
    return found


def refused(answer: Answer, code: int = 2) -> dict[str, Any]:
    """Asserts what holds of every refusal with ``--json``, and returns its error object."""
    assert answer.code == code, (answer.code, answer.out, answer.err)
    assert "Traceback" not in answer.err
    assert "Warning" not in answer.err
    assert len(answer.err.strip().splitlines()) == 1, f"one paragraph, not {answer.err!r}"
    document = json.loads(answer.out)
    assert set(document) == {"schema", "error"}
    assert document["schema"] == 1
    error = document["error"]
    assert set(error) == {"message", "file", "line", "key"}
    assert error["message"] in answer.err
    if error["file"] is not None:
        place = f"{error['file']}:{error['line']}: " if error["line"] is not None else f"{error['file']}: "
        assert place in answer.err
    return error
