"""``labqueue gc``: what may go, why, and what it frees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from labqueue.cli.common import dump, json_option, open_database, root_option, settings
from labqueue.cli.render import echo

if TYPE_CHECKING:
    from labqueue.workspace.garbage import Item


@dataclass(frozen=True)
class _Line:
    """One item as it is shown. ``spared`` is why it is still there although it was to go."""

    path: str
    sort: str
    why: str
    run: int | None
    bytes: int
    removed: bool
    spared: str | None


@click.command()
@click.option("--apply", is_flag=True, help="Delete. Without it nothing is touched.")
@click.option(
    "--logs-days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Days for which the logs of succeeded runs are kept.",
)
@root_option
@json_option
@click.pass_context
def gc(ctx: click.Context, apply: bool, logs_days: float, own_root: str | None, as_json: bool) -> None:
    """List what may go from outputs, and with --apply delete it.

    Never a result, an artifact, anything of a run that is queued or running, or anything that another run names. A
    retry of a run whose checkpoints are gone begins from step 0.
    """
    from labqueue.store.runs import results
    from labqueue.store.workspace import retention
    from labqueue.system import clock
    from labqueue.workspace import garbage, removal, scan

    db, chosen = open_database(own_root), settings(own_root)
    found = scan.scan(chosen.outputs, "outputs")
    items = garbage.decide(retention.facts(db), found, chosen.root, now_s=clock.now(), logs_days=logs_days)
    done = removal.remove(db, chosen, items) if apply else [removal.Done(item) for item in items]
    counted = [one.item for one in done if one.spared is None]
    if apply and counted:
        freed = sum(item.bytes for item in counted)
        results.log_event(db, "gc", f"removed {len(counted)} things that may go, {freed} bytes")
    lines = [_line(one.item, apply and one.spared is None, one.spared) for one in done]
    total = {"items": len(counted), "bytes": sum(item.bytes for item in counted)}
    if as_json:
        by_sort = garbage.totals(counted)
        dump({"schema": 1, "applied": apply, "items": lines, "total": total, "by_sort": by_sort})
    else:
        _show(lines, garbage.totals(counted), total, applied=apply)
    ctx.exit(1 if any(one.failed for one in done) else 0)


def _line(item: Item, removed: bool, spared: str | None) -> _Line:
    run = item.run.id if item.run is not None else None
    return _Line(item.path, item.sort, item.why, run, item.bytes, removed, spared)


def _show(lines: list[_Line], by_sort: dict[str, dict[str, int]], total: dict[str, int], *, applied: bool) -> None:
    if not lines:
        echo("nothing may go")
        return
    for line in lines:
        echo(f"{size(line.bytes):>10}  {line.path}: {line.why}")
        if line.spared is not None:
            echo(f"{'':>10}  still there: {line.spared}")
    echo("")
    for name, sums in by_sort.items():
        echo(f"{size(sums['bytes']):>10}  {name}: {sums['items']}")
    words = "freed" if applied else "may go; nothing was touched (--apply deletes)"
    echo(f"{size(total['bytes']):>10}  {words}")


def size(count: int) -> str:
    """Bytes as a person reads them: ``12 B``, ``1.5 MiB``."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
