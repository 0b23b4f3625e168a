"""``labqueue loop``: a search, unattended, until a rule that was given beforehand says that it is done."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labqueue.cli.common import at_root, dump, json_option, root_option, settings
from labqueue.cli.render import duration, echo, varied
from labqueue.domain.errors import nearest

if TYPE_CHECKING:
    from labqueue.domain.trials import Trial
    from labqueue.domain.views import VerdictView
    from labqueue.search.stop_rules import Rules
    from labqueue.settings import Settings
    from labqueue.store.db import Database
    from labqueue.store.trials import Study
    from labqueue.submission.plan import Plan


@click.command()
@click.argument("spec", metavar="SPEC", type=click.Path(path_type=Path))
@root_option
@click.option("--budget-hours", type=click.FloatRange(min=0, min_open=True), required=True, help="Of this call.")
@click.option("--patience", type=click.IntRange(min=1), help="End when so many trials in a row better nothing.")
@click.option(
    "--min-improvement",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="What counts as better, in the metric's unit.",
)
@click.option("--until-decided", metavar="PREDICTION", help="End when a registered look decides it.")
@click.option("--profile", help="Which overrides to take; default gpu when a GPU is there, else cpu.")
@json_option
@click.pass_context
def loop(
    ctx: click.Context,
    spec: Path,
    own_root: str | None,
    budget_hours: float,
    patience: int | None,
    min_improvement: float,
    until_decided: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Carry out a search until its stop rule holds, then write the report and say what it came to.

    Submits the spec, or goes on with its newest job where nothing in it has changed. Exit 0: done (all trials have
    ended, the last ones improved on nothing, or the prediction is decided). Exit 1: the budget ended first, or the
    search cannot go on; what is queued stays queued, and the same command goes on with it.
    """
    from labqueue.search.stop_rules import Rules, decided, summary
    from labqueue.search.unattended import Unattended
    from labqueue.store import trials

    rules = Rules(budget_hours * 3600, patience, min_improvement, until_decided)
    chosen = settings(own_root)
    planned = _plan(spec, profile, rules, chosen)
    db, job = _job(chosen, planned)
    began = time.monotonic()
    judged: list[str | None] = []

    def verdict() -> str | None:
        found = (each for each in _verdicts(db, planned) if each.id == until_decided and each.verdict != "withdrawn")
        looks, seeds = planned.job.spec["looks"], len(planned.job.spec["seeds"])
        judged.append(decided(next(found, None), looks, seeds))
        return judged[-1]

    stopped = Unattended(chosen, db, job, rules, verdict, _progress).until_stopped()
    result = trials.result(db, job)
    assert result is not None, "it has just been watched"
    stopped, said = summary(result, stopped)
    document = {
        "schema": 1,
        "experiment": planned.job.experiment,
        "job": job,
        **said,
        "spent_s": round(time.monotonic() - began, 3),
        "budget_s": rules.budget_s,
        "verdicts": _verdicts(db, planned),
        "judged": len(judged),
    }
    document["report"] = _report(chosen, planned.job.experiment)
    if as_json:
        dump(document)
    else:
        _say(document, spec)
    ctx.exit(0 if document["done"] else 1)


def _plan(path: Path, profile: str | None, rules: Rules, chosen: Settings) -> Plan:
    from labqueue.cli.questions import check_asked
    from labqueue.submission import plan, specfile

    source = specfile.read(path)
    with at_root(chosen.root):
        planned = plan.plan(source, plan.Request(profile=profile))
    if planned.job.trials is None:
        words = "a loop carries out a search, and this spec has none; `labqueue submit SPEC --run` drains any spec"
        raise source.error(words, "sweep")
    known = [prediction["id"] for prediction in planned.job.spec["predictions"]]
    if rules.prediction is not None and rules.prediction not in known:
        words = f"--until-decided {rules.prediction!r} is no prediction of the spec: {nearest(rules.prediction, known)}"
        raise source.error(words, "predictions")
    check_asked([planned], chosen.root)
    return planned


def _job(chosen: Settings, planned: Plan) -> tuple[Database, int]:
    """The job to carry out: the newest one where it is this very submission, else a new one."""
    from labqueue.domain.canonical import canonical
    from labqueue.store import trials
    from labqueue.store.db import shared
    from labqueue.store.queries import read
    from labqueue.submission import submit
    from labqueue.submission.plan import Request

    db = shared(chosen.database)
    newest = read.newest_job(db, planned.job.experiment)
    if newest is not None and trials.study(db, newest.id) is not None:
        mine, theirs = planned.job, newest
        spec = {"looks": [], **theirs.spec}  # a spec frozen before there were looks has none
        if canonical([mine.spec, mine.profile, mine.device]) == canonical([spec, theirs.profile, theirs.device]):
            _tell(f"going on with job {newest.id} of {planned.job.experiment}")
            return db, int(newest.id)
    with at_root(chosen.root):
        for words in submit.compared(chosen, [planned]):
            _tell(f"note: {words}")
        plans = submit.prepare([planned], _tell)
        (submitted,) = submit.submit(chosen, plans, Request())
    _tell(f"{planned.job.experiment}: job {submitted.job}, {planned.job.trials} trials")
    return db, submitted.job


def _verdicts(db: Database, planned: Plan) -> list[VerdictView]:
    from labqueue.report.statistics.verdicts import judge
    from labqueue.store.queries import experiment

    return judge(experiment.experiment(db, planned.job.experiment), experiment.Series(db))


def _progress(study: Study, trial: Trial) -> None:
    from labqueue.domain.trials import best

    search = study.spec["sweep"]["search"]
    found = best(study.trials[: trial.number + 1], search["direction"])
    worth = f"{search['metric']} {trial.value:.6g}" if trial.value is not None else trial.state.value
    so_far = f"; best so far {found.value:.6g} (trial {found.number})" if found else ""
    _tell(f"trial {trial.number} of {study.switch.trials}: {varied(trial.point)}: {worth}{so_far}")


def _report(chosen: Settings, experiment: str) -> str | None:
    """Writes the report in a process of its own; its path relative to the workspace."""
    folder = chosen.experiment(experiment) / "report"
    command = [sys.executable, "-m", "labqueue", "report", experiment, "--root", str(chosen.root)]
    done = subprocess.run([*command, "--output", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        _tell(done.stderr.strip())
        return None
    return chosen.relative(folder / "report.html")


def _say(document: dict[str, Any], spec: Path) -> None:
    done, search = document["done"], document["search"]
    click.secho(f"{document['experiment']}: {'done' if done else 'NOT done'}: {document['stopped']['why']}", bold=True)
    parts = ", ".join(f"{n} {name}" for name, n in search.trials.items() if n)
    counts = f"{sum(search.trials.values())} of {search.planned} trials ({parts})"
    echo(f"  did:      {counts} in {duration(document['spent_s'])} of {duration(document['budget_s'])}")
    if search.best is None:
        echo(f"  best:     none; no trial has a value of {search.metric}")
    else:
        runs = ", ".join(map(str, search.best.runs))
        worth = f"{search.metric} {search.best.value:.6g}"
        echo(f"  best:     trial {search.best.number}: {varied(search.best.point)}: {worth} (runs {runs})")
    for verdict in document["verdicts"]:
        echo(f"  verdict:  {verdict.id} {verdict.verdict}: {verdict.why}")
    if document["judged"] > 1:
        words = "a verdict that ends its own search is found by chance more often than one that is read once"
        echo(f"            judged {document['judged']} times on the way: {words}")
    if document["report"]:
        echo(f"  report:   {document['report']}")
    if not done:
        echo(f"  next:     the same command goes on: labqueue loop {spec} --budget-hours …")


def _tell(words: str) -> None:
    echo(words, err=True)
