"""``labqueue worker``."""

from __future__ import annotations

import click

from labqueue.cli.common import root_option, settings


@click.command()
@root_option
@click.option("--drain", is_flag=True, help="End when nothing can become eligible without a person.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option("--memory-gib", type=click.FloatRange(min=0, min_open=True), help="Device memory for one run.")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that a run may take to checkpoint when it is asked to stop.",
)
@click.pass_context
def worker(
    ctx: click.Context, own_root: str | None, drain: bool, device: str, memory_gib: float | None, grace_s: float
) -> None:
    """Execute queued runs of one device, one at a time.

    SIGTERM or Ctrl-C: the run checkpoints and is queued again, and the worker ends with status 0.
    """
    from labqueue.execution.worker import Options, Worker

    chosen = settings(own_root, device=device, memory_gib=memory_gib)
    ctx.exit(Worker(chosen, Options(drain=drain, grace_s=grace_s)).work())
