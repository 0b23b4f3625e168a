"""The section on verdicts: what was tested, what is exploratory, and what became of claims that were withdrawn."""

from __future__ import annotations

from collections.abc import Sequence

from labqueue.domain.views import ExperimentView, Registered, RegistrationView, VerdictView
from labqueue.report.document.blocks import Block, Figure, Heading, Paragraph
from labqueue.report.figures.style import Plot

APART = ("exploratory", "withdrawn")
"""Verdicts on claims that were not tested: shown after the others, in another colour, never as a result."""

COLOURS = {
    "supported": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "exploratory": "magenta",
    "withdrawn": "bright_black",
}
"""Of each verdict in a terminal."""

RULE = (
    "A claim is supported when its seeds decide for it, refuted when they decide against it, and inconclusive "
    "otherwise; the p values of all predictions are corrected together (Holm). docs/reports.md states the test of each "
    "metric."
)

NOTES = {
    "exploratory": (
        "Registered, or looked at, after results could be known: a description, and no test. Register the claim and "
        "run it with new seeds to have it tested."
    ),
    "withdrawn": (
        "Claims that a later spec left out, or whose clause it changed under the same id. They stay, with what the "
        "data say of them."
    ),
}


def tested_first(verdicts: Sequence[VerdictView]) -> list[VerdictView]:
    """Tested claims, then exploratory ones, then withdrawn ones; each group in its order."""
    return sorted(verdicts, key=lambda each: APART.index(each.verdict) + 1 if each.verdict in APART else 0)


def verdict_blocks(experiment: ExperimentView, verdicts: Sequence[VerdictView], plots: Sequence[Plot]) -> list[Block]:
    """Each verdict with its claim, why, since when it is registered, and its figure; what was not tested apart."""
    if not verdicts:
        return [Heading("Verdicts"), Paragraph("No prediction was registered, so nothing is judged.")]
    tested = [each for each in verdicts if each.verdict not in APART]
    none = "No prediction was registered before its runs, so none is tested."
    blocks: list[Block] = [Heading("Verdicts"), Paragraph(f"{RULE}{_looks(experiment)}" if tested else none)]
    for verdict in tested:
        blocks += _one(experiment, verdict, plots)
    for group in APART:
        members = [each for each in verdicts if each.verdict == group]
        blocks += [Heading(f"{group.capitalize()} claims"), Paragraph(NOTES[group])] if members else []
        for verdict in members:
            blocks += _one(experiment, verdict, plots)
    return blocks


def registered(registration: Registered) -> str:
    """Since when a claim is registered, by which job, and which look of which decided, in a sentence."""
    words = f"Registered {registration.at} by job {registration.job} (digest {registration.digest[:12]})"
    if not registration.looks:
        return f"{words}; one look, at all seeds."
    looks = ", ".join(map(str, registration.looks))
    if registration.look in registration.looks:
        number = registration.looks.index(registration.look) + 1
        return f"{words}; look {number} of {len(registration.looks)}, at {registration.look} seeds (looks at {looks})."
    return f"{words}; no registered look was taken (looks at {looks} seeds)."


def _one(experiment: ExperimentView, verdict: VerdictView, plots: Sequence[Plot]) -> list[Block]:
    blocks: list[Block] = [
        Heading(verdict.id, 3, verdict.verdict),
        Paragraph(f"Claim: {verdict.claim}"),
        Paragraph(verdict.why),
    ]
    if verdict.registration is not None:
        said = [registered(verdict.registration), *_became(experiment, verdict, verdict.registration)]
        blocks.append(Paragraph(" ".join(said)))
    if verdict.verdict != "withdrawn":
        blocks += [Figure(plot) for plot in plots if plot.verdict == verdict.id]
    return blocks


def _became(experiment: ExperimentView, verdict: VerdictView, given: Registered) -> list[str]:
    """Of a withdrawn claim, since when it is and what stands in its place; of an exploratory one, which runs were known
    before it."""
    said = []
    for each in experiment.registrations:
        if (each.digest, each.job) != (given.digest, given.job):
            continue
        if verdict.verdict == "withdrawn" and each.withdrawn_at is not None:
            said.append(f"Withdrawn {each.withdrawn_at}: {_instead(experiment, each)}.")
        elif verdict.verdict == "exploratory" and each.seen_runs:
            known = ", ".join(map(str, each.seen_runs[:12])) + (" …" if len(each.seen_runs) > 12 else "")
            said.append(f"Could be known by then: {'run' if len(each.seen_runs) == 1 else 'runs'} {known}.")
    return said


def _instead(experiment: ExperimentView, gone: RegistrationView) -> str:
    """What the newest spec states in place of a withdrawn claim."""
    standing = [each for each in experiment.registrations if each.id == gone.id and each.withdrawn_at is None]
    if not standing:
        return "the newest spec leaves it out"
    if standing[0].digest == gone.digest:
        return f"it came back {standing[0].at}, by job {standing[0].job}, as a new registration"
    return "the newest spec states another clause under its id"


def _looks(experiment: ExperimentView) -> str:
    if not experiment.looks:
        return ""
    listed = ", ".join(map(str, experiment.looks))
    since = f", registered {experiment.looks_at}" if experiment.looks_at else ""
    late = len(experiment.looks_seen_runs)
    after = f" after {late} {'run' if late == 1 else 'runs'} had finished" if late else ""
    return f" Looks at {listed} seeds share the 5 % of wrong decisions{since}{after}."
