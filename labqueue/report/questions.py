"""Questions with what is known of them: the experiments that ask, their verdicts, and whether citations hold.

A question is linked to an experiment by the experiment's own spec (``questions: [Q5]``) or by citing its runs. Verdicts
come from the results store, recomputed, or from committed result documents (``docs/results/**/*.json``, as
``labqueue report NAME --json`` writes them), so that a clean clone can be checked without any results store.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labqueue.domain.errors import LabError, nearest
from labqueue.domain.questions import Citation, Question, Status, parse
from labqueue.domain.views import Registered, VerdictView
from labqueue.report.statistics import verdicts
from labqueue.store.db import Database
from labqueue.store.queries import experiment

FILE = "QUESTIONS.md"

RESULTS = Path("docs") / "results"
"""Where committed result documents lie, beside the log."""

MAX_BYTES = 4_000_000
"""A log is written by hand; more than this is a mistake."""


@dataclass(frozen=True)
class Log:
    """A question log and where it came from. ``own`` tells the workspace's from the lab's."""

    path: Path
    own: bool
    questions: list[Question]


@dataclass(frozen=True)
class Known:
    """What is known of an experiment in one place: finished runs by id with their outcome, and its verdicts."""

    source: str
    """``results store``, or the path of a result document."""
    runs: Mapping[int, str]
    verdicts: Sequence[VerdictView]

    @property
    def succeeded(self) -> list[int]:
        """The runs that a verdict can rest on."""
        return sorted(run for run, outcome in self.runs.items() if outcome == "succeeded")


@dataclass(frozen=True)
class Speaks:
    """An experiment that speaks to a question; ``source`` null: it has not run where this was asked."""

    experiment: str
    source: str | None
    runs: list[int]
    verdicts: list[VerdictView]


@dataclass(frozen=True)
class Answer:
    """A question with its evidence, as ``labqueue questions`` shows it."""

    id: str
    text: str
    status: str
    source: str
    about: str
    sub_questions: list[dict[str, Any]]
    progress: list[str]
    superseded_by: str | None
    cited: list[dict[str, Any]]
    experiments: list[Speaks] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Why it is not what it says, in sentences; empty when all holds."""


def find(root: Path) -> Log | None:
    """The workspace's log, else the one that the lab came with; None where there is neither.

    Raises:
        LabError: it cannot be read, or is not of the shape that ``domain.questions`` describes.
    """
    shipped = Path(__file__).resolve().parents[2]
    for folder in dict.fromkeys([root, shipped]):
        path = folder / FILE
        if path.exists():
            return Log(path, folder == root, parse(_text(path), str(path)))
    return None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LabError(f"{path} is larger than {MAX_BYTES:,} bytes; a question log is not", file=str(path))
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LabError(f"{path} is not UTF-8 text (byte {error.start})", file=str(path)) from error
    except OSError as error:
        raise LabError(f"cannot read {path}: {error.strerror}", file=str(path)) from error


def unknown(ids: Iterable[str], log: Log) -> list[tuple[str, str]]:
    """The ids that a log does not have, each with what may have been meant."""
    known = [question.id for question in log.questions]
    return [(asked, nearest(asked, known)) for asked in ids if asked not in known]


def strangers(asked: Mapping[str, Collection[str]], log: Log) -> list[str]:
    """Specs that name questions which the log does not have, in sentences."""
    return [
        f"experiment {name!r} names the question {asked_for!r}, which is not there: {near}"
        for name, ids in sorted(asked.items())
        for asked_for, near in unknown(ids, log)
    ]


def committed(folder: Path) -> dict[str, list[Known]]:
    """What the result documents below a repository's ``docs/results`` say, by experiment; other files count as none."""
    found: dict[str, list[Known]] = {}
    for path in sorted((folder / RESULTS).rglob("*.json")):
        try:
            document = json.loads(path.read_bytes())
            runs = {int(run["id"]): str(run["outcome"]) for run in document["runs"] if run["state"] == "finished"}
            said = [_verdict(verdict) for verdict in document["verdicts"]]
            name = str(document["experiment"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.setdefault(name, []).append(Known(path.relative_to(folder).as_posix(), runs, said))
    return found


def _verdict(said: Mapping[str, Any]) -> VerdictView:
    given = said.get("registration")  # none in documents of earlier versions
    return VerdictView(**{**said, "registration": None if given is None else Registered(**given)})


def recorded(db: Database | None, experiments: Collection[str]) -> dict[str, list[Known]]:
    """What a results store says of those of the experiments that it has."""
    if db is None:
        return {}
    found = {}
    for name in experiment.names(db) & set(experiments):
        view = experiment.experiment(db, name)
        runs = {run.id: run.outcome for run in view.runs if run.outcome is not None}
        found[name] = [Known("results store", runs, verdicts.judge(view, experiment.Series(db)))]
    return found


def answers(
    log: Log, asked: Mapping[str, Collection[str]], db: Database | None, ids: Collection[str] | None = None
) -> list[Answer]:
    """The questions of a log (those of ``ids``, or all) with all evidence that can be found.

    ``asked`` is what specs on the disk say: experiment → question ids. What the results store's specs say is added.
    """
    asking: dict[str, set[str]] = {name: set(found) for name, found in asked.items()}
    for name, more in (experiment.asked(db) if db is not None else {}).items():
        asking.setdefault(name, set()).update(more)
    wanted = [question for question in log.questions if ids is None or question.id in ids]
    linked = {question.id: _linked(question, asking) for question in wanted}
    known = committed(log.path.parent)
    for name, found in recorded(db, {name for names in linked.values() for name in names}).items():
        # The results store first: it is what this workspace measured, and it is recomputed.
        known[name] = [*found, *known.get(name, [])]
    return [_answer(question, linked[question.id], known) for question in wanted]


def _linked(question: Question, asking: Mapping[str, Collection[str]]) -> list[str]:
    names = {name for name, ids in asking.items() if question.id in ids}
    return sorted(names | {citation.experiment for citation in question.cited})


def _answer(question: Question, linked: Sequence[str], known: Mapping[str, Sequence[Known]]) -> Answer:
    speaking = []
    for name in linked:
        for one in known.get(name, []):
            speaking.append(Speaks(name, one.source, one.succeeded, list(one.verdicts)))
        if name not in known:
            speaking.append(Speaks(name, None, [], []))
    return Answer(
        id=question.id,
        text=question.text,
        status=question.status,
        source=question.source,
        about=question.about,
        sub_questions=[{"text": sub.text, "settled": sub.settled} for sub in question.sub_questions],
        progress=list(question.progress),
        superseded_by=question.superseded_by,
        cited=[{"experiment": citation.experiment, "runs": list(citation.runs)} for citation in question.cited],
        experiments=speaking,
        problems=_problems(question, linked, known),
    )


def _problems(question: Question, linked: Sequence[str], known: Mapping[str, Sequence[Known]]) -> list[str]:
    if question.status is Status.EXPLORING and not linked:
        return [f"{question.id} is exploring, but no spec names it: write `questions: [{question.id}]` in one"]
    return [
        f"line {citation.line}: {words}"
        for citation in question.cited
        if (words := _fault(question, citation, known.get(citation.experiment, [])))
    ]


def _fault(question: Question, citation: Citation, known: Sequence[Known]) -> str | None:
    """What is wrong with a citation; None when one place has all its runs, succeeded, and the verdicts that are due."""
    name = citation.experiment
    if not known:
        return f"nothing is known of experiment {name!r}: it is in no results store here and in no {RESULTS}/*.json"
    faults = []
    for one in known:
        missing = [run for run in citation.runs if one.runs.get(run) != "succeeded"]
        if missing:
            what = f"it is {one.runs[missing[0]]}" if missing[0] in one.runs else "it is not among the runs that count"
            faults.append(f"run {missing[0]} of {name!r} is no evidence in {one.source}: {what}")
        elif not one.verdicts:
            faults.append(f"experiment {name!r} has no verdict in {one.source}: its spec registers no prediction")
        elif question.status is Status.ANSWERED and not any(
            each.verdict in ("supported", "refuted") for each in one.verdicts
        ):
            kinds = " or ".join(dict.fromkeys(each.verdict for each in one.verdicts))
            faults.append(f"every verdict of {name!r} in {one.source} is {kinds}, which answers nothing")
        else:
            return None
    return faults[0]
