"""Metrics: the roll-up is what the points say, and a point is cheap."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from labqueue.store import series
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.runs import results
from tests.store.factories import claimed, results_store, submitted

VALUES = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=64)
BATCH = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 12), VALUES), max_size=8)
WRITES = st.lists(st.tuples(BATCH, st.none() | st.integers(-1, 12)), max_size=6)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return results_store(tmp_path_factory.mktemp("series"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES)
def test_the_roll_up_is_what_a_reader_of_all_points_would_say(shared: Database, writes: list) -> None:
    """Batches in any order, repeated steps and forgotten tails, against a plain mapping."""
    submitted(shared, force=True)
    claim = claimed(shared)
    told: dict[str, dict[int, float | None]] = {}
    for batch, forget in writes:
        with shared.write() as connection:
            series.add(connection, claim.run_id, batch)
            if forget is not None:
                series.forget_after(connection, claim.run_id, forget)
        for name, step, value in batch:
            told.setdefault(name, {})[step] = value
        if forget is not None:
            told = {name: {s: v for s, v in points.items() if s <= forget} for name, points in told.items()}
            told = {name: points for name, points in told.items() if points}
    view = read.run(shared, claim.run_id)
    assert set(view.metrics) == set(told)
    for name, points in told.items():
        ordered = sorted(points.items())
        assert read.series(shared, claim.run_id, name) == ordered
        seen = [(value, step) for step, value in ordered if value is not None]
        got = view.metrics[name]
        assert got.points == len(ordered)
        assert (got.first, got.last, got.last_step) == (ordered[0][1], ordered[-1][1], ordered[-1][0])
        assert got.min == (min(seen)[0] if seen else None)
        assert got.min_step == (next(step for value, step in seen if value == min(seen)[0]) if seen else None)
        assert got.max == (max(seen)[0] if seen else None)


SAID = st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc"), st.text("xyz", max_size=2)), max_size=6)
SAYINGS = st.lists(st.tuples(SAID, st.none() | st.integers(-1, 6)), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sayings=SAYINGS)
def test_samples_are_what_was_last_written_at_each_step_after_each_prompt(shared: Database, sayings: list) -> None:
    """Batches in any order, texts that grow and forgotten tails, against a plain mapping."""
    submitted(shared, force=True)
    claim = claimed(shared)
    told: dict[tuple[int, str], str] = {}
    for batch, forget in sayings:
        with shared.write() as connection:
            series.add_samples(connection, claim.run_id, claim.attempt, batch)
            if forget is not None:
                series.forget_after(connection, claim.run_id, forget)
        told |= {(step, prompt): words for step, prompt, words in batch}
        if forget is not None:
            told = {key: words for key, words in told.items() if key[0] <= forget}
    found = read.run(shared, claim.run_id).samples
    assert {(sample.step, sample.prompt): sample.text for sample in found} == told
    assert len(found) == len(told)
    assert [sample.step for sample in found] == sorted(sample.step for sample in found)
    numbers = {(sample.prompt, sample.number) for sample in found}
    assert len(numbers) == len({sample.prompt for sample in found}) == len({number for _, number in numbers})


def test_a_value_that_was_not_measured_is_null_and_never_0(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    claim = claimed(db)
    results.flush(db, claim.ref, [("value", 1, None), ("value", 2, 0.0)], None, [])
    assert read.series(db, claim.run_id, "value") == [(1, None), (2, 0.0)]
    got = read.run(db, claim.run_id).metrics["value"]
    assert (got.first, got.last, got.min, got.max, got.points) == (None, 0.0, 0.0, 0.0, 2)


def test_a_point_costs_at_most_30_bytes_of_the_file(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    claim = claimed(db)

    def size() -> int:
        with db.engine.connect() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        return db.path.stat().st_size

    before, points = size(), 100_000
    for start in range(0, points, 1000):
        batch = [("value", step, math.exp(-step / points)) for step in range(start, start + 1000)]
        results.flush(db, claim.ref, batch, None, [])
    per_point = (size() - before) / points
    assert 16 <= per_point <= 30, "a step and a double need some 16 bytes"
    assert len(read.series(db, claim.run_id, "value")) == points
