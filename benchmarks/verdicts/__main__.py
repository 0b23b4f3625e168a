"""Measures how often verdicts are wrong, where the truth is known and lies on the edge of the claim.

    python -m benchmarks.verdicts [--times 20000] [--only WORDS] [--all]

Every form of prediction, on every law of the data, with every way to lose runs, for 2 to 10 seeds at one look and for
registered looks: the rule is stated in numpy (``rule``), simulated, and compared with ``judge()`` on random experiments
and through a real store. Bounds: at most 5.5 % of verdicts false, of eight claims together too; intervals cover the
truth in 93 % (where a claim may be refused, a withheld interval misses nothing); refusals only where the rule names
them; power within three points of an exact t test. Exit 1 when a bound is missed by more than chance (99 %).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: two processes share two cores

if TYPE_CHECKING:
    from benchmarks.verdicts.measure import Row

TIMES, COMPARED, STORED = 20_000, 200, 500
PROCESSES = 2
WORST = 12
"""Columns of cells that are named at the end."""
COLUMNS = {**dict.fromkeys(("n=2", "n=3", "n=5", "n=6", "n=8", "n=10"), 6), "3,5": 7, "3,5,8": 7}
"""Of the table, with their widths; looks are numbers of seeds. ``3,5,8,10`` of one scenario stands in its own name."""


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=TIMES, help="simulated experiments of a cell")
    parser.add_argument("--only", default="", help="cells whose name has this in it; nothing else then")
    parser.add_argument("--all", action="store_true", help="every cell of the grid, not the worst of each form and law")
    options = parser.parse_args()
    began = time.monotonic()
    with ProcessPoolExecutor(PROCESSES) as pool:
        missed = _cells(pool, options)
        if not options.only:
            missed += _power(options.times)
            missed += _equal(pool, max(1, round(COMPARED * min(1.0, options.times / TIMES))))
            missed += _stored(max(1, round(STORED * min(1.0, options.times / TIMES))))
    print(f"{missed} missed; {time.monotonic() - began:.0f} s")
    sys.exit(missed > 0)


def _cells(pool: ProcessPoolExecutor, options: argparse.Namespace) -> int:
    from benchmarks.verdicts.measure import all_cells, measured

    wanted = [name for name in all_cells() if options.only in name]
    print(f"false verdicts in % at the edge of the claim, {options.times} experiments a cell ({len(wanted)} cells);")
    print(
        "a line is a form and a law: the worst of all ways to lose runs; c: 95 % intervals that cover the truth, in %"
    )
    print(
        f"{'':5}{'':70}"
        + "".join(f"{column:>{width}}" for column, width in COLUMNS.items())
        + f"{'c':>6}{'refused':>9}"
    )
    missed, before = 0, ""
    rows: list[Row] = []
    every: list[Row] = []
    for found in pool.map(partial(measured, options.times), wanted, chunksize=4):
        name = found[0].cell
        line = name if options.all or name.startswith("scenario") else name.rsplit(" · ", 1)[0]
        if line != before and rows:
            _print_line(before, rows)
            rows = []
        before, rows = line, rows + found
        every += found
        missed += sum(bool(row.missed) for row in found)
    if rows:
        _print_line(before, rows)
    _print_worst(every)
    return missed


def _print_worst(rows: Sequence[Row]) -> None:
    """Of all columns of all cells, those nearest to a bound or beyond."""
    print(f"worst of {len(rows)} columns of cells, false verdicts (bound 5.5 %):")
    for row in sorted(rows, key=lambda row: row.false / row.times, reverse=True)[:WORST]:
        print(f"     {100 * row.false / row.times:5.2f} %  {row.cell} {row.column}")
    shown = [row for row in rows if row.shown]
    print(f"worst of {len(shown)} columns with intervals, coverage (bound 93 %):")
    for row in sorted(shown, key=lambda row: row.coverage)[:WORST]:
        print(f"     {100 * row.coverage:5.1f} %  {row.cell} {row.column}")


def _print_line(name: str, rows: list[Row]) -> None:
    worst: dict[str, float] = {}
    for row in rows:
        worst[row.column] = max(worst.get(row.column, 0.0), row.false / row.times)
    shown = [row for row in rows if row.shown]
    cover = f"{100 * min(row.coverage for row in shown):6.1f}" if shown else f"{'':6}"
    refused = max((row.refused / row.times for row in rows if row.complete), default=0.0)
    bad = [row for row in rows if row.missed]
    numbers = "".join(
        f"{100 * worst[column]:{width}.1f}" if column in worst else " " * width for column, width in COLUMNS.items()
    )
    print(f"{'MISS ' if bad else 'ok   '}{name[:70]:70}{numbers}{cover}{f'{100 * refused:8.1f}' if refused else ''}")
    for row in bad:
        false, supported = (f"{100 * count / row.times:.2f} %" for count in (row.false, row.supported))
        print(f"       {row.cell} {row.column}: {', '.join(row.missed)}")
        print(
            f"         false {false} (supported {supported}), covered {100 * row.coverage:.1f} %, refused {row.refused}"
        )
    sys.stdout.flush()


def _power(times: int) -> int:
    from benchmarks.verdicts import power

    missed = 0
    print("power, normal data: share supported where a is below b, beside an exact paired t test")
    found = power.normal(times)
    for effect in power.EFFECTS:
        here = [one for one in found if one.effect == effect]
        missed += sum(one.missed for one in here)
        words = (f"n={one.n} {one.found:.3f} ({one.exact:.3f}){'!' * one.missed}" for one in here)
        print(f"     {effect:.1f} sd of the differences: {', '.join(words)}")
    print("power, other data: twice the spread, or 0.3 in a rate")
    others = power.others(times)
    for data in dict.fromkeys(one.data for one in others):
        print(f"     {data:32}" + ", ".join(f"n={one.n} {one.found:.3f}" for one in others if one.data == data))
    return missed


def _equal(pool: ProcessPoolExecutor, times: int) -> int:
    from benchmarks.verdicts import equal

    checked, shown = 0, []
    for count, differing in pool.map(partial(equal.compare, times), equal.titles(), chunksize=8):
        checked += count
        shown += differing
    print(f"{'MISS ' if shown else 'ok   '}the rule beside judge(): {checked} verdicts, {len(shown)} differ")
    for one in shown[:40]:
        print(f"       {one.group}: the rule {one.rule}, judge {one.judge}: {one.why}")
    return len(shown)


def _stored(count: int) -> int:
    from benchmarks.verdicts import stored

    checked, differing = stored.compare(count)
    print(f"{'MISS ' if differing else 'ok   '}through a real store: {checked} verdicts, {len(differing)} differ")
    for one in differing[:20]:
        print(f"       {one}")
    return len(differing)


if __name__ == "__main__":
    main()
