"""``labqueue new``: a commented spec to start from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from labqueue.cli.common import root_option
from labqueue.cli.render import echo
from labqueue.domain.declarations import ROLES
from labqueue.domain.errors import LabError
from labqueue.domain.kind import Kind
from labqueue.settings import check_name

_TEMPLATE = """\
# labqueue submit {path}
name: {name}
track: {track}
kind: {kind}
questions: []            # ids in QUESTIONS.md that this experiment speaks to
hypothesis: >
  What you expect, before you look, and why.
methodology: >
  What is varied, what is held fixed, what is measured, and what would change your mind.
params:                  # `labqueue kinds {kind}` explains each
{params}
# sweep:                 # what is varied: grid, zip, list or random
#   grid:
#     some.key: [1, 2]
seeds: [0, 1, 2]         # fewer than two seeds give no verdict
# looks: [3, 5]          # you may add seeds up to 5 later: verdicts at three and at five, said beforehand
limits: {{wall_minutes: 60}}
# predictions:           # written before the runs, judged by the report
#   - id: {claim_id}
#     claim: {claim}
#     threshold: {{metric: {result}, at: last, relative_to: first, {bound}}}
# plots:                 # figures of one metric against another, beside those that every report has
#   - x: {cost}
#     y: {result}
#     better: {corner}   # the corner where both are good
#     title: What a better {result} costs
#     without: []          # sweep points that are not in this figure: [{{some.key: 1}}]
#     # by: some.key       # a key of the sweep that is told by colour
"""


@click.command()
@click.argument("name")
@click.option("--kind", "kind_name", required=True, help="One of `labqueue kinds`.")
@click.option("--output", type=click.Path(path_type=Path), help="The file; default jobs/NAME.yaml.")
@root_option
def new(name: str, kind_name: str, output: Path | None, own_root: str | None) -> None:
    """Write a commented spec with hypothesis, methodology and every parameter of its kind."""
    from labqueue import kinds

    kind = kinds.get(kind_name)
    check_name(name)
    path = output or Path(own_root or "") / "jobs" / f"{name}.yaml"
    if path.exists():
        raise LabError(f"{path} exists; choose another name, or another --output", file=str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _TEMPLATE.format(
            path=path, name=name, track="other", kind=kind_name, params=_params(kind), **_examples(kind)
        )
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror}", file=str(path)) from error
    echo(f"wrote {path}: edit it, then `labqueue submit {path} --dry-run`")


def _examples(kind: Kind) -> dict[str, str]:
    """What the commented predictions and plots name: the first result and the first cost that the kind declares."""
    named = {name: metric for name, metric in kind.metrics.declared.items() if "*" not in name}
    by_role = {role: next((name for name, metric in named.items() if metric.role == role), None) for role in ROLES}
    result = by_role["held_out"] or next(iter(named), "some_metric")
    rises = result in named and named[result].better == "higher"
    return {
        "result": result,
        "cost": by_role["cost"] or "wall_s",
        "corner": "upper-left" if rises else "lower-left",
        "claim_id": "doubles" if rises else "falls_by_half",
        "claim": f"the last {result} is {'above twice' if rises else 'below half of'} the first",
        "bound": "above: 2" if rises else "below: 0.5",
    }


def _params(kind: Kind) -> str:
    lines = []
    for key, field in kind.params.model_fields.items():
        about = " ".join((field.description or "").split())
        if field.is_required():
            lines.append(f"  {key}:  # required: {about}")
            continue
        default = field.get_default(call_default_factory=True)
        value = default.model_dump(mode="json") if hasattr(default, "model_dump") else default
        lines.append(f"  # {key}: {json.dumps(value)}  # {about}")
    return "\n".join(lines)
