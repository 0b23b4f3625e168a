"""What can be deleted and what never is: as a law over invented trees and results stores."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from labqueue.store.workspace.retention import GarbageFacts, RunFacts
from labqueue.workspace.garbage import DAY_S, Item, decide
from labqueue.workspace.scan import Entry

ROOT = Path("/lab")
NOW_S = 1e9


def leaf(path: str, modified_s: float = NOW_S, kind: str = "file") -> Entry:
    return Entry(path, kind, 7, modified_s)


def tree(paths: dict[str, str], path: str = "outputs") -> Entry:
    """A tree of leaves: path → kind."""
    below = {p[len(path) + 1 :].split("/")[0] for p in paths if p.startswith(f"{path}/")}
    children = [
        leaf(f"{path}/{name}", kind=paths[f"{path}/{name}"])
        if f"{path}/{name}" in paths
        else tree(paths, f"{path}/{name}")
        for name in sorted(below)
    ]
    return Entry(path, "folder", sum(child.bytes for child in children), NOW_S, tuple(children))


def run(number: int, outcome: str | None, state: str = "finished", experiment: str = "exp") -> RunFacts:
    return RunFacts(number, experiment, state, outcome, 1)


def known(*runs: RunFacts, **fields: object) -> GarbageFacts:
    named = {(one.experiment, one.id): one for one in runs}
    return GarbageFacts(runs=named, experiments=frozenset(one.experiment for one in runs), **fields)  # type: ignore[arg-type]


def decided(evidence: GarbageFacts, outputs: Entry, logs_days: float = 30) -> dict[str, Item]:
    items = decide(evidence, outputs, ROOT, now_s=NOW_S, logs_days=logs_days)
    assert len({item.path for item in items}) == len(items)
    return {item.path: item for item in items}


NAMES = ["adapter", "adapter/weights", "checkpoints/step-5", "scratch/trainer/x", "attempt-1.log", "samples.json", ".a"]
PLACES = [f"outputs/{e}/{n}/{name}" for e in ("exp", "other") for n in (1, 2, 3, 4) for name in NAMES]
STATES = st.sampled_from([("finished", "succeeded"), ("finished", "crashed"), ("queued", None), ("running", None)])


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.sampled_from(PLACES)),
    st.sets(st.sampled_from(PLACES)),
    st.sets(st.sampled_from([*PLACES, "/lab/outputs/exp/1/scratch", "outputs/other/2", "../lab/outputs/exp/3/./.a"])),
    st.lists(STATES, min_size=3, max_size=3),
)
def test_nothing_that_anybody_needs_ever_goes(
    there: set[str], artifacts: set[str], mentioned: set[str], states: list[tuple[str, str | None]]
) -> None:
    leaves = {path for path in there if not any(other.startswith(f"{path}/") for other in there)}
    runs = [run(n, outcome, state) for n, (state, outcome) in enumerate(states, 1)]
    evidence = known(*runs, artifacts=frozenset(artifacts), mentioned=frozenset(mentioned))
    gone = decided(evidence, tree(dict.fromkeys(leaves, "file")))
    needed = artifacts | {str(Path("/", *_plain(m))).removeprefix("/lab/") for m in mentioned}
    for path in gone:
        for kept in needed:
            assert f"{path}/".startswith(f"{kept}/") is False, (path, kept)
            assert f"{kept}/".startswith(f"{path}/") is False, (path, kept)
        for one in runs:
            if one.state != "finished":
                assert not f"{path}/".startswith(f"outputs/exp/{one.id}/")
    # And all that is left is needed, a log, or behind the results store's back in an experiment that it does not know.
    for path in leaves:
        if not any(f"{path}/".startswith(f"{item}/") for item in gone):
            number = int(path.split("/")[2])
            unfinished = path.startswith("outputs/exp/") and number < 4 and states[number - 1][0] != "finished"
            folder = "/".join(path.split("/")[:3])
            used = any(f"{n}/".startswith(f"{path}/") or f"{path}/".startswith(f"{n}/") for n in needed)
            beside = (folder.startswith("outputs/other") or number == 4) and any(n.startswith(folder) for n in needed)
            stranger = folder.startswith("outputs/other") and f"{folder}/attempt-1.log" not in leaves
            assert unfinished or used or beside or stranger, path


def _plain(mentioned: str) -> list[str]:
    """A path's parts from the root, by the standard library's own rules."""
    import os.path

    return os.path.normpath(os.path.join("/lab", mentioned)).strip("/").split("/")


def test_what_may_go_is_said_with_its_reason_and_its_size() -> None:
    paths = [
        "exp/1/checkpoints/step-5-attempt-1/state.json",
        "exp/1/checkpoints/.step-6-attempt-1.partial/state.json",
        "exp/1/scratch/trainer/x",
        "exp/1/adapter/weights",
        "exp/2/checkpoints/step-5-attempt-1/state.json",
    ]
    evidence = known(run(1, "crashed"), run(2, "succeeded"), artifacts=frozenset({"outputs/exp/1/adapter"}))
    gone = decided(evidence, tree({f"outputs/{path}": "file" for path in paths}))
    assert {path: (item.sort.value, item.bytes) for path, item in gone.items()} == {
        "outputs/exp/1/checkpoints": ("checkpoints", 14),
        "outputs/exp/1/scratch": ("scratch", 7),
        "outputs/exp/2/checkpoints": ("checkpoints", 7),
    }
    assert "crashed" in gone["outputs/exp/1/checkpoints"].why
    assert "retry" in gone["outputs/exp/1/checkpoints"].why
    assert "retry" not in gone["outputs/exp/2/checkpoints"].why, "a succeeded run is never retried"


def test_only_old_logs_of_succeeded_runs_go() -> None:
    ages = {1: 31.0, 2: 29.0, 3: 31.0}
    logs: dict[str, float | None] = {f"outputs/exp/{n}/attempt-1.log": NOW_S - age * DAY_S for n, age in ages.items()}
    evidence = known(run(1, "succeeded"), run(2, "succeeded"), run(3, "failed"), logs=logs)
    outputs = tree(dict.fromkeys(logs, "file"))
    assert list(decided(evidence, outputs)) == ["outputs/exp/1/attempt-1.log"]
    assert list(decided(evidence, outputs, logs_days=0)) == [f"outputs/exp/{n}/attempt-1.log" for n in (1, 2)]


def test_links_and_folders_that_are_no_runs_stay() -> None:
    kinds = {
        "exp/1/elsewhere": "link",
        "exp/1/scratch/disk": "other",
        "exp/2": "link",
        "exp/07/attempt-1.log": "file",
        "exp/report/report.md": "file",
        "exp/learnings.md": "file",
        "photos/2024/beach.jpg": "file",
        "exp": "link",
    }
    del kinds["exp"]
    outputs = tree({f"outputs/{path}": kind for path, kind in kinds.items()})
    assert decided(known(run(1, "succeeded")), outputs) == {}


def test_folders_of_runs_that_the_results_store_does_not_know_go() -> None:
    paths = ["exp/9/adapter/weights", "lost/3/attempt-1.log", "lost/3/adapter/weights", "exp/2/x"]
    evidence = known(run(1, "succeeded"), run(2, None, "queued", "another"))
    gone = decided(evidence, tree({f"outputs/{path}": "file" for path in paths}))
    assert {path: item.sort.value for path, item in gone.items()} == {
        "outputs/exp/2": "unknown",
        "outputs/exp/9": "unknown",
        "outputs/lost/3": "unknown",
    }


def test_the_newest_three_backups_and_one_of_each_migration_stay() -> None:
    ages = {
        "results-daily-a.db": 1, "results-daily-b.db": 2, "results-v2-c.db": 3, "results-daily-d.db": 4,
        "results-v1-e.db": 5, "results-v1-f.db": 6, "results-v2-g.db": 7, "notes": 8, "results-mine.db": 9,
        ".results-daily-x-17.partial": 9, ".results-daily-y-18.partial": 9999,
    }  # fmt: skip
    files = tuple(leaf(f"outputs/backups/{name}", NOW_S - age) for name, age in ages.items())
    outputs = Entry("outputs", "folder", 0, 0, (Entry("outputs/backups", "folder", 0, 0, files),))
    gone = [path.rpartition("/")[2] for path in decided(GarbageFacts(), outputs)]
    assert gone == [".results-daily-y-18.partial", "results-daily-d.db", "results-v1-f.db", "results-v2-g.db"]
