"""Keeps which queued runs may start now: columns that the transactions keep true, so that a claim reads an index.

A run waits for a pause (of the queue, its experiment, or its own), for a need, or for a back-off. What it needs stands
in ``runs.needs_unmet``; pauses of experiments are few and are asked for each time; deadlines are compared as they are
read, on the clock that each of them counts on (``clock.Deadline``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, TextualSelect, column, select, text

from labqueue.store.tables import READY, TIMED, Control, Experiment
from labqueue.system import clock

FOREVER = "forever"


def pauses(connection: Connection) -> dict[str, tuple[str, str]]:
    """What is paused now: ``""`` for the whole queue or an experiment's name, each with its reason and its end."""
    found = {}
    for key, value in connection.execute(select(Control.c.key, Control.c.value).where(Control.c.key.like("pause%"))):
        until = value.get("until", FOREVER)
        if still_paused(until):
            found[key.partition(":")[2]] = (value["reason"], until)
    return found


def still_paused(until: str | None) -> bool:
    """Whether a pause (``forever``, a deadline or null) still holds."""
    return until is not None and (until == FOREVER or not clock.Deadline.parse(until).passed)


def _passed(column: str) -> str:
    """SQL: whether the deadline in a column has passed, as ``clock.Deadline.passed`` has it; true of null."""
    rest = f"substr({column}, instr({column}, ' ') + 1)"
    # A cast takes the number that a text begins with.
    return (
        f"({column} IS NULL OR ({column} != '{FOREVER}' AND CASE "
        f"WHEN substr({column}, 1, instr({column}, ' ') - 1) = :boot_id THEN CAST({rest} AS REAL) <= :boot_s "
        f"ELSE CAST(substr({rest}, instr({rest}, ' ') + 1) AS REAL) <= :unix_s END))"
    )


_ORDER = "ORDER BY priority DESC, id LIMIT :limit"
_AFTER = "priority <= :priority AND (priority < :priority OR id > :after)"
_HEAD = "SELECT id, priority FROM runs WHERE"


def ready(
    connection: Connection, device: str, *, limit: int, after: tuple[int, int] | None = None
) -> TextualSelect | None:
    """SQL of the ids of eligible runs of a device (``cpu`` or ``cuda``): by priority, then age, at most ``limit``.

    ``after`` is (priority, id) of the last one seen. None where the whole queue is paused.
    """
    paused = pauses(connection)
    if "" in paused:
        return None
    names = select(Experiment.c.id).where(Experiment.c.name.in_(paused))
    held = ", ".join(map(str, connection.execute(names).scalars())) if paused else ""
    where = f"device = :device AND experiment_id NOT IN ({held})" + (f" AND {_AFTER}" if after else "")
    deadlines = f"{_passed('paused_until')} AND {_passed('not_before')}"
    # Two indexes, each read in its order and no further than is asked.
    statement = (
        f"SELECT id FROM (SELECT * FROM ({_HEAD} {READY} AND {where} {_ORDER}) UNION ALL "  # noqa: S608  # our own words
        f"SELECT * FROM ({_HEAD} {TIMED} AND {where} AND {deadlines} {_ORDER})) {_ORDER}"
    )
    values: dict[str, Any] = {"device": device, "limit": limit, "boot_id": clock.boot_id(), "boot_s": clock.boot_s(),
                              "unix_s": clock.now()}  # fmt: skip
    if after:
        values |= {"priority": after[0], "after": after[1]}
    return text(statement).bindparams(**values).columns(column("id"))
