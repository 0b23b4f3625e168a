"""What the data say of each registered prediction: a pure function of the results store, recomputed and never stored.

The rule, the same for every type of prediction: one number per seed; ``supported`` when its whole interval lies in
the claimed region, ``refuted`` when it lies outside altogether, else ``inconclusive``. How the interval is made
follows the metric's scale (``scales``). The p values of all predictions of an experiment that could be tested are
corrected together (Holm), and each look at the experiment spends its share of 5 % (``looks``). A claim that was
registered when its runs had finished is ``exploratory``, whatever they say of it; one that was taken back is
``withdrawn``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labqueue.domain.declarations import Metrics
from labqueue.domain.views import ExperimentView, Registered, RegistrationView, RunView, VerdictView
from labqueue.report import declarations
from labqueue.report.statistics import intervals
from labqueue.report.statistics.evidence import Evidence
from labqueue.report.statistics.looks import Look, looks
from labqueue.report.statistics.pairing import SeriesReader, exact

if TYPE_CHECKING:
    from labqueue.domain.spec.predictions import Prediction


@dataclass(frozen=True)
class Judgement:
    """A verdict with what it rests on; ``evidence`` is None for a prediction that cannot be read any more."""

    verdict: VerdictView
    evidence: Evidence | None
    prediction: Prediction | None = field(default=None)
    said: str = "inconclusive"
    """What the numbers say by themselves, of an exploratory or withdrawn claim as well."""


@dataclass(frozen=True)
class _Claim:
    """One registration, read."""

    stored: dict[str, Any]
    prediction: Prediction | None
    problem: str
    registration: RegistrationView | None

    @property
    def withdrawn(self) -> bool:
        return self.registration is not None and self.registration.withdrawn_at is not None


@dataclass(frozen=True)
class _Answer:
    """What one look says of one claim."""

    said: str
    why: str
    evidence: Evidence | None
    look: Look | None


def judge(experiment: ExperimentView, series: SeriesReader, metrics: Metrics | None = None) -> list[VerdictView]:
    """One verdict per registered prediction, in their order, then those that were withdrawn.

    ``metrics`` is what the kind of the runs declares; None asks the kind itself.
    """
    return [judgement.verdict for judgement in judgements(experiment, series, metrics)]


def judgements(experiment: ExperimentView, series: SeriesReader, metrics: Metrics | None = None) -> list[Judgement]:
    """The verdicts with the numbers behind them, for plots."""
    known = metrics if metrics is not None else declarations.of(experiment.kind).metrics
    runs, aside = counted(experiment)
    claims = _claims(experiment)
    counted_ids = {run.id for run in runs}
    seen = [bool(claim.registration and counted_ids & set(claim.registration.seen_runs)) for claim in claims]
    confirming = [claim for claim, too_late in zip(claims, seen, strict=True) if not too_late]
    answers = iter(_looked_at(confirming, experiment, runs, series, known))
    found = []
    for claim, too_late in zip(claims, seen, strict=True):
        if too_late:
            (answer,) = _one_look([claim], experiment, runs, series, known, None)
        else:
            answer = next(answers)
        found.append(_judgement(claim, answer, experiment, aside, too_late=too_late))
    return found


def _claims(experiment: ExperimentView) -> list[_Claim]:
    from pydantic import ValidationError

    from labqueue.domain.spec.predictions import Prediction

    registered = [(each.prediction, each) for each in experiment.registrations]
    pairs: list[tuple[dict[str, Any], RegistrationView | None]] = [*registered]
    if not pairs:
        pairs = [(stored, None) for stored in experiment.predictions]
    claims = []
    for stored, registration in pairs:
        try:
            # Through JSON, since strict validation takes a list for a tuple only there.
            prediction = Prediction.model_validate_json(json.dumps(stored))
        except ValidationError as error:
            what = error.errors()[0]
            place = ".".join(map(str, what["loc"]))
            problem = f"the registered prediction cannot be read: {place}: {what['msg']}"
            claims.append(_Claim(stored, None, problem, registration))
            continue
        claims.append(_Claim(stored, prediction, "", registration))
    return claims


def _looked_at(
    claims: Sequence[_Claim],
    experiment: ExperimentView,
    runs: Sequence[RunView],
    series: SeriesReader,
    metrics: Metrics,
) -> list[_Answer]:
    """The answer of the first look that decides each claim, else of the last look."""
    answers: list[_Answer | None] = [None] * len(claims)
    allowed: list[Look | None] = [*looks(experiment, runs)]
    for look in allowed or [None]:
        inside = runs if look is None else [run for run in runs if run.seed in look.seeds]
        for at, answer in enumerate(_one_look(claims, experiment, inside, series, metrics, look)):
            before = answers[at]
            if before is None or before.said == "inconclusive":
                answers[at] = answer
    return [answer for answer in answers if answer is not None]


def _one_look(
    claims: Sequence[_Claim],
    experiment: ExperimentView,
    runs: Sequence[RunView],
    series: SeriesReader,
    metrics: Metrics,
    look: Look | None,
) -> list[_Answer]:
    from labqueue.report.statistics.arm_claims import gather

    gathered = [
        None if claim.prediction is None else gather(claim.prediction, experiment, runs, series, metrics)
        for claim in claims
    ]
    if look is None and experiment.looks:
        here = len({run.seed for run in runs})
        for evidence in gathered:
            if evidence is not None and here < experiment.looks[0]:
                evidence.block(f"the first registered look is at {experiment.looks[0]} seeds, here are {here}")
    alpha = intervals.ALPHA if look is None else look.alpha
    family = [_p(evidence, alpha) for evidence in gathered]
    tested = sum(p is not None for p in family)
    found = []
    for claim, evidence, p in zip(claims, gathered, intervals.holm(family), strict=True):
        if evidence is None:
            found.append(_Answer("inconclusive", claim.problem, None, look))
            continue
        if p is not None:
            evidence.decide_at(p)
        said, why = _decide(evidence, p, tested, alpha)
        found.append(_Answer(said, why, evidence, look))
    return found


def _judgement(claim: _Claim, answer: _Answer, experiment: ExperimentView, aside: str, *, too_late: bool) -> Judgement:
    evidence, look, registration = answer.evidence, answer.look, claim.registration
    why = answer.why if evidence is None else _sentence(answer.why, evidence, [*_of_look(experiment, look), aside])
    verdict = answer.said
    if too_late:
        verdict = "exploratory"
        late = len(registration.seen_runs) if registration else 0
        why = f"registered when {late} of its runs had finished; the numbers by themselves say {answer.said}: {why}"
    elif look is not None and not look.registered:
        verdict = "exploratory"
        why = f"seeds were added after a look that was not registered; with them the numbers say {answer.said}: {why}"
    if claim.withdrawn:
        assert registration is not None
        # What was known when it was taken back is part of the record.
        ended = "" if verdict == "exploratory" else f"; it is {answer.said}" if answer.said != "inconclusive" else ""
        verdict, why = "withdrawn", f"withdrawn {(registration.withdrawn_at or '')[:10]}{ended}: {why}"
    view = VerdictView(
        id=str(claim.stored.get("id", "?")),
        claim=str(claim.stored.get("claim", "")),
        verdict=verdict,
        estimate=_finite(evidence.estimate) if evidence else None,
        ci=_interval(evidence.ci) if evidence else None,
        n=evidence.n if evidence else 0,
        why=why,
        registration=None
        if registration is None
        else Registered(
            registration.at,
            registration.job,
            registration.digest,
            list(experiment.looks),
            len(look.seeds) if look is not None and experiment.looks else None,
        ),
        item_ci=_interval(evidence.item_ci) if evidence else None,
    )
    return Judgement(view, evidence, claim.prediction, answer.said)


def _of_look(experiment: ExperimentView, look: Look | None) -> list[str]:
    if look is None or not experiment.looks:
        return []
    planned = " and ".join(map(str, experiment.looks))
    told = f"look {look.number} of {len(experiment.looks)} (at {planned} seeds), which spends {100 * look.alpha:g} %"
    beyond = sorted({run.seed for run in experiment.runs} - look.seeds)
    if look.number == len(experiment.looks) and beyond:
        told += f"; seeds {', '.join(map(str, beyond))} came after the last registered look and are not counted"
    return [told]


def counted(experiment: ExperimentView) -> tuple[list[RunView], str]:
    """The runs that verdicts and figures use: one per sweep point and seed, of one profile; and what was set aside."""
    profiles = [run.profile for run in experiment.runs]
    profile = experiment.profile
    if profile not in profiles and profiles:
        profile = max(sorted(set(profiles)), key=profiles.count)
    best: dict[tuple[int, str], RunView] = {}
    for run in experiment.runs:
        if run.profile != profile:
            continue
        key = run.seed, exact(run.varied)
        known = best.get(key)
        if known is None or (run.outcome == "succeeded", run.id) > (known.outcome == "succeeded", known.id):
            best[key] = run
    others = sorted({name for name in profiles if name != profile})
    aside = ""
    if others:
        count = sum(name != profile for name in profiles)
        aside = f"{count} runs of profile {', '.join(others)} are not counted with those of {profile}"
    return sorted(best.values(), key=lambda run: run.id), aside


def _p(evidence: Evidence | None, alpha: float) -> float | None:
    """The smaller p, scaled so that what a look may spend is ``ALPHA``; None where nothing was tested."""
    if evidence is None or evidence.blocked or evidence.n < 2:
        return None
    return min(1.0, min(evidence.p_inside, evidence.p_outside) * intervals.ALPHA / alpha)


def _decide(evidence: Evidence, p: float | None, tested: int, alpha: float) -> tuple[str, str]:
    said = _figures(evidence)
    if evidence.blocked:
        return "inconclusive", f"{evidence.blocked}{f'; {said}' if said else ''}"
    if not evidence.n:
        return "inconclusive", f"no seed has a value of {evidence.metric} in every arm"
    if p is None:
        return "inconclusive", f"one seed only, an interval needs two; {said}"
    mean = math.fsum(evidence.sample.values()) / evidence.n
    gap = evidence.region.distance(mean)
    if gap <= evidence.resolution:
        return "inconclusive", f"{said}; its distance from the bound, {gap:.2g}, is below what the metric resolves"
    raw = min(evidence.p_inside, evidence.p_outside)
    verdict = "supported" if evidence.p_inside <= evidence.p_outside else "refuted"
    if raw > alpha:
        seen = "which is within noise" if raw > intervals.ALPHA else f"and this look decides at p = {alpha:g}"
        return "inconclusive", f"{said}; claimed is {evidence.claimed}, {seen} (p = {_short(raw)}){_few(evidence)}"
    if p > intervals.ALPHA:
        family = f"p = {_short(raw)} becomes {_short(p)} after Holm's correction for {tested} predictions"
        return "inconclusive", f"{said}; claimed is {evidence.claimed}: {family}"
    holds = evidence.claimed if verdict == "supported" else f"not {evidence.claimed}"
    if evidence.identical and not p:
        return verdict, f"{said}: {holds}"
    corrected = f" (p = {_short(raw)}{f', {_short(p)} after Holm' if tested > 1 else ''})"
    return verdict, f"{said}: {holds}{corrected}"


def _few(evidence: Evidence) -> str:
    """Where the numbers could not have decided, whatever they are."""
    least = 2 * 0.5**evidence.n
    certain = evidence.scale.certain or evidence.scale.form == "share"
    if evidence.identical and not certain and least > intervals.ALPHA and evidence.n:
        return f": {evidence.n} seeds that agree are as likely as {_short(least)} by chance, six are needed"
    return ""


def _figures(evidence: Evidence) -> str:
    if evidence.estimate is None:
        return ""
    seeds = f"n = {evidence.n} seed{'s' * (evidence.n != 1)}"
    same = ", the same in every seed" if evidence.identical else ""
    level = f"95 % CI, for all {evidence.comparisons} comparisons together," if evidence.comparisons > 1 else "95 % CI"
    interval = f"{level} {_ends(evidence.ci)}{_conditional_on(evidence)}, " if evidence.ci else ""
    typical = " for the typical seed" if evidence.typical else ""
    words = f"{evidence.quantity} is {_short(evidence.estimate)}{typical} ({interval}{seeds}{same})"
    if evidence.scale.form == "yes_no" and len(evidence.arms) == 1 and not evidence.log:
        yes = round(math.fsum(evidence.sample.values()))
        words = f"{yes} of {evidence.n} runs say yes: {words}"
    return words


def _conditional_on(evidence: Evidence) -> str:
    """What the interval takes as given, and the interval that does not."""
    if evidence.scale.certain and evidence.identical:
        return ""
    others = f", {_ends(evidence.item_ci)} for other items too" if evidence.item_ci else ""
    return f" for other seeds on {evidence.fixed}{others}"


def _ends(interval: Sequence[float]) -> str:
    return f"{_short(interval[0])} to {_short(interval[1])}"


def _sentence(why: str, evidence: Evidence, aside: Sequence[str]) -> str:
    parts = [why, *evidence.remarks, *_listed(evidence.problems), *(each for each in aside if each)]
    return "; ".join(parts) + "."


def _listed(problems: Sequence[str], limit: int = 4) -> list[str]:
    shown = list(dict.fromkeys(problems))
    more = [f"and {len(shown) - limit} more such runs"] if len(shown) > limit else []
    return shown[:limit] + more


def _short(value: float) -> str:
    return f"{value:.4g}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _interval(edges: list[float] | None) -> list[float] | None:
    return edges if edges is not None and all(math.isfinite(edge) for edge in edges) else None
