"""Tables on a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from labqueue.cli.main import COMMANDS
from labqueue.store.runs import control
from tests.commands import call
from tests.conftest import Lab


def on_a_terminal(*words: str, columns: int) -> list[str]:
    """Lines that a command prints on a terminal of so many columns, without colours."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "labqueue", *words],
        stdout=side,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"},
    )
    os.close(side)
    said = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not part:
            break
        said += part
    os.close(main)
    assert process.wait() == 0
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in said.decode().splitlines()]


def test_a_narrow_terminal_gets_whole_rows_and_is_told_which_columns_are_missing() -> None:
    lines = on_a_terminal("models", columns=80)
    hidden = next(line for line in lines if "not shown for want of room" in line)
    assert max(map(len, lines[: lines.index(hidden)])) <= 80
    assert sum("qwen2.5-7b-instruct" in line for line in lines) == 1
    assert "source" in hidden


def test_a_pipe_gets_every_column_of_every_row_on_one_line() -> None:
    words = [sys.executable, "-m", "labqueue", "kinds", "finetune"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sum(re.match(r"learning_rate .* Peak learning rate\.$", line) is not None for line in lines) == 1
    assert any(line.endswith("or a folder with a config.json.") for line in lines), "help is cut"


def test_every_command_takes_the_workspace_after_its_name(lab: Lab) -> None:
    for name in COMMANDS:
        assert "--root DIR" in call(lab, name, "--help").out, name
    assert call(lab, "kinds", "--root", lab.root).code == 0
    assert call(lab, "new", "mine", "--kind", "drill", "--root", lab.root / "other").code == 0
    assert (lab.root / "other" / "jobs" / "mine.yaml").exists()


@pytest.mark.parametrize("words", [["status"], ["queue"], ["report"], ["runs"], ["jobs"]], ids=" ".join)
def test_a_folder_in_which_nothing_was_submitted_says_so_and_is_no_mistake(lab: Lab, words: list[str]) -> None:
    answer = call(lab, *words)
    assert (answer.code, answer.err) == (0, "")
    assert "nothing has been submitted" in answer.out
    assert call(lab, *words, "--json").json["schema"] == 1
    assert not lab.settings.database.exists()


def test_a_priority_below_zero_is_a_number_and_no_option(lab: Lab) -> None:
    call(lab, "submit", lab.spec("later"))
    answer = call(lab, "prioritize", "later", "-5", "--json")
    assert answer.code == 0, answer.err
    assert [run["priority"] for run in call(lab, "status", "--json").json["queued"]] == [-5]
    assert call(lab, "prioritize", "later", "--jsn").code == 2


def test_a_long_reason_that_all_runs_share_is_said_once(lab: Lab) -> None:
    call(lab, "submit", lab.spec("many", seeds=[0, 1, 2]))
    why = "three runs failed alike: " + "the same long message of a library " * 3
    control.halt(lab.db, why, "alike")
    out = call(lab, "status").out
    assert out.count(why.strip()) <= 2, "above all, and once for the rows"
    assert out.count("paused") >= 3


def test_the_jobs_of_an_experiment_are_listed_with_what_each_claimed(lab: Lab) -> None:
    claim = {"id": "falls", "claim": "the value falls", "threshold": {"metric": "value", "below": 1.0}}
    call(lab, "submit", lab.spec("claims", seeds=[0, 1]))
    call(lab, "submit", lab.spec("claims", seeds=[0, 1, 2], predictions=[claim]))
    first, second = call(lab, "jobs", "claims", "--json").json["jobs"]
    assert (first["runs"], first["reused"], first["predictions"]) == (2, 0, [])
    assert (second["runs"], [p["id"] for p in second["predictions"]]) == (3, ["falls"])
    out = call(lab, "jobs", "claims").out
    assert "job 1 claimed nothing" in out
    assert "falls: the value falls" in out
    assert call(lab, "jobs", "cliams").code == 2


def test_a_log_shows_the_last_state_of_a_bar_and_no_escape(lab: Lab) -> None:
    call(lab, "submit", lab.spec("bars", params={"steps": 1}), "--profile", "cpu")
    assert call(lab, "worker", "--drain", "--device", "cpu").code == 0
    log = lab.settings.run("bars", 1) / "attempt-1.log"
    log.write_bytes(b"\x1b[31mred\x1b[0m\n" + b"".join(b"\r%d %%" % n for n in range(101)) + b"\nend \x1b]0;t\x07")
    assert call(lab, "logs", 1).out == "red\n100 %\nend \\x1b]0;t\\x07\n"
