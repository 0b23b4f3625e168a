"""``labqueue worker --install``: a unit file that systemd reads as we meant it, and nobody's file overwritten."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labqueue.domain.errors import LabError
from labqueue.worker import systemd
from tests.commands import call
from tests.conftest import Answer, Lab


def install(lab: Lab, config: Path, *words: str, **extra: str) -> tuple[Answer, list[Path]]:
    answer = call(lab, "worker", "--install", "--device", "cpu", *words, XDG_CONFIG_HOME=str(config), **extra)
    return answer, sorted(config.rglob("*.service"))


def read(text: str) -> dict[str, list[str]]:
    """The settings of a unit file as systemd.syntax(7) has them: comments and sections left out."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#;[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def words_of(value: str, *, command: bool) -> list[str]:
    """A list of words as systemd reads it: double quotes, C escapes, ``%%``, and in a command line ``$$``."""
    words = []
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', value):
        word = re.sub(r"\\(.)", r"\1", quoted) if quoted or not plain else plain
        assert not re.search(r"(?<!%)(?:%%)*%(?!%)", word), f"{word!r} has a specifier"
        word = word.replace("%%", "%")
        if command:
            assert not re.search(r"(?<!\$)(?:\$\$)*\$(?!\$)", word), f"{word!r} has a variable"
            word = word.replace("$$", "$")
        words.append(word)
    return words


def complaints(path: Path) -> list[str]:
    """What systemd says of this unit; it looks at the machine's other units too."""
    with tempfile.TemporaryDirectory() as runtime:
        done = subprocess.run(
            ["systemd-analyze", "--user", "--man=no", "verify", str(path)],
            env={**os.environ, "XDG_RUNTIME_DIR": runtime},
            capture_output=True,
            text=True,
            check=False,
        )
    assert "Failed to initialize" not in done.stderr
    return [line for line in done.stderr.splitlines() if path.name in line]


def test_the_unit_starts_this_worker_and_keeps_it_up(lab: Lab, tmp_path: Path) -> None:
    options = ("--memory-gib", "14.5", "--grace", "12", "--between", "22:00-08:00")
    variables = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "LABQUEUE_NOTIFY": "json://pw"}
    answer, (path,) = install(lab, tmp_path / "config", *options, **variables)
    assert (answer.code, answer.err) == (0, "")
    assert path.parent == tmp_path / "config" / "systemd" / "user"
    assert path.name.startswith("labqueue-")
    found = read(path.read_text())
    (start,) = found["ExecStart"]
    python, *words = words_of(start, command=True)
    assert python == sys.executable
    assert words == [
        *("-m", "labqueue", "worker", "--root", str(lab.root)),
        *("--device", "cpu", "--memory-gib", "14.5", "--grace", "12.0", "--between", "22:00-08:00"),
    ]
    (patience,) = found["TimeoutStopSec"]
    assert float(patience) > 12
    single = ("Restart", "KillMode", "OOMPolicy", "StartLimitIntervalSec", "WantedBy", "WorkingDirectory")
    assert [found[key] for key in single] == [
        *(["always"], ["mixed"], ["continue"], ["0"], ["default.target"], [str(lab.root)])
    ]
    assert int(found["Nice"][0]) > 0
    assert {"CUDA_VISIBLE_DEVICES=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"} <= set(found["Environment"])
    assert "json://pw" not in path.read_text() + answer.out
    assert "labqueue.toml" in answer.out
    for words_shown in ("systemctl --user daemon-reload", f"enable --now {path.name}", "loginctl enable-linger"):
        assert words_shown in answer.out


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd's own reader is not here")
@pytest.mark.parametrize("name", ["lab", "my lab 100% $HOME", 'a "b" \\ c; é'])
def test_systemd_itself_accepts_the_unit(tmp_path: Path, name: str) -> None:
    lab = Lab(tmp_path / name)
    lab.root.mkdir()
    _, (path,) = install(lab, tmp_path / "config", CUDA_VISIBLE_DEVICES="0,1")
    assert complaints(path) == []
    path.write_text(path.read_text().replace("KillMode=mixed", "KillMode=gently"))
    assert "gently" in complaints(path)[0], "the reader does look"


PATHS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=300, deadline=None)
@given(PATHS, st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)))
@example("a b%c$d\"e\\\\f'g;h", ["%%", "$$X", '"', "'", "\\n", "a=b", ";", "é"])
def test_any_path_and_any_word_comes_out_as_it_went_in_or_is_refused(name: str, words: list[str]) -> None:
    root = Path("/") / name
    given = [str(root), *words]
    strange = any(not word.isprintable() or word != word.strip() or word.endswith("\\") for word in given)
    environment = {"XDG_CONFIG_HOME": "/config", "HF_HOME": str(root)}
    try:
        made = systemd.unit(root, words, device="auto", grace_s=5, environment=environment)
    except LabError:
        assert strange
        return
    assert not strange
    found = read(made.text)
    assert words_of(found["ExecStart"][0], command=True)[4:] == ["--root", str(root), *words]
    assert found["WorkingDirectory"][0].replace("%%", "%") == str(root)
    assert words_of(found["Environment"][0], command=False) == [f"HF_HOME={root}"]
    assert re.fullmatch(r"labqueue-[a-z0-9-]+-[0-9a-f]{8}\.service", made.name)


def test_a_second_call_changes_nothing_and_a_changed_one_rewrites(lab: Lab, tmp_path: Path) -> None:
    _, (path,) = install(lab, tmp_path / "config")
    before = path.read_bytes(), path.stat().st_mtime_ns
    answer, _ = install(lab, tmp_path / "config")
    assert "nothing to change" in answer.out
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    answer, (same,) = install(lab, tmp_path / "config", "--grace", "99")
    assert (answer.code, same) == (0, path)
    assert "--grace 99.0" in path.read_text()
    other = Lab(tmp_path / "other")
    other.root.mkdir()
    _, both = install(other, tmp_path / "config")
    assert len(both) == 2, "each workspace has its own"


@pytest.mark.parametrize("content", ["[Service]\nExecStart=/bin/true\n", None, ""])
def test_a_file_that_it_did_not_write_is_not_overwritten(lab: Lab, tmp_path: Path, content: str | None) -> None:
    _, (path,) = install(lab, tmp_path / "config")
    path.write_text(path.read_text().replace("Nice=5", "Nice=19") if content is None else content)
    before = path.read_bytes()
    answer, _ = install(lab, tmp_path / "config", "--grace", "99")
    assert answer.code == 2
    assert str(path) in answer.err
    assert path.read_bytes() == before
    path.unlink()
    path.symlink_to("/dev/null")
    answer, _ = install(lab, tmp_path / "config")
    assert answer.code == 2
    assert "/dev/null" in answer.err


def test_a_worker_that_would_end_or_has_no_device_is_not_installed(lab: Lab, tmp_path: Path) -> None:
    for option in (["--drain"], ["--until", "07:30"]):
        answer, paths = install(lab, tmp_path / "config", *option)
        assert (answer.code, paths) == (2, [])
        assert option[0] in answer.err
    answer, paths = install(lab, tmp_path / "config", "--device", "cuda:99")
    assert (answer.code, paths) == (2, [])


def test_without_a_configuration_folder_it_is_the_home_folders(lab: Lab, tmp_path: Path) -> None:
    for config in ("", "relative"):
        home = tmp_path / f"home{config}"
        answer = call(lab, "worker", "--install", "--device", "cpu", XDG_CONFIG_HOME=config, HOME=str(home))
        assert answer.code == 0
        assert len(list((home / ".config" / "systemd" / "user").glob("labqueue-*.service"))) == 1


def test_the_folder_that_cannot_be_written_is_named(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file")
    answer, _ = install(lab, tmp_path / "config")
    assert answer.code == 2
    assert str(tmp_path / "config") in answer.err
    assert "Traceback" not in answer.err
