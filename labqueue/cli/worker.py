"""``labqueue worker``."""

from __future__ import annotations

import signal

import click

from labqueue.cli.common import root_option, settings
from labqueue.system import clock
from labqueue.worker.working_hours import parse


@click.command()
@root_option
@click.option("--drain", is_flag=True, help="End when nothing can become eligible without a person.")
@click.option("--for", "run", type=click.IntRange(min=1), metavar="RUN", help="End once that run has finished.")
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
@click.option("--between", metavar="22:00-08:00", help="Work only between these times of day.")
@click.option("--until", metavar="07:30", help="Start nothing that cannot finish by then, and end then.")
@click.option("--install", is_flag=True, help="Write a systemd user service of this worker, and say how to enable it.")
@click.pass_context
def worker(
    ctx: click.Context,
    own_root: str | None,
    drain: bool,
    run: int | None,
    device: str,
    memory_gib: float | None,
    grace_s: float,
    between: str | None,
    until: str | None,
    install: bool,
) -> None:
    """Execute queued runs of one device, one at a time.

    SIGTERM or Ctrl-C: the run checkpoints and is queued again, and the worker ends with status 0. A terminal that
    closes does not end it; what it says goes to standard error, for the terminal or the service manager to keep.
    """
    chosen = settings(own_root, device=device, memory_gib=memory_gib)
    hours = parse(between, until, clock.local())
    if install:
        from labqueue.cli import install as installing

        installing.install(chosen, grace_s)
        return
    from labqueue.worker.worker import Options, Worker

    # A handler, where ignoring would be inherited by every program that a run starts.
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    ctx.exit(Worker(chosen, Options(drain=drain, until_finished=run, grace_s=grace_s, hours=hours)).work())
