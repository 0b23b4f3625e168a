"""``labqueue jobs``."""

from __future__ import annotations

import click

from labqueue.cli.common import dump, json_option, known_database, nothing_yet, open_database, root_option
from labqueue.cli.render import echo, table


@click.command()
@click.argument("experiment", required=False)
@root_option
@json_option
def jobs(experiment: str | None, own_root: str | None, as_json: bool) -> None:
    """Submissions, oldest first: of EXPERIMENT with what each claimed, else of all experiments."""
    from labqueue.store.queries import read

    db = known_database(own_root) if experiment is None else open_database(own_root)
    found = read.jobs(db, experiment) if db is not None else []
    if as_json:
        dump({"schema": 1, "jobs": found})
        return
    if not found:
        echo(nothing_yet(own_root))
        return
    columns = ["job", "experiment", "submitted", "profile", "priority", "runs", "reused", "version", "commit"]
    table(
        columns,
        [
            [
                job.id,
                job.experiment,
                job.submitted_at,
                job.profile,
                job.priority,
                job.runs,
                job.reused,
                job.spec_version[:8],
                f"{(job.commit or '')[:8]}{' and changes' if job.dirty else ''}" or None,
            ]
            for job in found
        ],
    )
    if experiment is None:
        return
    claimed: list[tuple[str, str]] | None = None
    for job in found:
        now = [(prediction["id"], prediction["claim"]) for prediction in job.predictions]
        if now != claimed:
            echo(f"job {job.id} claimed:" if now else f"job {job.id} claimed nothing")
            for name, claim in now:
                echo(f"  {name}: {claim}")
        claimed = now
