"""Every command explains itself, quickly, and is told of in the README."""

from __future__ import annotations

import re

import pytest

from labqueue.cli.main import COMMANDS
from tests.commands import REPOSITORY, call
from tests.conftest import Lab


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_explains_itself(lab: Lab, command: str) -> None:
    answer = call(lab, command, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"Usage: labqueue {command}")
    about = answer.out.split("Options:")[0].splitlines()[2:]
    assert any(line.strip() for line in about)
    listed = re.findall(r"^  (--?[a-z][^ ,]*)(?:, (--[a-z-]+))?", answer.out, re.MULTILINE)
    assert listed
    options = answer.out.split("Options:")[1]
    for chunk in re.split(r"\n  (?=-)", options)[1:]:
        assert len(chunk.split()) > 2, f"{chunk!r} is not explained"


def test_the_list_of_commands_has_every_command(lab: Lab) -> None:
    answer = call(lab, "--help")
    for name, (_, _, about) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(about.split()[0])}", answer.out, re.MULTILINE)
    assert call(lab, "-h").out == answer.out


def test_without_words_the_help_is_the_answer_and_a_wrong_word_is_not(lab: Lab) -> None:
    bare = call(lab)
    assert (bare.code, bare.out, bare.err) == (0, call(lab, "--help").out, "")
    wrong = call(lab, "nonsense")
    assert (wrong.code, wrong.out) == (2, "")
    assert "there is no command 'nonsense'" in wrong.err


def test_every_command_that_prints_data_takes_json(lab: Lab) -> None:
    silent = {"worker", "logs", "new"}
    for name in COMMANDS.keys() - silent:
        assert "--json" in call(lab, name, "--help").out, name


def test_the_readme_names_every_command() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    if "labqueue submit" not in readme and "labqueue status" not in readme:
        pytest.skip("the README does not speak of commands yet")
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", readme)] == []


@pytest.mark.parametrize("script", ["submit.py", "worker.py"])
def test_the_scripts_are_the_commands(lab: Lab, script: str) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, REPOSITORY / script, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == call(lab, script.removesuffix(".py"), "--help", COLUMNS="80").out
