"""Checks predictions, search and plots of a spec at submission against what its runs will be and record: mistakes are
still cheap then."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from labqueue.domain.canonical import canonical
from labqueue.domain.declarations import OF_EVERY_RUN
from labqueue.domain.errors import nearest
from labqueue.domain.kind import Kind, Params
from labqueue.domain.spec.predictions import TESTS, Prediction
from labqueue.domain.spec.schema import Spec
from labqueue.domain.spec.sweep import axes
from labqueue.store.db import Database
from labqueue.store.queries import registrations
from labqueue.store.runs.jobs import NewJob
from labqueue.store.runs.needs import matches
from labqueue.submission.specfile import Source


def check(spec: Spec, kind: Kind, seen: list[tuple[dict[str, Any], dict[str, Any]]], source: Source) -> None:
    """A prediction that can match no run is a typing error, and would be found only in the morning.

    ``seen`` are the varied keys and all parameters of each run; of a search, of those that are known.

    Raises:
        LabError: a prediction names a point that no run has, an axis that is not varied, or a parameter by the name
            that it had.
    """
    searching = spec.sweep.search if spec.sweep else None
    space = searching.space if searching else {}
    for at, prediction in enumerate(spec.predictions):
        over = getattr(prediction.test, "over", None)
        named = [("over", over)] if over is not None else []
        named += [(name, key) for name, where in prediction.test.selections() for key in where]
        for name, key in named:
            new = kind.params.renamed(key)
            if new is not None:
                words = f"prediction {prediction.id!r}: {name} names {key}, which is called {new} now: write {new}"
                raise source.error(words, f"predictions.{at}")
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
        if over is not None and over not in axes(spec.sweep):
            words = f"prediction {prediction.id!r} is over {over!r}, which is not varied"
            raise source.error(f"{words}: {nearest(over, axes(spec.sweep))}", f"predictions.{at}")


def check_metrics(spec: Spec, kind: Kind, runs: Sequence[Params], source: Source) -> None:
    """A metric that no run records is a typing error as well; so is a search that looks for the worst.

    ``runs`` are the parameters of the runs; of a search, of those that are known. Names of a kind that makes them
    freely, or declares none, are not checked.

    Raises:
        LabError: a prediction, the search or a plot names a metric that the kind does not declare, or that of these
            runs none records; a prediction states a margin of a yes/no metric; or the search goes against the
            declared direction.
    """
    _check_yes_no(spec, kind, source)
    made = _made(kind, runs)
    for what, name, key in _named(spec):
        # A search reads what the kind records alone.
        of_lab = name in OF_EVERY_RUN and not key.startswith("sweep.")
        if not of_lab and not kind.metrics.records(name, made):
            raise source.error(
                f"{what} names the metric {name!r}, which no run of the kind {kind.name!r} records: "
                f"{nearest(name, kind.metrics.known(made))}",
                key,
            )
    search = spec.sweep.search if spec.sweep else None
    better = kind.metrics[search.metric].better if search else None
    wanted = {"lower": "minimize", "higher": "maximize", None: None}[better]
    if search and wanted is not None and search.direction != wanted:
        raise source.error(
            f"the search would {search.direction} {search.metric!r}, of which {better} is better, as the kind "
            f"{kind.name!r} declares it: set direction: {wanted}",
            "sweep.search.direction",
        )


def against_declared(job: NewJob, kind: Kind) -> list[str]:
    """Returns a sentence for each ``best_at`` that calls the declared worst of its metric best: it may be meant so."""
    told = []
    for stored in job.spec["predictions"]:
        test = stored["best_at"]
        better = kind.metrics[test["metric"]].better if test is not None else None
        wanted = {"lower": "min", "higher": "max", None: None}[better]
        if test is not None and wanted is not None and test["direction"] != wanted:
            told.append(
                f"prediction {stored['id']!r} takes the {test['direction']} of {test['metric']!r} for the best, and "
                f"the kind {kind.name!r} declares {better} as better: unless that is meant, set direction: {wanted}"
            )
    return told


def _check_yes_no(spec: Spec, kind: Kind, source: Source) -> None:
    """A yes/no metric of one run is 1 or 0: how much it differs between two seeds has no meaning, only how often."""
    for at, prediction in enumerate(spec.predictions):
        metric = kind.metrics[prediction.test.metric].metric
        margin = _margin(prediction)
        if metric is not None and metric.scale == "yes_no" and margin is not None:
            form, field, value = margin
            raise source.error(
                f"prediction {prediction.id!r} states a margin ({field}: {value:g}) of {prediction.test.metric!r}, "
                f"which the kind {kind.name!r} declares as yes/no: claim difference_below: 0 or difference_above: 0 "
                "(less often or more often), or a threshold of its share of seeds",
                f"predictions.{at}.{form}.{field}",
            )


def _margin(prediction: Prediction) -> tuple[str, str, float] | None:
    """(form, field, value) of a margin that a prediction states; a difference from 0 is none."""
    for form in TESTS:
        test = getattr(prediction, form)
        for field in ("within", "difference_below", "difference_above", "ratio_below", "ratio_above", "tolerance"):
            value = getattr(test, field, None)
            if value is not None and not (field.startswith("difference_") and value == 0):
                return form, field, value
    return None


def check_looks(spec: Spec, source: Source) -> None:
    """Looks end where the seeds end, at the earliest.

    Raises:
        LabError: the spec, with what was asked beside it, has more seeds than its last look.
    """
    if spec.looks and spec.looks[-1] < len(spec.seeds):
        raise source.error(
            f"the looks {list(spec.looks)} end at {spec.looks[-1]} seeds, and {len(spec.seeds)} would run: what the "
            "others show could decide nothing; add a look, or leave seeds out",
            "looks",
        )


def check_history(job: NewJob, db: Database | None, source: Source) -> list[str]:
    """Compares a submission with what has run under its name; returns what a person should know of it, in sentences.

    Raises:
        LabError: it registers looks at fewer seeds than have been run.
    """
    past = None if db is None else registrations.before(db, job)
    if past is None:
        return []
    looks = list(job.spec["looks"])
    if looks and looks != past.looks and looks[0] < len(past.seeds):
        known = f"registered are {past.looks}" if past.looks else "none were registered"
        raise source.error(
            f"the looks {looks} begin at {looks[0]} seeds, and {len(past.seeds)} have been run ({known}): nobody can "
            f"look at fewer any more; begin at {max(len(past.seeds), 2)} or later, or keep what was registered",
            "looks",
        )
    told = [
        f"prediction {name!r} was registered after {_runs(n)} had finished: it will be exploratory"
        for name, n in past.late.items()
    ]
    told += [
        f"prediction {name!r} is withdrawn as it was registered; it stays in the report, with what became of it"
        for name in past.withdrawn
    ]
    if looks and looks != past.looks and past.seeds:
        told.append(f"the looks {looks} were registered after runs had finished; the report says so")
    return told


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"


def _made(kind: Kind, runs: Sequence[Params]) -> Collection[str] | None:
    """The names that the runs record of the kind's families; None where the kind does not say."""
    named = [kind.family_metrics(params) for params in runs]
    if any(names is None for names in named):
        return None
    return sorted({name for names in named for name in names or ()})


def _named(spec: Spec) -> Iterator[tuple[str, str, str]]:
    """What names a metric, the metric, and its dotted key in the spec."""
    for at, prediction in enumerate(spec.predictions):
        test = next(name for name in TESTS if getattr(prediction, name) is not None)
        yield f"prediction {prediction.id!r}", prediction.test.metric, f"predictions.{at}.{test}.metric"
    if spec.sweep and spec.sweep.search:
        yield "the search", spec.sweep.search.metric, "sweep.search.metric"
    for at, plot in enumerate(spec.plots):
        yield f"plot {at + 1}", plot.x, f"plots.{at}.x"
        yield f"plot {at + 1}", plot.y, f"plots.{at}.y"
