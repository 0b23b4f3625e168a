"""Whether the predictions of a spec can be judged at all: asked at submission, when a mistake is still cheap."""

from __future__ import annotations

from typing import Any

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import nearest
from labqueue.domain.spec import Spec
from labqueue.domain.sweep import axes
from labqueue.store.runs.needs import matches
from labqueue.submission.specfile import Source


def check(spec: Spec, seen: list[tuple[dict[str, Any], dict[str, Any]]], source: Source) -> None:
    """A prediction that can match no run is a typing error, and would be found only in the morning.

    ``seen`` are the varied keys and all parameters of each run; of a search, of those that are known.

    Raises:
        LabError: a prediction names a point that no run has, or an axis that is not varied.
    """
    searching = spec.sweep.search if spec.sweep else None
    space = searching.space if searching else {}
    for at, prediction in enumerate(spec.predictions):
        for name, where in prediction.test.selections():
            known = {key: value for key, value in where.items() if key not in space}
            held = searching is None or all(searching.holds(key, where[key]) for key in where if key in space)
            if not held or not any(matches(known, varied, values) for varied, values in seen):
                choices = "; ".join(sorted({canonical(varied) for varied, _ in seen})[:6])
                raise source.error(
                    f"prediction {prediction.id!r}: {name} {canonical(where)} matches no run of the sweep; "
                    f"its points are: {choices}",
                    f"predictions.{at}",
                )
        over = getattr(prediction.test, "over", None)
        if over is not None and over not in axes(spec.sweep):
            words = f"prediction {prediction.id!r} is over {over!r}, which is not varied"
            raise source.error(f"{words}: {nearest(over, axes(spec.sweep))}", f"predictions.{at}")
