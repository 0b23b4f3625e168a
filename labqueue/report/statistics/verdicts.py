"""What the data say of each registered prediction: a pure function of the results store, recomputed and never stored.

The rule, the same for every type of prediction: one number per seed, a 95 % t interval over seeds; ``supported`` when
the whole interval lies in the claimed region, ``refuted`` when it lies outside altogether, else ``inconclusive``.
The p values of all predictions of an experiment that could be tested are corrected together (Holm) and must then be
at most ``stats.DECIDED``, and from six seeds a sign-flip permutation test must agree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labqueue.domain.views import ExperimentView, RunView, VerdictView
from labqueue.report.statistics import intervals
from labqueue.report.statistics.evidence import Evidence
from labqueue.report.statistics.pairing import SeriesReader, exact

if TYPE_CHECKING:
    from labqueue.domain.spec.predictions import Prediction


@dataclass(frozen=True)
class Judgement:
    """A verdict with what it rests on; ``evidence`` is None for a prediction that cannot be read any more."""

    verdict: VerdictView
    evidence: Evidence | None
    prediction: Prediction | None = field(default=None)


def judge(experiment: ExperimentView, series: SeriesReader) -> list[VerdictView]:
    """One verdict per registered prediction, in their order."""
    return [judgement.verdict for judgement in judgements(experiment, series)]


def judgements(experiment: ExperimentView, series: SeriesReader) -> list[Judgement]:
    """The verdicts with the numbers behind them, for plots."""
    from pydantic import ValidationError

    from labqueue.domain.spec.predictions import Prediction
    from labqueue.report.statistics.arm_claims import gather

    runs, aside = counted(experiment)
    found: list[tuple[dict[str, object], Prediction | None, Evidence | None, str]] = []
    for stored in experiment.predictions:
        try:
            # Through JSON, since strict validation takes a list for a tuple only there.
            prediction = Prediction.model_validate_json(json.dumps(stored))
        except ValidationError as error:
            what = error.errors()[0]
            place = ".".join(map(str, what["loc"]))
            found.append((stored, None, None, f"the registered prediction cannot be read: {place}: {what['msg']}"))
            continue
        found.append((stored, prediction, gather(prediction, experiment, runs, series), ""))
    family = [_p(evidence) for _, _, evidence, _ in found]
    adjusted = intervals.holm(family)
    tested = sum(p is not None for p in family)
    results = []
    for (stored, claim, evidence, problem), p in zip(found, adjusted, strict=True):
        if evidence is None:
            verdict, why = "inconclusive", problem
        else:
            verdict, why = _decide(evidence, p, tested)
            why = _sentence(why, evidence, aside)
        view = VerdictView(
            id=str(stored.get("id", "?")),
            claim=str(stored.get("claim", "")),
            verdict=verdict,
            estimate=_finite(evidence.estimate) if evidence else None,
            ci=_interval(evidence.ci) if evidence else None,
            n=evidence.n if evidence else 0,
            why=why,
        )
        results.append(Judgement(view, evidence, claim))
    return results


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


def _p(evidence: Evidence | None) -> float | None:
    if evidence is None or evidence.blocked or evidence.n < 2:
        return None
    return min(evidence.p_inside, evidence.p_outside)


def _decide(evidence: Evidence, p: float | None, tested: int) -> tuple[str, str]:
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
    if raw > intervals.ALPHA:
        return "inconclusive", f"{said}; claimed is {evidence.claimed}, which is within noise (p = {_short(raw)})"
    if p > intervals.DECIDED:
        family = f"p = {_short(raw)} becomes {_short(p)} after Holm's correction for {tested} predictions"
        if tested == 1:
            family = f"p = {_short(p)} is above {intervals.DECIDED:g}"
        return "inconclusive", f"{said}; claimed is {evidence.claimed}: {family}"
    check = _permutation(evidence, verdict)
    if check is not None and check > intervals.ALPHA:
        odds = f"the sign-flip permutation test does not agree (p = {_short(check)})"
        return "inconclusive", f"{said}; claimed is {evidence.claimed}: {odds}"
    largest = "largest " if evidence.also else ""
    agrees = f"; {largest}sign-flip permutation p = {_short(check)}" if check is not None else ""
    holds = evidence.claimed if verdict == "supported" else f"not {evidence.claimed}"
    if evidence.identical and not p:
        return verdict, f"{said}: {holds}"
    return verdict, f"{said}: {holds} (p = {_short(p)}{' after Holm' if tested > 1 else ''}{agrees})"


def _permutation(evidence: Evidence, verdict: str) -> float | None:
    """The sign-flip p of the decision, of its least clear comparison where it needs several; None below six seeds, or
    where every seed says the same."""
    samples = [list(evidence.sample.values())] if not evidence.identical else []
    samples += [list(more.values()) for more in evidence.also if len(more) > 1 and not evidence.summary(more).identical]
    edges = [edge for edge in (evidence.region.low, evidence.region.high) if math.isfinite(edge)]
    pick = max if verdict == "supported" else min
    ps = [
        pick(intervals.sign_flip_p(values, edge) for edge in edges)
        for values in samples
        if len(values) >= intervals.PERMUTATION_FROM
    ]
    return max(ps, default=None)


def _figures(evidence: Evidence) -> str:
    if evidence.estimate is None:
        return ""
    seeds = f"n = {evidence.n} seed{'s' * (evidence.n != 1)}"
    same = ", the same in every seed" if evidence.identical else ""
    interval = f"95 % CI {_short(evidence.ci[0])} to {_short(evidence.ci[1])}, " if evidence.ci else ""
    return f"{evidence.quantity} is {_short(evidence.estimate)} ({interval}{seeds}{same})"


def _sentence(why: str, evidence: Evidence, aside: str) -> str:
    parts = [why, *evidence.remarks, *_listed(evidence.problems), *([aside] if aside else [])]
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
