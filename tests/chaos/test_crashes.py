"""A few of the crashes of ``make chaos``, in real processes: some of every kind, in under a minute."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.chaos import environment, points, power, recovery, storm, tracing
from benchmarks.chaos.tracing import Missing
from benchmarks.chaos.workspace import Workspace

with_strace = pytest.mark.skipif(shutil.which("strace") is None, reason=f"NO CRASH POINT IS TESTED: {tracing.CURE}")

Made = Callable[[str], Workspace]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Workspaces for each process that is to be killed, made once."""
    folder = tmp_path_factory.mktemp("made")
    known: dict[str, Workspace] = {}

    def of(role: str) -> Workspace:
        if role not in known:
            known[role] = points.made(role, folder / role)
        return known[role]

    return of


@with_strace
@pytest.mark.parametrize(
    ("role", "way", "call", "n", "target"),
    [
        ("worker", points.MACHINE, "fsync", 4, "results.db-wal"),
        ("child", points.MACHINE, "pwrite64", 20, "results.db-wal"),
        ("child", points.ALONE, "rename", 4, "outputs/points/N/checkpoints/.step-N-attempt-N.partial"),
        ("again", points.MACHINE, "rename", 3, "outputs/points/N/.parts.partial"),
        ("submit_first", points.ALONE, "pwrite64", 3, "results.db"),
        # Half a checkpoint of the log: the file is shorter than its header says, and the log has the rest.
        ("submit_first", points.ALONE, "pwrite64", -5, "results.db"),
    ],
)
def test_a_run_survives_the_death_of_a_process_at_this_point(
    made: Made, tmp_path: Path, role: str, way: str, call: str, n: int, target: str
) -> None:
    if n < 0:
        n += points.survey(made(role).copy(tmp_path / "survey"), role)[call]
    workspace = made(role).copy(tmp_path / "lab")
    try:
        trial = points.trial(workspace, role, way, call, n)
    finally:
        workspace.kill_all()
    assert trial.broken == []
    assert trial.death is not None, "the process lived: nothing was tried"
    assert (trial.death.call, trial.death.target) == (call, target)


def test_a_queue_survives_random_kills(tmp_path: Path) -> None:
    figures = storm.storm(tmp_path / "lab", kills=3, runs=2, seed=1, limit_s=60)
    assert figures["broken laws"] == []
    assert figures["kills"] == 3


@with_strace
def test_what_is_believed_later_is_on_the_disk_before_it_is_believed() -> None:
    figures, broken = power.run()
    assert broken == []
    assert figures["resumed"]["renames"] >= 6, "artifacts and checkpoints of a whole attempt"


def test_the_first_reclaimed_run_works_again_soon_after_the_worker_starts() -> None:
    _, broken = recovery.run(times=1)
    assert broken == []


def test_a_day_forth_and_back_on_the_wall_clock_changes_nothing(tmp_path: Path) -> None:
    try:
        assert environment.clock(tmp_path, steps=20)["broken laws"] == []
    except Missing as missing:
        pytest.skip(f"THE CLOCK IS NOT TESTED: {missing}")


def test_a_database_that_another_program_locks_costs_time_and_nothing_else(tmp_path: Path) -> None:
    assert environment.locked(tmp_path, seconds=3.0, steps=20)["broken laws"] == []


def test_a_full_disk_loses_nothing_and_the_run_succeeds_once_there_is_room(tmp_path: Path) -> None:
    try:
        assert environment.full(tmp_path, full_s=2.0, steps=25)["broken laws"] == []
    except Missing as missing:
        pytest.skip(f"THE FULL DISK IS NOT TESTED: {missing}")
