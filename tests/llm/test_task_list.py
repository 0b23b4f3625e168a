"""Every task that is offered is proved, in fresh processes; the list of them is the truth, in both directions.

``LABQUEUE_EXPLORE=120`` draws so many rows of each, and tries the options of the library's own curricula as well.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reasoning_gym.factory import CURRICULA, DATASETS
from ruamel.yaml import YAML

from labqueue.llm.data.generated import task_list, tasks
from labqueue.llm.data.generated.task_list import BY_LIBRARY, BY_TEXT, NOT_OFFERED
from tests.llm import task_proof

ROOT = Path(__file__).resolve().parents[2]
EXPLORE = int(os.environ.get("LABQUEUE_EXPLORE", "0"))
ROWS = EXPLORE or 24
FEW = 8
"""Rows of tasks that are not offered: they only have to fail."""
SLOW = {
    "futoshiki": 6,
    "intermediate_integration": 8,
    "knight_swap": 4,
    "puzzle24": 8,
    "sokoban": 8,
    "sudoku": 2,
    "zebra_puzzles": 6,
}
"""Of the rows, one in so many: these take 0.03 to 0.7 s each."""
EVIDENCE: list[tuple[str, dict[str, Any], int]] = [
    ("codeio", {"difficulty": 7}, 12),
    ("figlet_font", {"max_word_len": 10}, 8),
    ("polynomial_equations", {}, 24),
]
"""Cases that show what is wrong with a task where few rows with its own options do not."""

Case = tuple[str, dict[str, Any], int]


def used_in_specs(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "task" in node:
            yield node["task"], node.get("options", {})
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from used_in_specs(each)


UNFIT = {"jugs", "modulo_grid", "tsumego"}
"""Whose next step is no good, and refused: puzzles without a solution, options out of range, rows that fail."""


def of_curriculum(task: str) -> dict[str, Any]:
    """The options of the library's own next step of difficulty; those that a spec can hold."""
    if task not in CURRICULA or task in UNFIT:
        return {}
    curriculum = CURRICULA[task]()
    for name in curriculum.attributes:
        if len(curriculum.attributes[name].levels) > 1:
            curriculum.increment_attr_level(name)
    found = dataclasses.asdict(curriculum.generate_configuration())
    plain = dataclasses.asdict(DATASETS[task][1]())
    return {
        name: value
        for name, value in found.items()
        if name not in ("seed", "size") and value != plain[name] and isinstance(value, int | float | str | bool | list)
    }


def cases() -> list[Case]:
    found: dict[str, Case] = {}
    shipped = [YAML(typ="safe").load(path.read_text()) for path in sorted((ROOT / "jobs").rglob("*.yaml"))]
    tried = [(task, {}) for task in sorted(DATASETS)] + [pair for spec in shipped for pair in used_in_specs(spec)]
    if EXPLORE:
        tried += [(task, of_curriculum(task)) for task in tasks.names()]
    for task, options in tried:
        rows = FEW if task in NOT_OFFERED else ROWS
        found[json.dumps([task, options])] = task, options, max(1, rows // SLOW.get(task, 1))
    found.update({json.dumps([task, options]): (task, options, rows) for task, options, rows in EVIDENCE})
    return list(found.values())


@pytest.fixture(scope="module")
def proof() -> list[tuple[Case, dict[str, Any], dict[str, Any]]]:
    """Each case with what two processes found."""
    wanted = cases()
    one = task_proof.start(wanted, hash_seed=1, reverse=False, scorers=True)
    other = task_proof.start(wanted, hash_seed=2, reverse=True, scorers=False)
    return list(zip(wanted, task_proof.result(one), task_proof.result(other), strict=True))


def test_the_list_names_every_task_of_the_library_once() -> None:
    named = [*BY_LIBRARY, *BY_TEXT, *NOT_OFFERED]
    assert sorted(named) == sorted(DATASETS)
    assert len(set(named)) == len(named)


def test_the_list_is_of_the_version_that_the_project_installs() -> None:
    constraints = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    assert f"reasoning-gym=={task_list.VERSION}" in constraints


def test_every_offered_task_draws_equal_rows_in_every_process(proof: Any) -> None:
    """With another hash seed, random state, order of drawing, number of rows and time zone."""
    offered = [each for each in proof if each[0][0] not in NOT_OFFERED]
    assert {case[0] for case, _, _ in offered} == set(tasks.names())
    assert {"chain_sum", "word_sequence_reversal"} <= {case[0] for case, _, _ in offered if case[1]}, (
        "as specs use them"
    )
    assert all(len(one["digests"]) == case[2] for case, one, _ in offered)
    assert [case[:2] for case, one, other in offered if one["digests"] != other["digests"]] == []


def test_every_offered_task_scores_its_own_answers_1_and_junk_0_and_runs_no_reply(proof: Any) -> None:
    wrong = {json.dumps(case[:2]): one["wrong"] for case, one, _ in proof if case[0] in tasks.names()}
    assert {case: found for case, found in wrong.items() if found} == {}


def test_every_task_that_is_not_offered_or_scored_by_text_fails_the_librarys_proof(proof: Any) -> None:
    """Else the list would withhold what is good."""
    fail = {case[0] for case, one, other in proof if one["library"] or one["digests"] != other["digests"]}
    assert set(DATASETS) - BY_LIBRARY - fail == set()
