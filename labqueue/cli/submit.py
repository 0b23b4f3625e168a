"""``labqueue submit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labqueue.cli.common import PRIORITY, at_root, dump, jobs_folder, json_option, root_option, settings
from labqueue.cli.questions import check_asked
from labqueue.cli.render import echo
from labqueue.domain.errors import LabError

if TYPE_CHECKING:
    from labqueue.store.queries.past_runs import Typical
    from labqueue.store.runs.jobs import Submitted
    from labqueue.submission.memory_check import MemoryCheck
    from labqueue.submission.plan import Plan


@click.command()
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…", type=click.Path(path_type=Path))
@root_option
@click.option("--profile", help="Which overrides to take; default gpu when a GPU is there, else cpu.")
@click.option("--set", "sets", multiple=True, metavar="a.b=v", help="Set one parameter, or limits.KEY.")
@click.option("--sweep", "sweeps", multiple=True, metavar="a.b=v1,v2", help="Vary one parameter (a grid axis).")
@click.option("--seeds", metavar="0,1,2", help="Seeds instead of the spec's.")
@click.option("--priority", type=PRIORITY, default=0, show_default=True, help="Higher starts earlier.")
@click.option("--after", multiple=True, metavar="EXPERIMENT", help="Wait until it has finished, however it ends.")
@click.option("--with-needs", is_flag=True, help="Submit the experiments that these need, too.")
@click.option("--dry-run", is_flag=True, help="Print the runs and record nothing.")
@click.option("--force", is_flag=True, help="Execute also what has already succeeded.")
@click.option(
    "--preflight/--no-preflight",
    default=None,
    help="First run two steps, an evaluation and a save of every shape. Default: for sweeps on a GPU.",
)
@click.option("--run", "run_now", is_flag=True, help="Also drain the queue here, then print the report.")
@json_option
@click.pass_context
def submit(
    ctx: click.Context,
    specs: Sequence[Path],
    own_root: str | None,
    profile: str | None,
    sets: Sequence[str],
    sweeps: Sequence[str],
    seeds: str | None,
    priority: int,
    after: Sequence[str],
    with_needs: bool,
    dry_run: bool,
    force: bool,
    preflight: bool | None,
    run_now: bool,
    as_json: bool,
) -> None:
    """Validate specs, record their runs in one transaction, and wake the worker."""
    from labqueue.submission import plan, specfile, submit

    request = plan.Request(
        profile=profile,
        set={key: _value(text) for key, text in map(_pair, sets)},
        sweep={key: _values(text) for key, text in map(_pair, sweeps)},
        seeds=_seeds(seeds),
        priority=priority,
        after=tuple(after),
        with_needs=with_needs,
        force=force,
        preflight=preflight,
    )
    chosen = settings(own_root)
    sources, folders = [specfile.read(path) for path in specs], sorted({jobs_folder(path) for path in specs})
    with at_root(chosen.root):
        plans = [plan.plan(source, request) for source in sources]
        if with_needs:
            plans = submit.with_needed(plans, folders, plan.Request(profile=profile, force=force, priority=priority))
        check_asked(plans, chosen.root)
        submit.refuse_what_is_missing(chosen, plans)
        for words in submit.compared(chosen, plans):
            _tell(f"note: {words}")
        if dry_run:
            submit.refuse_what_cannot_begin(plans, unfetched=True)
            assessed = submit.assessed(chosen, plans)
            took = [submit.took(chosen, planned) for planned in plans]
            _dry_run(assessed, took, [submit.expected_s(chosen, planned) for planned in plans], as_json)
            return
        submit.refuse_what_cannot_fit(chosen, plans)
        plans = submit.prepare(plans, _tell)
        expected = [submit.expected_s(chosen, planned) for planned in plans] if run_now else []
        answers = submit.submit(chosen, plans, request)
    documents = [_document(planned, answer) for planned, answer in zip(plans, answers, strict=True)]
    if as_json:
        # A document per experiment would not be one document: several specs give a list under "jobs".
        dump(documents[0] if len(documents) == 1 else {"schema": 1, "jobs": documents})
    else:
        for document, planned in zip(documents, plans, strict=True):
            _say(document, planned.to_come)
    if run_now:
        from labqueue.cli.follow import drain_and_report

        fresh = {
            run: seconds
            for answer, each in zip(answers, expected, strict=True)
            for run, seconds in zip(answer.runs, each, strict=True)
            if run not in set(answer.reused)
        }
        ctx.exit(drain_and_report(chosen, plans, fresh, quiet=as_json))


def _document(planned: Plan, answer: Submitted) -> dict[str, Any]:
    return {
        "schema": 1,
        "job": answer.job,
        "experiment": planned.job.experiment,
        "profile": planned.job.profile,
        "runs": answer.runs,
        "reused": answer.reused,
        **({"to_come": planned.to_come} if planned.to_come else {}),
    }


def _say(document: dict[str, Any], to_come: int) -> None:
    runs, reused = document["runs"], document["reused"]
    fresh = [run for run in runs if run not in set(reused)]
    parts = [f"{len(fresh)} queued" + (f" ({_span(fresh)})" if fresh else "")]
    if reused:
        parts.append(f"{len(reused)} reused ({_span(reused)})")
    if to_come:
        parts.append(f"and its search will propose {to_come} more")
    echo(
        f"{document['experiment']}: job {document['job']}, profile {document['profile']}, {len(runs)} runs: "
        + ", ".join(parts)
    )


def _span(ids: list[int]) -> str:
    if len(ids) == 1:
        return f"run {ids[0]}"
    if ids == list(range(ids[0], ids[-1] + 1)):
        return f"runs {ids[0]}–{ids[-1]}"
    return "runs " + ", ".join(map(str, ids[:8])) + ("…" if len(ids) > 8 else "")


def _dry_run(
    assessed: list[tuple[Plan, list[MemoryCheck]]],
    took: list[Typical | None],
    expected: list[list[float | None]],
    as_json: bool,
) -> None:
    documents = [
        {
            "schema": 1,
            "experiment": planned.job.experiment,
            "profile": planned.job.profile,
            "device": planned.job.device,
            "runs": [
                {
                    "seed": run.seed,
                    "varied": run.varied.value,
                    "params": run.params.value,
                    "estimated_memory_gib": run.estimated_memory_gib,
                    "fits": verdict.fits,
                    "estimated_wall_s": seconds,
                    "estimated_bytes": like.bytes if like else None,
                }
                for run, verdict, seconds in zip(planned.job.runs, verdicts, each, strict=True)
            ],
        }
        for (planned, verdicts), like, each in zip(assessed, took, expected, strict=True)
    ]
    if as_json:
        dump(documents[0] if len(documents) == 1 else {"schema": 1, "experiments": documents})
        return
    from labqueue.cli.render import table

    for (planned, verdicts), like, each in zip(assessed, took, expected, strict=True):
        runs = planned.job.runs
        keys = list(dict.fromkeys(key for run in runs for key in run.varied.value))
        told = {True: "fits", False: "does not fit", None: None}
        rows = [
            [run.seed, *(run.varied.value.get(key, "") for key in keys), run.estimated_memory_gib, told[verdict.fits]]
            for run, verdict in zip(runs, verdicts, strict=True)
        ]
        echo(
            f"{planned.job.experiment}: {len(rows)} runs, profile {planned.job.profile}, "
            f"device {planned.job.device}; nothing was recorded"
            + (f"; its search would propose {planned.to_come} more runs" if planned.to_come else "")
        )
        table(["seed", *keys, "estimated GiB", "memory"], rows[:200])
        if len(rows) > 200:
            echo(f"… and {len(rows) - 200} more")
        echo(_cost(len(rows), like, each))


def _cost(runs: int, like: Typical | None, expected: list[float | None]) -> str:
    """Time and disk of all runs, by what earlier runs of the experiment took, else by this computer's speed."""
    from labqueue.cli.render import duration

    if like is None:
        known = [seconds for seconds in expected if seconds is not None]
        if len(known) == runs:
            return f"about {duration(sum(known))} in all, by this computer's speed; disk is not known"
        return "time and disk are not known: no run of this experiment has succeeded here on this device"
    time = "" if like.wall_s is None else f"{duration(runs * like.wall_s)} and "
    earlier = "1 earlier run" if like.runs == 1 else f"the {like.runs} earlier runs"
    return f"about {time}{runs * like.bytes / 1e6:,.1f} MB of results in all, if each takes what {earlier} of it did"


def _tell(words: str) -> None:
    echo(words, err=True)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise LabError(f"{text!r} on the command line is not KEY=VALUE")
    return key.strip().removeprefix("params."), value


def _value(text: str) -> Any:
    from labqueue.submission import specfile

    return specfile.parse(f"value: {text}" if text else "value:", "command line").data["value"]


def _values(text: str) -> list[Any]:
    value = _value(f"[{text}]")
    assert isinstance(value, list)
    return value


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    values = _values(text)
    if not values or not all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values):
        raise LabError(f"--seeds {text!r}: give whole numbers of 0 or more, for example --seeds 0,1,2")
    return tuple(values)
