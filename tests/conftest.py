"""A workspace of its own for every test, and the command line as a user has it: a real child process."""

from __future__ import annotations

import gc
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
from tests import warm_start

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
    imported: tuple[str, ...] = warm_start.LAB
    """What its commands and their children have imported as they start (``tests.warm_start``); of nothing, each starts
    an interpreter of its own."""

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

    def start(self, *words: str, any_environment: bool = False, **extra: str) -> subprocess.Popen[str]:
        """Starts a command and leaves it running. What changes an environment variable that an interpreter or a library
        may read as it starts gets an interpreter of its own, but for ``any_environment``."""
        env = self.environment(**extra)
        warm = self.imported and (any_environment or warm_start.passes_on(env))
        popen = warm_start.popen(self.imported) if warm else subprocess.Popen
        return popen(
            [sys.executable, "-m", "labqueue", *words],
            env=env,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str | Path, any_environment: bool = False, **extra: str) -> Answer:
        """Runs a command to its end."""
        with self.start(*map(str, words), any_environment=any_environment, **extra) as command:
            try:
                out, err = command.communicate(timeout=300)
            except BaseException:
                command.kill()
                raise
        return Answer(command.returncode, out, err)

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


@pytest.fixture
def training_lab(tmp_path: Path) -> Lab:
    """A fresh workspace whose processes have imported what training needs."""
    return Lab(tmp_path, imported=warm_start.MODELS)


def wait_until(true: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Waits for a condition and returns its value; fails when it does not come true in time."""
    give_up = time.monotonic() + timeout_s
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > give_up:
            raise AssertionError(f"not true within {timeout_s} s: {true}")
        time.sleep(0.02)


def pytest_runtest_teardown() -> None:
    """What the models' libraries made as they were imported stays: looking through it at each collection was a fifth of
    every training."""
    if "trl" in sys.modules and not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` are skipped where there is no card, and say so."""
    if not cards.gpus():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device; this machine has none"))
