"""A workspace of its own for every test, and the command line as a user has it: a real child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from labqueue.settings import Settings
from labqueue.store.db import Database, create_or_migrate
from labqueue.system import cards

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # of what tests make themselves; the product sees to its own
EXPLORE = os.environ.get("LABQUEUE_EXPLORE")
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=int(EXPLORE or "1"), deadline=None)
# A change is judged by the same examples each time; new ones are looked for in `make chaos`, where a find can be kept.
settings.load_profile("explore" if EXPLORE else "fixed")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a case of bytes by its argument: what packs bytes stamps them, and workers must collect one list."""
    return argname if isinstance(val, bytes) else None


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str
    cpu_s: float | None = None
    """Processor time that it took; None where it was not measured."""

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Lab:
    """A workspace in a temporary folder."""

    root: Path

    @property
    def settings(self) -> Settings:
        return Settings(self.root)

    @property
    def db(self) -> Database:
        return create_or_migrate(self.settings.database)

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            **os.environ,
            "LABQUEUE_ROOT": str(self.root),
            "LABQUEUE_LOCKS": str(self.root / "locks"),
            "COLUMNS": "200",
            **extra,
        }

    def start(self, *words: str, **extra: str) -> subprocess.Popen[str]:
        """Starts a command and leaves it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "labqueue", *words],
            env=self.environment(**extra),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str | Path, **extra: str) -> Answer:
        """Runs a command to its end: by a fork, or by an interpreter of its own where the environment asks for one."""
        from tests import commands  # it imports this module

        if commands.read_after_the_start(self.environment(**extra)):
            return commands.call(self, *words, **extra)
        done = subprocess.run(
            [sys.executable, "-m", "labqueue", *map(str, words)],
            env=self.environment(**extra),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def spec(self, name: str = "drill_test", **fields: Any) -> Path:
        """Writes a drill spec (YAML is a superset of JSON) and returns its path."""
        path = self.root / f"{name}.yaml"
        path.write_text(json.dumps({"name": name, "kind": "drill", **fields}))
        return path

    def text(self, text: str, name: str = "spec") -> Path:
        """Writes a spec as it stands and returns its path."""
        path = self.root / f"{name}.yaml"
        path.write_text(text)
        return path


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A fresh workspace."""
    return Lab(tmp_path)


def wait_until(true: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Waits for a condition and returns its value; fails when it does not come true in time."""
    give_up = time.monotonic() + timeout_s
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > give_up:
            raise AssertionError(f"not true within {timeout_s} s: {true}")
        time.sleep(0.02)


LONGEST = (
    "cli/test_loop", "attempt/test_checkpoints", "search/test_search_worker", "kinds/test_finetune",
    "chaos/test_crashes", "worker/test_stopping", "worker/test_notifications", "kinds/test_real_model",
    "worker/test_workspaces", "kinds/test_pins", "llm/test_packing", "kinds/test_finetune_method",
    "store/test_eligibility", "store/test_queue_machine", "llm/test_task_list", "test_ralph",
)  # fmt: skip
"""Modules of half a minute and more, the longest first. A module runs in one process: one of these that came last would
leave the other processes idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules come first. Tests marked ``gpu`` are skipped where there is no card, and say so."""
    order = {f"tests/{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))
    if not cards.gpus():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device; this machine has none"))
