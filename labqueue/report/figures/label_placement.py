"""Labels beside marks, placed so that they hide no mark and no other label. Knows no experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 8.0
"""Of the letters, in points."""

GAPS = (1.5, 6.0, 11.0)
"""Points between a mark and its label, tried in this order."""

SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0.4, 1), (-0.4, 1), (0.4, -1), (-0.4, -1), (1, 0.3), (-1, 0.3), (1, -0.3),
         (-1, -0.3))  # fmt: skip
"""Directions from a mark in which its label may stand, in the order tried. Straight up and aside run its bars."""

AIR = 1.0
"""Points kept free around a label: letters are measured at another resolution than that of a saved figure."""

ALONG, READABLE = 3.0, 2.5
"""What a line costs that runs through the whole length of a label, where one across it costs 1; the most that still
can be read. Judged by eye."""

FURTHER = 0.4
"""What the next gap costs, in crossed lines. Assumption: a label near its mark is read before a free one far away."""


@dataclass(frozen=True)
class Label:
    """What to write beside a mark."""

    text: str
    at: tuple[float, float]
    """Of the mark, in the units of the axes."""
    mark: float
    """Its diameter in points."""
    colour: str


def place(
    figure: Figure,
    axes: Axes,
    labels: Sequence[Label],
    *,
    marks: Sequence[tuple[float, float, float]],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]],
) -> int:
    """Writes each label where it covers no mark, no other label and no edge, and is nearest to its own mark.

    Of the free places it takes the one that lines cross least, nearer ones first; a label without a free place, or
    with lines all through it, is left out. Finds the layout of the figure and keeps it: the figure must be complete
    but for its labels.

    Args:
        figure: that the axes are in.
        axes: to write on; their scales and limits must be final.
        labels: what to write.
        marks: (x, y, diameter in points) of everything drawn that must stay visible.
        lines: (from, to) of what a label had better not cross.

    Returns:
        how many labels were left out.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    point = figure.dpi / 72
    inside = axes.get_window_extent()
    taken = _boxes(axes, marks, point)
    strokes = axes.transData.transform(np.array(lines, dtype=float).reshape(-1, 2)).reshape(-1, 2, 2)
    anchors = axes.transData.transform(np.array([label.at for label in labels], dtype=float).reshape(-1, 2))
    tried = []
    for label, anchor in zip(labels, anchors, strict=True):
        note = axes.annotate(
            label.text, label.at, (0, 0), textcoords="offset points", ha="center", va="center",
            fontsize=SIZE, color=label.colour, zorder=5, path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
        size = note.get_window_extent(canvas.get_renderer())
        offsets, costs = _candidates(size.width, size.height, _half(label.mark) + AIR, point)
        boxes = np.hstack([anchor + offsets, anchor + offsets])  # [candidate, left bottom right top]
        boxes += np.array([-size.width, -size.height, size.width, size.height]) / 2
        crossed = _crossed(boxes, strokes)
        aired = boxes + np.array([-1, -1, 1, 1]) * AIR * point
        # Two marks of one colour: a label between them must not be read as the other's.
        rivals = anchors[[other.colour == label.colour for other in labels]]
        ours = _distance(boxes, anchor[None, :])[:, 0] <= _distance(boxes, rivals).min(axis=1) + 1e-9
        framed = (boxes[:, :2] >= inside.min).all(axis=1) & (boxes[:, 2:] <= inside.max).all(axis=1)
        free = framed & ours & (crossed <= READABLE) & ~_overlap(aired, taken).any(axis=1)
        tried.append((note, offsets / point, costs + crossed, aired, free))
    left_out = 0
    written = np.empty((0, 4))
    # Those with the fewest places choose first.
    for note, offsets, costs, aired, free in sorted(tried, key=lambda each: int(each[4].sum())):
        still = free & ~_overlap(aired, written).any(axis=1)
        if not still.any():
            note.remove()
            left_out += 1
            continue
        best = int(np.where(still, costs, np.inf).argmin())
        note.set_position(tuple(offsets[best]))
        written = np.vstack([written, aired[best]])
    return left_out


def _boxes(axes: Axes, marks: Sequence[tuple[float, float, float]], point: float) -> Any:
    """Squares around marks, in pixels.  # [mark, left bottom right top]"""
    import numpy as np

    found = np.array(marks, dtype=float).reshape(-1, 3)
    centres = axes.transData.transform(found[:, :2])
    half = _half(found[:, 2:]) * point
    return np.hstack([centres - half, centres + half])


def _half(diameter: Any) -> Any:
    """How far a mark reaches, in points: a diamond by half its diagonal, and the stroke of the edge."""
    return 0.71 * diameter + 0.5


def _candidates(width: float, height: float, clear: float, point: float) -> tuple[Any, Any]:
    """Centres of a label relative to its mark in pixels [candidate, 2], and what each costs for its distance.

    They start ``clear`` points from the centre of the mark.
    """
    import numpy as np

    found, costs = [], []
    for number, gap in enumerate(GAPS):
        reach = (clear + gap) * point
        found += [(right * (reach + width / 2), up * (reach + height / 2)) for right, up in SIDES]
        costs += [number * FURTHER] * len(SIDES)
    return np.array(found), np.array(costs)


def _overlap(boxes: Any, others: Any) -> Any:
    """Which of [n, 4] boxes overlap which of [m, 4] others.  # [n, m]"""
    a, b = boxes[:, None, :], others[None, :, :]
    return (a[..., :2] < b[..., 2:]).all(axis=-1) & (a[..., 2:] > b[..., :2]).all(axis=-1)


def _distance(boxes: Any, places: Any) -> Any:
    """From [n, 4] boxes to [m, 2] points, in pixels.  # [n, m]"""
    import numpy as np

    a, b = boxes[:, None, :], places[None, :, :]
    return np.linalg.norm(np.maximum(0, np.maximum(a[..., :2] - b, b - a[..., 2:])), axis=-1)


def _crossed(boxes: Any, strokes: Any) -> Any:
    """How much of each of [n, 4] boxes the [m, 2, 2] line segments cross: 1 upwards, ALONG lengthwise.  # [n]"""
    import numpy as np

    start, along = strokes[None, :, 0], strokes[None, :, 1] - strokes[None, :, 0]  # [1, m, xy]
    along = np.where(along == 0, 1e-9, along)
    ends = np.stack([(boxes[:, None, :2] - start) / along, (boxes[:, None, 2:] - start) / along])
    enters, leaves = ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)  # [n, m], as shares of the segment
    inside = np.clip(np.minimum(leaves, 1) - np.maximum(enters, 0), 0, None)
    shares = inside[..., None] * np.abs(along) / (boxes[:, None, 2:] - boxes[:, None, :2])
    return (shares * np.array([ALONG, 1.0])).sum(axis=(1, 2))
