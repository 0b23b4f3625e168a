"""The drill with files: writes an artifact and a folder before it counts and one artifact after, for crashes to meet.

A kind as a user would add it, put beside the lab's own by ``sitecustomize``; the lab does not know it.
"""

from __future__ import annotations

from labqueue.domain.artifacts import Curve, Files, Text
from labqueue.domain.kind import Recorder
from labqueue.kinds import drill

Params = drill.Params


def run(params: drill.Params, rec: Recorder) -> None:
    """Counts, between files."""
    # Other content in every attempt, so that a file and the record of another attempt cannot pass for a pair.
    rec.artifact("before", Text(text=f"of attempt {rec.attempt}"))
    folder = rec.directory / "parts"
    folder.mkdir(exist_ok=True)
    for name in ("one", "two"):
        (folder / f"{name}.txt").write_text(f"{name} of attempt {rec.attempt}\n" * 100)
    rec.artifact("parts", Files(path=folder))
    drill.run(params, rec)
    steps = tuple(float(step) for step in range(1, params.steps + 1))
    rec.artifact("curve", Curve(x_label="step", y_label="value", x=steps, series={"line": steps}))
