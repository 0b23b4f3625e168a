"""Runs from one workspace to another: what comes in, under which ids, and what a hostile file cannot do."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.store.queries import experiment, read
from labqueue.store.runs import results
from labqueue.system.files import sha256
from tests.commands import call, refused, rows
from tests.conftest import Lab
from tests.store.factories import claimed, executed, submitted


@pytest.fixture
def there(tmp_path: Path) -> Lab:
    """Another machine's workspace: a run that succeeded with files, one that diverged, one that waits."""
    lab = Lab(tmp_path / "there")
    lab.root.mkdir()
    filled(lab, "shared")
    return lab


@pytest.fixture
def here(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "here")
    lab.root.mkdir()
    return lab


def filled(lab: Lab, name: str) -> None:
    db = lab.db
    ids = submitted(db, name, [{"arm": "a"}, {"arm": "b"}, {"arm": "c"}]).runs
    claim = claimed(db)
    run = lab.settings.run(name, claim.run_id)
    (run / "adapter" / "deep").mkdir(parents=True)
    (run / "adapter" / "deep" / "weights").write_bytes(b"\x00" * 1000)
    (run / "table.json").write_text("{}")
    (run / "scratch").write_text("not an artifact")
    (run / f"attempt-{claim.attempt}.log").write_text("said")
    for artifact, kind in (("adapter", "model"), ("table.json", "file")):
        path = run / artifact
        results.add_artifact(
            db, claim.ref, name=artifact, type=kind, path=lab.settings.relative(path),
            sha256=sha256(path), bytes=1000,
        )  # fmt: skip
    number = results.environment(db, {"machine": "there"})
    from labqueue.domain.state import Ending
    from labqueue.store.runs import attempts

    attempts.attempt_fields(db, claim.ref, environment_id=number, sources_hash="s", packages_hash="p")
    points = [("value", step, step / 3 if step % 5 else None) for step in range(12_000)]
    samples = [(step, prompt, f"{prompt} {step}") for step in (0, 5) for prompt in ("größe", "b")]
    results.flush(db, claim.ref, points, results.Progress(10, 10, None, "measuring"), ["größe"], samples)
    attempts.end(db, claim.ref, Ending.SUCCEEDED, None)
    executed(db, "diverged", [("value", 1, None)], "left the finite numbers")
    (lab.settings.experiment(name) / "learnings.md").write_text("learned")
    assert len(ids) == 3
    db.close()


def exported(there: Lab, name: str = "x.tar") -> Path:
    file = there.root / name
    answer = call(there, "export", "--all", "--archive", file)
    assert answer.code == 0, answer.err
    return file


def without(view: Any) -> Any:
    """A run as JSON, but for what numbers it in its workspace, what points into it, and its history."""
    found = json.loads(json.dumps(view, default=vars))
    for name in ("id", "job", "history"):
        found.pop(name)
    for attempt in found["attempts"]:
        attempt.pop("log")
        attempt.pop("environment")
    for artifact in found["artifacts"]:
        artifact.pop("path")
    return found


def view(lab: Lab, run: int) -> Any:
    return read.run(lab.db, run)


@pytest.mark.parametrize("way", ["folder", "tar", "tar.gz"])
def test_finished_runs_come_in_whole(there: Lab, here: Lab, way: str) -> None:
    source = there.root if way == "folder" else exported(there, f"x.{way}")
    submitted(here.db, "mine")
    executed(here.db)
    answer = call(here, "import", source, "--json")
    assert answer.code == 0, answer.err
    # Run 1 was given here before, run 2 takes what is free after it.
    assert answer.json["runs"] == {"1": 2, "2": 3}
    for theirs, ours in ((1, 2), (2, 3)):
        assert without(view(there, theirs)) == without(view(here, ours))
        assert read.series(there.db, theirs, "value") == read.series(here.db, ours, "value")
    assert len(view(here, 2).samples) == 4
    assert view(here, 2).progress.phase == "measuring"
    for artifact in view(here, 2).artifacts:
        assert artifact.path.startswith("outputs/shared/2/")
        assert sha256(here.root / artifact.path) == artifact.sha256
    assert (here.root / view(here, 2).attempts[0].log).read_text() == "said"
    assert not (here.settings.run("shared", 2) / "scratch").exists()
    assert "imported: run 1 of workspace" in view(here, 2).history[-1].text
    assert (here.settings.experiment("shared") / "learnings.md").read_text() == "learned"
    assert call(here, "report", "shared", "--json").json["runs"][0]["id"] == 2
    assert not list(here.settings.outputs.glob(".import-*"))


def test_ids_are_kept_where_they_are_free(there: Lab, here: Lab) -> None:
    assert call(here, "import", there.root, "--json").json["runs"] == {"1": 1, "2": 2}
    assert submitted(here.db, "next").runs == [3]


def test_importing_again_changes_nothing_and_brings_what_is_new(there: Lab, here: Lab) -> None:
    file = exported(there)
    call(here, "import", file)
    before = rows(here)
    for source in (file, there.root):
        answer = call(here, "import", source, "--json").json
        assert (answer["runs"], answer["known"], answer["refused"]) == ({}, {"1": 1, "2": 2}, {})
        assert rows(here) == before
    submitted(here.db, "between")
    executed(there.db)  # the run that waited has finished there
    assert call(here, "import", there.root, "--json").json["runs"] == {"3": 4}
    assert rows(here)["jobs"] == before["jobs"] + 1, "their job is known already; the new one is ours"
    assert [run.id for run in experiment.experiment(here.db, "shared").runs] == [1, 2, 4]


def test_runs_of_one_spec_are_reported_together_and_never_take_the_place_of_what_is_registered_here(
    there: Lab, here: Lab
) -> None:
    submitted(here.db, "shared", [{"arm": "a"}, {"arm": "b"}, {"arm": "c"}], seeds=[1])
    for _ in range(3):
        executed(here.db, points=[("value", 1, 1.0)])
    job = experiment.experiment(here.db, "shared").job
    call(here, "import", there.root)
    found = experiment.experiment(here.db, "shared")
    assert found.job == job
    assert sorted((run.seed, run.varied["arm"]) for run in found.runs) == [
        (0, "a"), (0, "b"), (1, "a"), (1, "b"), (1, "c"),
    ]  # fmt: skip


def test_what_has_not_finished_stays_and_is_said(there: Lab) -> None:
    answer = call(there, "export", "shared", "--archive", there.root / "x.tar", "--json").json
    assert (answer["runs"], answer["left_out"]) == ([1, 2], ["1 runs that have not finished"])
    assert "is there already" in refused(call(there, "export", "shared", "--archive", "x.tar", "--json"))["message"]


def test_models_can_be_left_behind_and_the_run_says_which(there: Lab, here: Lab) -> None:
    digest = sha256(there.settings.run("shared", 1) / "adapter")
    file = there.root / "small.tar"
    answer = call(there, "export", "shared", "--archive", file, "--no-models", "--json")
    assert "1 models of 1,000 bytes" in answer.json["left_out"]
    with tarfile.open(file) as tar:
        assert not [name for name in tar.getnames() if "adapter" in name]
    assert call(here, "import", file).code == 0
    run = view(here, 1)
    assert [artifact.name for artifact in run.artifacts] == ["table.json"]
    assert any(digest in note and "adapter" in note for note in run.notes)
    assert len(view(there, 1).artifacts) == 2, "the workspace itself keeps everything"


@pytest.mark.parametrize("way", ["folder", "tar"])
def test_the_changes_with_which_a_run_ran_come_along_where_their_file_is_whole(there: Lab, here: Lab, way: str) -> None:
    from labqueue.system.patches import file_name

    there.settings.patches.mkdir()
    names = [f"outputs/patches/{file_name(content)}" for content in (b"whole", b"damaged")]
    for name in names:
        (there.root / name).write_bytes(b"whole")
    with there.db.write() as connection:
        for number, name in enumerate(names, 1):
            connection.exec_driver_sql("UPDATE attempts SET patch = ? WHERE run_id = ?", (name, number))
    assert call(here, "import", there.root if way == "folder" else exported(there)).code == 0
    assert [view(here, run).attempts[0].patch for run in (1, 2)] == names
    assert [(here.root / name).exists() for name in names] == [True, False]
    assert (here.root / names[0]).read_bytes() == b"whole"


@pytest.mark.parametrize("way", ["folder", "tar"])
def test_runs_of_an_older_lab_under_a_name_that_means_something_else_here_are_refused_and_the_others_come(
    there: Lab, here: Lab, way: str
) -> None:
    submitted(there.db, "queue")
    executed(there.db)
    executed(there.db)
    answer = call(here, "import", there.root if way == "folder" else exported(there), "--json")
    assert answer.code == 1
    assert answer.json["runs"] == {"1": 1, "2": 2, "3": 3}
    (words,) = answer.json["refused"].values()
    assert "'queue'" in words
    assert "'queue_1'" in words
    assert [row.experiment for row in read.experiments(here.db)] == ["shared"]


@pytest.mark.parametrize("way", ["folder", "tar"])
def test_a_run_whose_artifact_does_not_hold_is_refused_and_the_others_come(there: Lab, here: Lab, way: str) -> None:
    (there.settings.run("shared", 1) / "adapter" / "deep" / "weights").write_bytes(b"\x01" * 1000)
    answer = call(here, "import", there.root if way == "folder" else exported(there), "--json")
    assert answer.code == 1
    assert answer.json["runs"] == {"2": 2}
    assert "artifact 'adapter' has another SHA-256" in answer.json["refused"]["1"]
    assert not here.settings.run("shared", 1).exists()
    assert rows(here)["runs"] == 1


def test_a_link_in_an_artifact_is_refused(there: Lab, here: Lab) -> None:
    (there.settings.run("shared", 1) / "adapter" / "deep" / "weights").unlink()
    (there.settings.run("shared", 1) / "adapter" / "deep" / "weights").symlink_to("/etc/passwd")
    answer = call(here, "import", there.root, "--json")
    assert "is a link, or holds one" in answer.json["refused"]["1"]


def test_a_failure_at_the_last_moment_leaves_nothing(there: Lab, here: Lab) -> None:
    here.db.close()
    with sqlite3.connect(here.settings.database) as connection:
        # The last row of the transaction: by then every file is in its place.
        words = "CREATE TRIGGER full BEFORE INSERT ON controls WHEN NEW.key LIKE 'import:%' "
        connection.execute(f"{words} BEGIN SELECT RAISE(ABORT, 'no room'); END")
    connection.close()
    assert "no room" in refused(call(here, "import", there.root, "--json"))["message"]
    assert not here.settings.run("shared", 1).exists()
    assert not list(here.settings.outputs.glob(".import-*"))
    assert rows(here) == {}


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], *more: tarfile.TarInfo) -> Path:
    """An export with members changed (None: left out), and more of them."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
            changed = change(member.name, content)
            if changed is not None:
                member.size = len(changed)
                new.addfile(member, io.BytesIO(changed))
        for member in more:
            new.addfile(member, io.BytesIO(b"x" * member.size))
    return target


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    return member


HOSTILE = {
    "absolute": named("/tmp/labqueue-was-here"),
    "upwards": named("outputs/../../escaped"),
    "beside": named("results.db"),
    "link": named("outputs/shared/1/link", tarfile.SYMTYPE, "/etc"),
    "hard link": named("outputs/shared/1/hard", tarfile.LNKTYPE, "manifest.json"),
    "device": named("outputs/shared/1/null", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_reaches_outside_itself_is_refused(there: Lab, here: Lab, what: str) -> None:
    evil = rewritten(exported(there), there.root / "evil.tar", lambda _name, content: content, HOSTILE[what])
    message = refused(call(here, "import", evil, "--json"))["message"]
    assert "which no export does" in message
    assert rows(here) == {}
    assert not Path("/tmp/labqueue-was-here").exists()
    assert {path.name.partition("-")[0] for path in here.root.iterdir()} <= {"results.db", "outputs"}
    assert list(here.settings.outputs.iterdir()) == []


def rows_with(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes | None]:
    def rewrite(name: str, content: bytes) -> bytes:
        if name != "ledger.jsonl":
            return content
        lines = [json.loads(line) for line in content.splitlines()]
        for line in lines:
            change(line)
        return "\n".join(json.dumps(line) for line in lines).encode()

    return rewrite


def setting(table: str, column: str, value: Any) -> Callable[[str, bytes], bytes | None]:
    def change(line: dict[str, Any]) -> None:
        if line.get("table") == table:
            line["row"][column] = value

    return rows_with(change)


def points(line: dict[str, Any]) -> None:
    if "points" in line:
        line["points"][0] = [0, "DROP TABLE runs"]


DAMAGED: dict[str, tuple[Callable[[str, bytes], bytes | None], str]] = {
    "no ledger": (lambda name, content: None if name == "ledger.jsonl" else content, "no export of this lab"),
    "no JSON": (lambda name, content: b"{" if name == "ledger.jsonl" else content, "cannot be read"),
    "another version": (
        lambda name, content: content.replace(b'"schema": ', b'"schema": 9') if name == "manifest.json" else content,
        "same version of the lab",
    ),
    "no such table": (rows_with(lambda line: line.update(table="controls")), "cannot be read"),
    "an unknown column": (setting("runs", "evil", 1), "has not the columns"),
    "a wrong type": (setting("runs", "seed", "0"), "which it cannot be"),
    "a number beyond all": (setting("runs", "seed", 2**70), "out of all bounds"),
    "an unknown outcome": (setting("runs", "outcome", "won"), "contradict themselves"),
    "not finished": (setting("runs", "state", "queued"), "only finished runs"),
    "points at nothing": (setting("runs", "job_id", 99), "points at job_id 99"),
    "no spec": (setting("jobs", "spec", {}), "spec of job 1"),
    "needs that are none": (setting("jobs", "needs", [1]), "needs of job 1"),
    "a point that is none": (rows_with(points), "which cannot be"),
    "half a letter": (setting("runs", "reason", "\ud800"), "contradict themselves"),
    "a patch elsewhere": (setting("attempts", "patch", "outputs/patches/../../x.patch"), "no patch"),
    "a sample of no run": (setting("samples", "run_id", 99), "points at run_id 99"),
    "samples of one place": (setting("samples", "number", 0), "contradict themselves"),
    "twice the same": (setting("artifacts", "name", "same"), "contradict themselves"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_rows_that_no_lab_has_written_are_refused(there: Lab, here: Lab, what: str) -> None:
    change, words = DAMAGED[what]
    evil = rewritten(exported(there), there.root / "evil.tar", change)
    assert words in refused(call(here, "import", evil, "--json"))["message"]
    assert rows(here) == {}
    assert list(here.settings.outputs.iterdir()) == []


NEW_IN_4 = {"runs": {"progress_phase", "keep_asked_at"}, "attempts": {"last_phase"}}


def as_version_3(name: str, content: bytes) -> bytes:
    """A member of an export as schema version 3 wrote it."""
    if name == "manifest.json":
        return json.dumps({**json.loads(content), "schema": 3}).encode()
    if name != "ledger.jsonl":
        return content
    lines = [json.loads(line) for line in content.splitlines()]
    for line in lines:
        if gone := NEW_IN_4.get(line.get("table", "")):
            line["row"] = {key: value for key, value in line["row"].items() if key not in gone}
    return "\n".join(json.dumps(line) for line in lines if line.get("table") != "samples").encode()


def test_an_export_of_the_version_before_is_imported(there: Lab, here: Lab) -> None:
    older = rewritten(exported(there), there.root / "older.tar", as_version_3)
    assert call(here, "import", older, "--json").json["runs"] == {"1": 1, "2": 2}
    now, then = without(view(here, 1)), without(view(there, 1))
    assert now.pop("samples") == []
    assert len(then.pop("samples")) == 4
    assert now.pop("progress") == {**then.pop("progress"), "phase": None}
    for attempt in then["attempts"]:
        assert attempt.pop("last_phase") == "measuring"
        attempt["last_phase"] = None
    assert now == then


@pytest.mark.parametrize("path", ["/etc/passwd", "outputs/shared/1/../../../results.db", "outputs/other/1/a", "a"])
def test_a_results_store_that_names_files_elsewhere_has_its_run_refused(there: Lab, here: Lab, path: str) -> None:
    evil = rewritten(exported(there), there.root / "evil.tar", setting("artifacts", "path", path))
    answer = call(here, "import", evil, "--json")
    assert answer.code == 1
    assert "not in its own folder" in answer.json["refused"]["1"]
    assert answer.json["runs"] == {"2": 2}


def test_an_archive_larger_than_the_disk_is_refused_by_what_its_head_says(there: Lab, here: Lab) -> None:
    file = exported(there)
    big = tarfile.TarInfo("outputs/shared/1/big")
    big.size = 2**60
    with file.open("r+b") as out:
        out.seek(0)
        out.write(big.tobuf(tarfile.GNU_FORMAT))
    assert "too large" in refused(call(here, "import", file, "--json"))["message"]


def test_what_is_no_workspace_and_no_export_is_refused(there: Lab, here: Lab) -> None:
    text = there.root / "text"
    text.write_text("hello")
    for source, words in (
        (text, "no archive of this lab"),
        (there.root / "outputs", "no results.db"),
        (there.root / "missing", "there is no"),
        (here.root, "itself"),
    ):
        here.db.close()
        assert words in refused(call(here, "import", source, "--json"))["message"]


def test_a_workspaces_own_export_is_not_imported(there: Lab) -> None:
    assert "own" in refused(call(there, "import", exported(there), "--json"))["message"]


def test_an_archived_name_is_not_imported_into(there: Lab, here: Lab) -> None:
    submitted(here.db, "shared")
    executed(here.db)
    call(here, "archive", "shared")
    assert "labqueue restore shared" in refused(call(here, "import", there.root, "--json"))["message"]
    assert rows(here)["runs"] == 1


def test_a_deleted_import_can_come_again(there: Lab, here: Lab) -> None:
    call(here, "import", there.root)
    call(here, "archive", "shared")
    assert call(here, "delete", "shared", "--yes").code == 0
    assert call(here, "import", there.root, "--json").json["runs"] == {"1": 3, "2": 4}
    with sqlite3.connect(here.settings.database) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_an_export_says_what_is_missing_in_its_request(there: Lab) -> None:
    for words, message in (
        (("export", "shared"), "say where to"),
        (("export", "--archive", "a.tar"), "name the experiments"),
        (("export", "shared", "--all", "--archive", "a.tar"), "name the experiments"),
        (("export", "shred", "--archive", "a.tar"), "did you mean 'shared'"),
        (("export", "shared", "--archive", "a.tar", "--no-artifacts"), "goes with --mlflow"),
        (("export", "shared", "--mlflow", "m", "--no-models"), "goes with --archive"),
    ):
        assert message in refused(call(there, *words, "--json"))["message"]


def test_a_report_names_the_runs_of_a_sweep_that_had_not_ended_when_it_was_exported(tmp_path: Path, here: Lab) -> None:
    there = Lab(tmp_path / "broken")
    there.root.mkdir()
    spec = there.spec("broken_off", sweep={"grid": {"step_s": [0.0, 0.001]}}, params={"steps": 1})
    for seeds in ("0", "0,1"):
        assert call(there, "submit", spec, "--seeds", seeds, "--profile", "cpu", "--no-preflight").code == 0
        if seeds == "0":
            assert there.run("worker", "--drain", "--device", "cpu").code == 0
    file = there.root / "part.tar"
    assert call(there, "export", "broken_off", "--archive", file).code == 0
    assert call(here, "import", file).code == 0
    found = experiment.experiment(here.db, "broken_off")
    assert [run.seed for run in found.runs] == [0, 0]
    assert found.left_out == ["2 of 4 runs are not here: seed 1 of step_s=0.0; seed 1 of step_s=0.001"]
    queued = experiment.experiment(there.db, "broken_off")
    assert len(queued.runs) == 4
    assert queued.left_out == [], "a run that waits is here"
