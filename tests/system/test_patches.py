"""Changed sources are kept as a patch that git itself accepts, and reading them leaves the checkout as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from labqueue.settings import Settings
from labqueue.system import patches, provenance
from tests.commands import call
from tests.conftest import Lab

OWNER = {
    "GIT_AUTHOR_NAME": "o", "GIT_AUTHOR_EMAIL": "o@x", "GIT_COMMITTER_NAME": "o", "GIT_COMMITTER_EMAIL": "o@x",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
}  # fmt: skip


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env={**os.environ, **OWNER}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def committed(folder: Path) -> Path:
    """The folder as a repository with everything in it committed."""
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "lab").mkdir(parents=True)
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "lab" / "a.py").write_text("one\ntwo\nthree\n")
    (folder / "lab" / "gone.py").write_text("gone\n")
    (folder / "lab" / "same.py").write_text("same\n")
    (folder / "weights").write_bytes(bytes(range(256)) * 4)
    return committed(folder)


def tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """Files that git would look at, with their content and whether they can be executed."""
    listed = git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    paths = {name: folder / name for name in listed if name and (folder / name).exists()}
    return {name: (path.read_bytes(), os.access(path, os.X_OK)) for name, path in paths.items()}


def applied(repository: Path, patch: Path, clone: Path) -> Path:
    """A fresh clone of the repository with the patch on it; git checks it first."""
    git(clone.parent, "clone", "-q", str(repository), str(clone))
    git(clone, "apply", "--check", str(patch))
    git(clone, "apply", str(patch))
    return clone


def change(folder: Path) -> None:
    """One of everything: changed, binary, deleted, executable, new in an old and a new folder, empty, odd names."""
    (folder / "lab" / "a.py").write_text("one\n2\nthree\nfour without a last newline")
    (folder / "weights").write_bytes(bytes(reversed(range(256))) * 4)
    (folder / "lab" / "gone.py").unlink()
    (folder / "lab" / "same.py").chmod(0o755)
    (folder / "new" / "deep").mkdir(parents=True)
    (folder / "new" / "deep" / "b.py").write_text("untracked\r\n")
    (folder / "new" / "binary").write_bytes(b"\0\1\2" * 100)
    (folder / "lab" / "empty.py").write_text("")
    (folder / "lab" / "ä b[*].py").write_text("odd name\n")
    (folder / "lab" / "staged.py").write_text("staged\n")
    (folder / "lab" / "noise.log").write_text("ignored\n")
    git(folder, "add", "lab/staged.py")
    (folder / "lab" / "staged.py").write_text("staged, then changed\n")


@pytest.mark.parametrize("setting", ["diff.noprefix=true", "color.ui=always", "diff.context=0", "diff.renames=copies"])
def test_the_patch_of_a_changed_checkout_makes_the_same_tree_in_a_fresh_clone(
    repository: Path, tmp_path: Path, setting: str
) -> None:
    git(repository, "config", *setting.split("="))
    change(repository)
    kept = patches.save(Settings(tmp_path / "workspace"), repository)
    assert kept.lacks is None
    assert kept.path is not None
    clone = applied(repository, tmp_path / "workspace" / kept.path, tmp_path / "clone")
    assert tree(clone) == tree(repository)
    assert "noise.log" not in (tmp_path / "workspace" / kept.path).read_text(errors="replace")


def test_a_patch_can_be_kept_in_the_middle_of_a_merge(repository: Path, tmp_path: Path) -> None:
    git(repository, "switch", "-q", "-c", "side")
    (repository / "lab" / "a.py").write_text("side\n")
    git(repository, "commit", "-q", "-a", "-m", "side")
    git(repository, "switch", "-q", "main")
    (repository / "lab" / "a.py").write_text("main\n")
    git(repository, "commit", "-q", "-a", "-m", "main")
    with pytest.raises(AssertionError):
        git(repository, "merge", "-q", "side")
    kept = patches.save(Settings(tmp_path / "workspace"), repository)
    assert kept.path is not None
    clone = applied(repository, tmp_path / "workspace" / kept.path, tmp_path / "clone")
    assert "<<<<<<<" in (clone / "lab" / "a.py").read_text()
    assert tree(clone) == tree(repository)


def test_no_room_for_temporary_files_costs_the_patch_and_not_the_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    kept = patches.save(Settings(tmp_path), repository)
    assert kept.path is None
    assert kept.lacks is not None
    assert "could not be read: " in kept.lacks
    assert str(tmp_path / "nowhere") in kept.lacks


def test_what_is_too_large_for_a_source_is_left_out_by_name(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "FILE_BYTES", 2000)
    (repository / "weights").write_bytes(b"w" * 2001)
    (repository / "data.bin").write_bytes(b"d" * 2001)
    (repository / "lab" / "b.py").write_text("small\n")
    kept = patches.save(Settings(tmp_path / "workspace"), repository)
    assert kept.lacks is not None
    assert "weights, data.bin" in kept.lacks
    assert kept.path is not None
    clone = applied(repository, tmp_path / "workspace" / kept.path, tmp_path / "clone")
    assert set(tree(repository)) - set(tree(clone)) == {"data.bin"}
    assert (clone / "lab" / "b.py").read_text() == "small\n"


def test_a_workspace_in_the_checkout_is_no_part_of_its_sources(repository: Path) -> None:
    settings = Settings(repository)
    settings.database.write_bytes(b"rows")
    settings.outputs.mkdir()
    (settings.outputs / "result").write_text("result")
    assert patches.save(settings, repository) == patches.Patch(None)
    (repository / "lab" / "a.py").write_text("changed\n")
    first = patches.save(settings, repository)
    assert patches.save(settings, repository) == first, "the first patch is not part of the second"


def everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder below, with its inode, size and the time of its last change."""
    found = [folder, *folder.rglob("*")]
    return {str(path): (s.st_ino, s.st_size, s.st_mtime_ns) for path in found for s in [path.lstat()]}


def test_reading_the_sources_changes_nothing_in_the_owners_repository(repository: Path, tmp_path: Path) -> None:
    """A file touched since the index was written makes a plain `git status` take the lock and write the index anew."""
    change(repository)
    hook = repository / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {repository}/.git/hook-ran\n")
    hook.chmod(0o755)
    os.utime(repository / ".gitignore", (1, 1))
    before = everything(repository / ".git")
    assert patches.git(repository, "status", "--porcelain")
    assert patches.save(Settings(tmp_path / "workspace"), repository).path is not None
    assert everything(repository / ".git") == before
    git(repository, "status", "--porcelain")
    assert everything(repository / ".git") != before, "git's own way of looking does change it"


def test_show_names_the_patch_by_which_a_clone_becomes_what_ran(lab: Lab, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(provenance.SOURCES, sources / "labqueue")
    (sources / ".gitignore").write_text("__pycache__/\n")
    committed(sources)
    (sources / "labqueue" / "new.py").write_text("ANSWER = 42\n")
    with (sources / "labqueue" / "__init__.py").open("a") as file:
        file.write("\n# changed\n")
    own = {"PYTHONPATH": str(sources)}
    index = sources / ".git" / "index"
    before = index.stat().st_ino, index.stat().st_mtime_ns
    answer = lab.run("submit", lab.spec(params={"steps": 1, "step_s": 0}), "--profile", "cpu", "--run", **own)
    assert answer.code == 0, answer.err
    assert (index.stat().st_ino, index.stat().st_mtime_ns) == before
    (attempt,) = call(lab, "show", 1, "--json").json["attempts"]
    assert attempt["outcome"] == "succeeded"
    assert attempt["patch"] in call(lab, "show", 1).out
    clone = applied(sources, lab.root / attempt["patch"], tmp_path / "clone")
    assert tree(clone) == tree(sources)
