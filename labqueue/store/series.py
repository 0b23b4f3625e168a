"""What runs record at their steps: points of metrics with the roll-up of each series, and samples. Knows nothing of
who records."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text

Point = tuple[str, int, float | None]
"""(metric name, step, value); None is "not measured" or "not finite"."""

Sample = tuple[int, str, str]
"""(step, prompt, text)."""

_ROLL_UP = text(
    """
    UPDATE series SET
      points = (SELECT count(*) FROM metrics WHERE series_id = :id),
      first_step = coalesce((SELECT min(step) FROM metrics WHERE series_id = :id), 0),
      last_step = coalesce((SELECT max(step) FROM metrics WHERE series_id = :id), 0),
      first = (SELECT value FROM metrics WHERE series_id = :id ORDER BY step LIMIT 1),
      last = (SELECT value FROM metrics WHERE series_id = :id ORDER BY step DESC LIMIT 1),
      min = (SELECT min(value) FROM metrics WHERE series_id = :id),
      max = (SELECT max(value) FROM metrics WHERE series_id = :id),
      min_step = (SELECT step FROM metrics WHERE series_id = :id AND value IS NOT NULL ORDER BY value, step LIMIT 1)
    WHERE id = :id
    """
)
"""From the points alone: used where points were replaced or forgotten, so that it cannot drift from them."""


def add(connection: Connection, run_id: int, points: Iterable[Point]) -> None:
    """Stores points; a point at a step that is there already replaces it, so no step is ever double."""
    by_name: dict[str, dict[int, float | None]] = {}
    for name, step, value in points:
        by_name.setdefault(name, {})[step] = value
    for name, values in by_name.items():
        _add_series(connection, run_id, name, sorted(values.items()))


def _add_series(connection: Connection, run_id: int, name: str, points: list[tuple[int, float | None]]) -> None:
    row = connection.exec_driver_sql(
        "SELECT id, last_step, min, min_step, max FROM series WHERE run_id = ? AND name = ?", (run_id, name)
    ).fetchone()
    if row is None:
        connection.exec_driver_sql(
            "INSERT INTO series (run_id, name, points, first_step, last_step) VALUES (?, ?, 0, 0, -1)", (run_id, name)
        )
        series_id, last_step = connection.exec_driver_sql("SELECT last_insert_rowid()").scalar_one(), None
    else:
        series_id, last_step, low, low_step, high = row
    connection.exec_driver_sql(
        "INSERT OR REPLACE INTO metrics (series_id, step, value) VALUES (?, ?, ?)",
        [(series_id, step, value) for step, value in points],
    )
    if last_step is None or points[0][0] <= last_step:
        connection.execute(_ROLL_UP, {"id": series_id})
        return
    for step, value in points:
        if value is not None and (low is None or value < low):
            low, low_step = value, step
        if value is not None and (high is None or value > high):
            high = value
    connection.exec_driver_sql(
        "UPDATE series SET points = points + ?, last = ?, last_step = ?, min = ?, min_step = ?, max = ? WHERE id = ?",
        (len(points), points[-1][1], points[-1][0], low, low_step, high, series_id),
    )


def roll_up(connection: Connection, series_id: int) -> None:
    """Makes a series' summary from its points."""
    connection.execute(_ROLL_UP, {"id": series_id})


def add_samples(connection: Connection, run_id: int, attempt: int, samples: Iterable[Sample]) -> None:
    """Stores samples; one at a step and after a prompt that are there already replaces it."""
    newest = {(step, prompt): words for step, prompt, words in samples}
    if not newest:
        return
    query = "SELECT DISTINCT prompt, number FROM samples WHERE run_id = ?"
    known = connection.exec_driver_sql(query, (run_id,))
    numbers: dict[str, int] = {row.prompt: row.number for row in known}
    for _, prompt in newest:
        numbers.setdefault(prompt, max(numbers.values(), default=-1) + 1)
    connection.exec_driver_sql(
        "INSERT INTO samples (run_id, attempt, step, number, prompt, text) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run_id, step, number) DO UPDATE SET attempt = excluded.attempt, text = excluded.text",
        [(run_id, attempt, step, numbers[prompt], prompt, words) for (step, prompt), words in newest.items()],
    )


def forget_after(connection: Connection, run_id: int, step: int) -> None:
    """Removes a run's points and samples of steps after ``step``: a resumed run writes them again."""
    connection.exec_driver_sql("DELETE FROM samples WHERE run_id = ? AND step > ?", (run_id, step))
    rows = connection.exec_driver_sql(
        "SELECT id FROM series WHERE run_id = ? AND last_step > ?", (run_id, step)
    ).fetchall()
    for (series_id,) in rows:
        connection.exec_driver_sql("DELETE FROM metrics WHERE series_id = ? AND step > ?", (series_id, step))
        left = connection.exec_driver_sql("SELECT 1 FROM metrics WHERE series_id = ? LIMIT 1", (series_id,)).first()
        if left is None:
            connection.exec_driver_sql("DELETE FROM series WHERE id = ?", (series_id,))
        else:
            connection.execute(_ROLL_UP, {"id": series_id})
