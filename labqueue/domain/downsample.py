"""Fewer points of a curve, with its spikes. Knows nothing of where points come from."""

from __future__ import annotations

Point = tuple[int, float | None]
"""(step, value); None is "not finite"."""


def thin(points: list[Point], wanted: int) -> list[Point]:
    """At most ``wanted`` points (4 or more) that show the same curve: ends, and every bucket's extremes.

    Neighbours share a bucket; of each, the lowest, the highest and, where there is one, the first value that is not
    finite are kept: neither a spike nor a gap can vanish, whatever its width, and every point kept was measured.
    """
    if len(points) <= wanted:
        return points
    inner = points[1:-1]
    gaps = any(value is None for _, value in inner)
    buckets = max(1, (wanted - 2) // (3 if gaps else 2))
    kept = [points[0]]
    for number in range(buckets):
        part = inner[number * len(inner) // buckets : (number + 1) * len(inner) // buckets]
        finite = [point for point in part if point[1] is not None] if gaps else part
        chosen = {point for point in part if point[1] is None} if gaps else set()
        chosen = {min(chosen, key=_step)} if chosen else set()
        if finite:
            chosen |= {min(finite, key=_value), max(finite, key=_value)}
        kept += sorted(chosen, key=_step)
    return [*kept, points[-1]]


def _value(point: Point) -> float:
    assert point[1] is not None
    return point[1]


def _step(point: Point) -> int:
    return point[0]
