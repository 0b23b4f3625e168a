"""The principles of unattended iteration name mechanisms that exist and commands that work."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.commands import REPOSITORY, call
from tests.conftest import Lab

RALPH = REPOSITORY / "ralph"
PAGES = sorted(RALPH.glob("*.md"))
PRINCIPLES = [page for page in PAGES if page.name != "README.md"]


def commands(page: Path) -> list[tuple[list[str], int]]:
    """Every line of the page's shell blocks: its words, and the exit status that it promises (0 where it is silent)."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.strip().splitlines():
            said = re.search(r"#\s*exits (\d)", line)
            found.append((shlex.split(line, comments=True), int(said[1]) if said else 0))
    return found


def test_there_are_seven_principles_and_the_index_links_each() -> None:
    linked = re.findall(r"\]\((\w+\.md)\)", (RALPH / "README.md").read_text())
    assert sorted(linked) == [page.name for page in PRINCIPLES]
    assert len(linked) == 7


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_principle_names_modules_that_exist(page: Path) -> None:
    named = set(re.findall(r"`(labqueue/[\w/]+\.py)`", page.read_text()))
    assert named
    assert not [name for name in named if not (REPOSITORY / name).is_file()]


def test_the_command_of_the_index_is_one_that_a_principle_shows() -> None:
    (whole,) = commands(RALPH / "README.md")
    assert whole in commands(RALPH / "completion_as_a_contract.md")


@pytest.mark.parametrize("page", PRINCIPLES, ids=lambda page: page.stem)
def test_the_commands_of_a_principle_do_what_it_says(lab: Lab, page: Path) -> None:
    shutil.copytree(REPOSITORY / "jobs", lab.root / "jobs")
    asked = commands(page)
    assert asked
    for words, status in asked:
        assert words[0] == "labqueue"
        answer = lab.run(*words[1:]) if words[1] in ("worker", "loop") else call(lab, *words[1:])
        assert answer.code == status, (words, answer.out, answer.err)
        assert "Traceback" not in answer.err
