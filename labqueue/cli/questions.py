"""``labqueue questions``: what is asked, by which experiments, and what their data say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labqueue.cli.common import dump, json_option, root_option, settings
from labqueue.cli.render import echo
from labqueue.domain.errors import LabError, nearest

if TYPE_CHECKING:
    from labqueue.report.questions import Answer, Log
    from labqueue.submission.plan import Plan

COLOURS = {"open": "yellow", "exploring": "cyan", "answered": "green", "superseded": "white"}


@click.command()
@click.argument("question", required=False, metavar="[ID]")
@click.option("--check", is_flag=True, help="Refuse a log whose evidence does not hold; exit 1.")
@root_option
@json_option
@click.pass_context
def questions(ctx: click.Context, question: str | None, check: bool, own_root: str | None, as_json: bool) -> None:
    """List the questions of QUESTIONS.md with their evidence; with an id, all that is known of one.

    The workspace's own QUESTIONS.md is taken, else the one that came with the lab.
    """
    from labqueue.report.questions import FILE, answers, find, strangers
    from labqueue.store.db import open_existing
    from labqueue.submission import specfile

    chosen = settings(own_root)
    log = find(chosen.root)
    if log is None:
        raise LabError(f"there is no {FILE} in {chosen.root}; docs/reports.md shows what one looks like")
    known = [one.id for one in log.questions]
    if question is not None and question not in known:
        raise LabError(f"there is no question {question!r}: {nearest(question, known)}", file=str(log.path))
    folders = dict.fromkeys([log.path.parent / "jobs", chosen.root / "jobs"])
    ids = None if question is None else {question}
    asked = specfile.questions_of(folders)
    found = answers(log, asked, open_existing(chosen.database), ids)
    problems = [words for answer in found for words in answer.problems] + strangers(asked, log)
    if as_json:
        dump({"schema": 1, "file": str(log.path), "questions": found, "problems": problems})
    elif question is not None:
        _one(found[0])
    elif not check:
        _list(log, found)
    for words in problems if check and not as_json else []:
        echo(f"labqueue: {log.path}: {words}", err=True)
    if check and not problems and not as_json:
        echo(f"{log.path}: {len(found)} questions, all as they say")
    ctx.exit(1 if check and problems else 0)


def check_asked(plans: Sequence[Plan], root: Path) -> None:
    """Looks whether the questions that specs name are there.

    A workspace with a log of its own means it: an id that it lacks is an error. Where only the lab's own log can be
    meant, or none, a note on standard error says so and the submission goes on.

    Raises:
        LabError: at the spec's line, with the nearest id; or the log is not of its shape.
    """
    asking = [planned for planned in plans if planned.job.spec["questions"]]
    if not asking:
        return
    from labqueue.report.questions import FILE, find, unknown

    log = find(root)
    for planned in asking:
        ids = planned.job.spec["questions"]
        name = planned.job.experiment
        if log is None:
            echo(f"note: {name} names {', '.join(ids)}, and there is no {FILE} in {root}", err=True)
            continue
        for asked, near in unknown(ids, log):
            words = f"questions: there is no {asked!r} in {log.path}: {near}"
            if log.own:
                raise planned.source.error(words, "questions")
            echo(f"note: {name}: {words}", err=True)


def _list(log: Log, found: list[Answer]) -> None:
    echo(f"{log.path}: {len(found)} questions")
    for answer in found:
        click.secho(f"{answer.id:>4}  {answer.status:<11}", fg=COLOURS[answer.status], nl=False)
        echo(answer.text)
        for line in _evidence(answer):
            echo(f"{'':17}{line}")


def _one(answer: Answer) -> None:
    from labqueue.report.document.verdicts import registered

    click.secho(f"{answer.id}: {answer.text}", bold=True)
    after = f" by {answer.superseded_by}" if answer.superseded_by else ""
    click.secho(f"{answer.status}{after}", fg=COLOURS[answer.status])
    echo(f"source: {answer.source}")
    if answer.about:
        echo(f"\n{answer.about}\n")
    for sub in answer.sub_questions:
        echo(f"  [{'x' if sub['settled'] else ' '}] {sub['text']}")
    for words in answer.progress:
        echo(f"  progress: {words}")
    for line in _evidence(answer) or ["no experiment speaks to it yet"]:
        echo(line)
    for one in answer.experiments:
        for verdict in one.verdicts:
            echo(f"  {verdict.verdict}: {verdict.claim} — {verdict.why}")
            if verdict.registration is not None:
                echo(f"    {registered(verdict.registration)}")


def _evidence(answer: Answer) -> list[str]:
    """One line per experiment that speaks to a question, then what does not hold."""
    lines = []
    for one in answer.experiments:
        if one.source is None:
            lines.append(f"{one.experiment}: not run here")
            continue
        runs = f"runs {', '.join(map(str, one.runs[:12]))}{' …' if len(one.runs) > 12 else ''}"
        said = ", ".join(f"{each.id} {each.verdict} (n = {each.n})" for each in one.verdicts) or "no prediction"
        lines.append(f"{one.experiment} ({one.source}; {runs if one.runs else 'no run has succeeded'}): {said}")
    return lines + [f"does not hold: {words}" for words in answer.problems]
