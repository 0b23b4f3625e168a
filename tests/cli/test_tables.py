"""Tables on a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys


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
    assert max(map(len, lines[:-1])) <= 80
    assert sum("qwen2.5-7b-instruct" in line for line in lines) == 1
    assert "note" in lines[-1]
    assert "not shown for want of room" in lines[-1]


def test_a_pipe_gets_every_column_of_every_row_on_one_line() -> None:
    words = [sys.executable, "-m", "labqueue", "kinds", "finetune"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sum(line.startswith("learning_rate") for line in lines) == 1
    assert any(line.endswith("or a folder with a config.json.") for line in lines), "help is cut"
