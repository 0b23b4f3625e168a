"""The kind that ``docs/adding-an-experiment.md`` shows runs as it stands there, and resumes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests import own_kinds
from tests.commands import REPOSITORY, call
from tests.conftest import Lab, wait_until

TEXT = (REPOSITORY / "docs" / "adding-an-experiment.md").read_text(encoding="utf-8")


def block(language: str, beginning: str) -> str:
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL) if text.startswith(beginning)]
    return str(found)


def installed(folder: Path) -> dict[str, str]:
    folder.mkdir()
    return own_kinds.install(folder, {"walk": block("python", '"""A random walk')})


def distances(lab: Lab, run: int, extra: dict[str, str]) -> Any:
    return lab.run("metrics", str(run), "distance", "--json", **extra).json


def test_the_kind_and_the_spec_of_the_guide_run_and_their_claim_is_judged(lab: Lab, tmp_path: Path) -> None:
    extra = installed(tmp_path / "site")
    path = lab.text(block("yaml", "name: walk"), "walk")
    done = lab.run("submit", path, "--profile", "cpu", "--run", "--json", **extra)
    assert done.code == 0, done.err
    (verdict,) = lab.run("report", "walk", "--json", **extra).json["verdicts"]
    assert verdict["verdict"] == "supported"


def test_the_kind_of_the_guide_resumes_as_if_it_had_not_been_stopped(lab: Lab, tmp_path: Path) -> None:
    extra = installed(tmp_path / "site")
    text = block("yaml", "name: walk").replace("steps: 1000", "steps: 40000").replace("[0, 1, 2, 3, 4, 5, 6, 7]", "[0]")
    for name in ("stopped", "whole"):
        path = lab.text(text.replace("name: walk", f"name: {name}"), name)
        assert lab.run("submit", path, "--profile", "cpu", "--force", **extra).code == 0
    worker = lab.start("worker", "--device", "cpu", **extra)
    try:
        wait_until(lambda: list((lab.root / "outputs" / "stopped" / "1").glob("checkpoints/step-*")))
        worker.terminate()
        worker.communicate(timeout=30)
    finally:
        worker.kill()
    assert lab.run("worker", "--drain", "--device", "cpu", **extra).code == 0
    resumed = call(lab, "show", 1, "--json", **extra).json["attempts"][-1]["resumed_from_step"]
    assert resumed is not None
    assert 0 < resumed < 40000
    assert distances(lab, 1, extra) == distances(lab, 2, extra)
