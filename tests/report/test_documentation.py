"""What ``docs/reports.md`` shows works as it is shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from labqueue.domain.questions import Status, parse
from labqueue.domain.spec.predictions import TESTS, Prediction
from labqueue.domain.spec.schema import MetricPair
from tests.commands import REPOSITORY
from tests.conftest import Lab
from tests.store.factories import executed, submitted

TEXT = (REPOSITORY / "docs" / "reports.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_every_prediction_shown_is_valid_and_every_test_is_shown() -> None:
    shown = YAML(typ="safe").load(blocks("yaml")[0])["predictions"]
    found = [Prediction.model_validate_json(json.dumps(each)) for each in shown]
    assert {name for name in TESTS for each in found if getattr(each, name) is not None} == set(TESTS)


def test_the_plot_shown_is_valid_and_every_field_is_shown() -> None:
    (shown,) = YAML(typ="safe").load(blocks("yaml")[1])["plots"]
    assert set(MetricPair.model_validate_json(json.dumps(shown)).model_dump()) == set(shown)


def test_the_question_shown_has_the_shape_that_is_read() -> None:
    (block,) = blocks("markdown")
    (question,) = parse(block, "docs/reports.md")
    assert question.status is Status.ANSWERED
    assert question.cited[0].runs == tuple(range(1, 13))
    assert len(question.sub_questions) == 2


def test_the_line_for_pandas_reads_a_report(lab: Lab) -> None:
    pytest.importorskip("pandas")
    db = lab.db
    submitted(db, "measured", [{"steps": 1}, {"steps": 2}])
    for value in (0.5, 0.25):
        executed(db, points=[("value", 1, value)])
    db.close()
    (block,) = blocks("python")
    program = block.replace("NAME", "measured") + "\nprint(runs[['id', 'steps', 'value']].to_json(orient='values'))"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=lab.environment(PATH=path),
        cwd=lab.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [[1, 1, 0.5], [2, 2, 0.25]]


def test_every_command_shown_exists() -> None:
    from labqueue.cli.main import COMMANDS

    named = set(re.findall(r"labqueue ([a-z]+)", TEXT))
    assert len(named) > 8
    assert named <= COMMANDS.keys()
