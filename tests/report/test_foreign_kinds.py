"""A kind from outside with metrics of its own: reports, figures, comparisons and checks read what it declares."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from labqueue.domain.artifacts import Table
from labqueue.report import declarations
from labqueue.report.compare.runs import compare
from labqueue.report.document.report import Sample, compose
from labqueue.report.figures import style
from labqueue.submission import specfile
from labqueue.submission.plan import Request, plan
from labqueue.submission.predictions import against_declared
from tests import own_kinds
from tests.commands import call, refused
from tests.conftest import Lab
from tests.report.factories import Series, make_experiment, make_run, sweep

GLIDER = """
    'Flies a glider and says how far.'
    import math

    from labqueue.domain import artifacts, kind
    from labqueue.domain.declarations import ArtifactUse, Metric

    USES_TORCH = False
    METRICS = {
        "height": Metric("m", "higher", "training", "positive"),
        "distance": Metric("km", "higher", "held_out", "positive"),
        "landed": Metric("", "higher", "held_out", "share", items="flights"),
        "*_wind": Metric("m/s", "lower", "held_out", "positive"),
        "tow_fuel": Metric("kg", "lower", "cost", "positive"),
        "stall_step": Metric("step", None, "diagnostic", "positive"),
        "stalled": Metric("", "lower", "diagnostic", "yes_no"),
        "never_recorded": Metric("A", "lower", "held_out"),
    }
    ARTIFACTS = {
        "logbook": ArtifactUse("samples"),
        "flight_summary": ArtifactUse("curve_summary", metrics=("stall_step", "stalled"), row="in words"),
    }

    class Params(kind.Params):
        'What can be set.'
        span: int = 10
        flights: int = 4
        places: tuple[str, ...] = __import__("pydantic").Field(default=(), strict=False)

    def family_metrics(params):
        return [f"{place}_wind" for place in params.places]

    def run(params, rec):
        for step in range(5):
            rec.metric("height", 1000.0 / (step + 1), step)
            rec.metric("distance", params.span * step / 10 + rec.seed / 100, step)
        rec.metric("landed", 0.75, 4)
        rec.metric("tow_fuel", 3.5 + params.span, 4)
        rec.metric("stalled", 0.0, 4)
        rec.metric("stall_step", 3.0 + rec.seed, 4)
        rec.metric("surprise", float(params.span), 4)
        rec.artifact("logbook", artifacts.Table(columns=("flight", "remark"), rows=((1, "rough landing"),)))
        rows = (("in words", "steep, then level"), ("stall_step", 3.0))
        rec.artifact("flight_summary", artifacts.Table(columns=("feature", "value"), rows=rows))
"""

LABELS = {
    "distance": "distance (km)",
    "landed": "landed (fraction)",
    "alps_wind": "alps_wind (m/s)",
    "tow_fuel": "tow_fuel (kg)",
    "stalled": "stalled (1 is yes)",
    "surprise": "surprise",
    "peak_memory_gib": "peak_memory_gib (GiB)",
}


@pytest.fixture
def glider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_kinds.add(monkeypatch, tmp_path, {"glider": GLIDER})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = style.save

    def keep(figure: Figure) -> tuple[bytes, bytes]:
        figures.append(figure)
        return save(figure)

    monkeypatch.setattr(style, "save", keep)
    return figures


def flown(point: dict[str, Any], seed: int) -> dict[str, Any]:
    far = point["span"] + 0.1 * seed
    return {
        "stalled": 0.0,
        "tow_fuel": 2.0 * point["span"],
        "surprise": far,
        "height": far,
        "landed": 0.5 + 0.01 * seed,
        "distance": [(step, far * (step + 1)) for step in range(4)],
    }


def experiment(**changes: Any) -> tuple[Any, Series]:
    view, series = sweep({"span": [10, 20, 30]}, range(3), flown)
    return make_experiment([replace(run, kind="glider") for run in view.runs], kind="glider", **changes), series


@pytest.mark.usefixtures("glider")
def test_units_are_those_that_the_kind_declares_and_an_undeclared_metric_has_none() -> None:
    known = declarations.of("glider").metrics
    assert {name: known[name].label() for name in LABELS} == LABELS
    assert known["eval_loss"].label() == "eval_loss", "another kind's"


@pytest.mark.usefixtures("glider")
def test_tables_have_units_and_are_ordered_by_role_and_declaration() -> None:
    view, series = experiment()
    text = compose(view, series, plots=False).markdown()
    (head,) = re.findall(r"^\| run \|.*$", text, re.MULTILINE)
    assert [cell.strip() for cell in head.strip("| ").split(" | ")][4:-1] == [
        "distance (km)", "landed (fraction)", "height (m)", "surprise", "tow_fuel (kg)", "stalled (1 is yes)",
    ]  # fmt: skip
    results = text.split("## RESULTS")[1]
    assert "distance (km)" in results
    assert "Lower is better: tow_fuel, stalled." in results
    assert "Higher is better: distance, landed, height." in results
    assert "never_recorded" not in text, "what was never recorded has no column"


@pytest.mark.usefixtures("glider")
def test_figures_have_units_on_their_axes_and_costs_and_diagnostics_have_no_figure(drawn: list[Figure]) -> None:
    pair = {"x": "tow_fuel", "y": "distance"}
    view, series = experiment(plots=[pair])
    found = compose(view, series)
    labels = {text.get_text() for figure in drawn for text in [*figure.texts, *figure.findobj(match=_is_text)]}
    assert {"distance (km)", "landed (fraction)", "tow_fuel (kg)", "surprise"} <= labels
    shown = {metric for plot in found.plots if plot.section == "axes" for metric in plot.metrics}
    assert shown == {"tow_fuel", "distance", "landed", "height", "surprise"}, "tow_fuel is named by the plot"
    assert "stalled" not in {metric for plot in found.plots for metric in plot.metrics}


def _is_text(artist: Any) -> bool:
    return hasattr(artist, "get_text")


@pytest.mark.usefixtures("glider")
def test_a_curve_summary_and_samples_are_shown_by_what_the_kind_calls_them() -> None:
    view, series = experiment()
    words = Table(columns=("feature", "value"), rows=(("in words", "steep, then level"), ("stalled", False)))
    answers = Table(columns=("flight", "remark"), rows=((1, "rough landing"),))
    samples = [Sample(1, "flight_summary", words), Sample(1, "logbook", answers), Sample(1, "samples", answers)]
    text = compose(view, series, samples=samples, plots=False).markdown()
    summary = text.split("## What the curves show")[1].split("## ")[0]
    assert "| sweep point | seeds | stalled | in words |" in summary
    assert "steep, then level (seed 0)" in summary
    assert "| no |" in summary
    assert "artifact flight\\_summary" in summary or "artifact flight_summary" in summary
    assert text.count("rough landing") == 1, "an artifact called as another kind's samples is none of this one's"


@pytest.mark.usefixtures("glider")
def test_a_comparison_has_units_and_directions_where_the_kinds_agree() -> None:
    values = {"distance": 1.0, "eval_loss": 2.0}
    flights = [make_run(run, {"span": run}, metrics=values, kind="glider") for run in (1, 2)]
    tuned = make_run(3, metrics={"eval_loss": 2.0, "distance": 3.0})
    found = {row["name"]: (row["unit"], row["better"]) for row in compare(flights, Series())["metrics"]}
    assert found == {"distance": ("km", "higher"), "eval_loss": ("", None)}
    found = {row["name"]: (row["unit"], row["better"]) for row in compare([*flights, tuned], Series())["metrics"]}
    assert found == {"distance": ("", None), "eval_loss": ("", None)}, "one means something else by the name"


@pytest.mark.usefixtures("glider")
def test_what_the_lab_knows_of_every_run_can_be_claimed_and_drawn_with_its_unit(drawn: list[Figure]) -> None:
    claims = [
        {"id": "quick", "claim": "c", "threshold": {"metric": "wall_s", "below": 61}},
        {"id": "slow", "claim": "c", "threshold": {"metric": "wall_s", "above": 61}},
        {"id": "once", "claim": "c", "threshold": {"metric": "attempts", "below": 1.5}},
        {"id": "halved", "claim": "c", "threshold": {"metric": "wall_s", "relative_to": "first", "below": 0.5}},
        {"id": "early", "claim": "c", "threshold": {"metric": "wall_s", "at": 3, "below": 61}},
    ]
    view, series = experiment(predictions=claims, plots=[{"x": "wall_s", "y": "distance"}])
    view = replace(view, runs=[replace(run, wall_s=60 + 0.05 * (-1) ** run.id) for run in view.runs])
    found = compose(view, series)
    judged = {verdict.id: (verdict.verdict, verdict.estimate) for verdict in found.verdicts}
    assert judged["quick"] == ("supported", pytest.approx(60, rel=1e-3))
    assert judged["slow"] == ("refuted", pytest.approx(60, rel=1e-3))
    # So few seeds that agree say nothing yet: that a run needs one attempt is not a law.
    assert judged["once"] == ("inconclusive", pytest.approx(1.0))
    assert judged["halved"] == judged["early"] == ("inconclusive", None), "it has a value at the end alone"
    labels = [figure.axes[0].get_xlabel() for figure in drawn if figure.axes]
    assert "wall_s (s)" in labels


def test_a_report_of_a_kind_that_is_gone_is_whole_and_says_why_it_has_no_units() -> None:
    runs = [make_run(number, {"span": number}, metrics={"distance": 1.0 * number}, kind="glider") for number in (1, 2)]
    text = compose(make_experiment(runs, kind="glider"), Series()).markdown()
    assert "distance (km)" not in text
    assert "distance" in text
    left_out = text.split("## Left out")[1].split("## ")[0]
    assert "metrics are shown without units, tables that runs left by name alone: unknown kind 'glider'" in left_out


def test_a_report_of_a_kind_whose_library_is_gone_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_kinds.add(monkeypatch, tmp_path, {"glider": "import no_such_library\n"})
    runs = [make_run(1, metrics={"distance": 1.0}, kind="glider")]
    text = compose(make_experiment(runs, kind="glider"), Series(), plots=False).markdown()
    assert "the kind 'glider' cannot be imported: No module named 'no_such_library'" in text


SPEC = """\
name: flights
kind: glider
params: {places: [alps]}
sweep:
  grid: {span: [10, 20]}
seeds: [0, 1]
"""
CLAIM = "predictions:\n  - id: far\n    claim: it flies far\n    threshold: {metric: METRIC, above: 1}\n"
SEARCH = """\
name: flights
kind: glider
sweep:
  search:
    trials: 3
    metric: METRIC
    direction: DIRECTION
    space: {span: {int: [10, 20]}}
"""


@pytest.mark.usefixtures("glider")
@pytest.mark.parametrize("metric", ["distance", "alps_wind", "never_recorded", "wall_s"])
def test_a_prediction_may_name_what_the_kind_declares_and_what_the_lab_knows(metric: str) -> None:
    source = specfile.parse(SPEC + CLAIM.replace("METRIC", metric), "spec.yaml")
    assert len(plan(source, Request(profile="cpu")).job.runs) == 4


@dataclass(frozen=True)
class Wrong:
    text: str
    line: int
    key: str
    words: str


WRONG = {
    "a misspelt metric": Wrong(
        SPEC + CLAIM.replace("METRIC", "distanse"), 10, "predictions.0.threshold.metric",
        "prediction 'far' names the metric 'distanse', which no run of the kind 'glider' records: "
        "did you mean 'distance'? known: alps_wind, distance, height, landed, never_recorded",
    ),
    "a family's name that no run records": Wrong(
        SPEC + CLAIM.replace("METRIC", "aps_wind"), 10, "predictions.0.threshold.metric", "did you mean 'alps_wind'?"
    ),
    "a plot of what is not recorded": Wrong(
        SPEC + "plots:\n  - {x: tow_fuel, y: distanse}\n", 8, "plots.0.y", "plot 1 names the metric 'distanse'"
    ),
    "a search for what only the lab knows": Wrong(
        SEARCH.replace("METRIC", "wall_s").replace("DIRECTION", "minimize"), 6, "sweep.search.metric", "'wall_s'"
    ),
    "a search for what is not recorded": Wrong(
        SEARCH.replace("METRIC", "eval_loss").replace("DIRECTION", "minimize"), 6, "sweep.search.metric",
        "the search names the metric 'eval_loss'",
    ),
    "a search for the worst": Wrong(
        SEARCH.replace("METRIC", "distance").replace("DIRECTION", "minimize"), 7, "sweep.search.direction",
        "would minimize 'distance', of which higher is better, as the kind 'glider' declares it: "
        "set direction: maximize",
    ),
    "a search for the most fuel": Wrong(
        SEARCH.replace("METRIC", "tow_fuel").replace("DIRECTION", "maximize"), 7, "sweep.search.direction",
        "set direction: minimize",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_metric_that_will_not_be_there_is_refused_with_its_line(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, wrong: Wrong
) -> None:
    site = own_kinds.install(tmp_path_factory.mktemp("site"), {"glider": GLIDER})
    answer = lab.run("submit", lab.text(wrong.text), "--profile", "cpu", "--json", **site)
    error = refused(answer)
    assert (error["line"], error["key"]) == (wrong.line, wrong.key)
    assert error["file"].endswith("spec.yaml")
    assert wrong.words in error["message"]


@pytest.mark.usefixtures("glider")
@pytest.mark.parametrize(
    ("metric", "direction", "advised"),
    [
        ("distance", "direction: min", "set direction: max"),
        ("distance", "direction: max", None),
        ("tow_fuel", "direction: max", "set direction: min"),
        ("tow_fuel", "direction: min", None),
        ("stall_step", "direction: max", None),
    ],
)
def test_a_claim_that_calls_the_declared_worst_the_best_is_taken_and_remarked_on(
    metric: str, direction: str, advised: str | None
) -> None:
    claim = f"{{metric: {metric}, over: span, values: [20], {direction}}}"
    text = SPEC + f"predictions:\n  - {{id: p, claim: c, best_at: {claim}}}\n"
    made = plan(specfile.parse(text, "spec.yaml"), Request(profile="cpu"))
    told = against_declared(made.job, made.kind)
    assert [each.rpartition(": unless that is meant, ")[2] for each in told] == ([advised] if advised else [])


@pytest.mark.usefixtures("glider")
@pytest.mark.parametrize(
    ("metric", "direction"), [("distance", "maximize"), ("tow_fuel", "minimize"), ("stall_step", "maximize")]
)
def test_a_search_may_go_where_better_is_or_anywhere_if_neither_is(metric: str, direction: str) -> None:
    text = SEARCH.replace("METRIC", metric).replace("DIRECTION", direction)
    assert plan(specfile.parse(text, "spec.yaml"), Request(profile="cpu")).job.trials == 3


@pytest.mark.parametrize("declared", ["METRICS = {'*': Metric()}", ""])
def test_names_of_a_kind_that_makes_them_freely_are_not_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, declared: str
) -> None:
    start, end = GLIDER.index("    METRICS = {"), GLIDER.index("    class Params")
    own_kinds.add(monkeypatch, tmp_path, {"glider": f"{GLIDER[:start]}    {declared}\n{GLIDER[end:]}"})
    source = specfile.parse(SPEC + CLAIM.replace("METRIC", "anything"), "spec.yaml")
    assert len(plan(source, Request(profile="cpu")).job.runs) == 4


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, dict[str, str]]:
    """Four flights, in processes of their own."""
    made = Lab(tmp_path_factory.mktemp("flights"))
    site = own_kinds.install(tmp_path_factory.mktemp("site"), {"glider": GLIDER})
    submitted = made.run("submit", made.text(SPEC + CLAIM.replace("METRIC", "distance")), "--profile", "cpu", **site)
    assert submitted.code == 0, submitted.err
    assert made.run("worker", "--drain", "--device", "cpu", **site).code == 0
    return made, site


def test_commands_show_what_the_kind_declares(flights: tuple[Lab, dict[str, str]]) -> None:
    lab, site = flights
    summary = lab.run("report", "flights", **site).out
    assert "distance (km)" in summary
    assert "landed (fraction)" in summary
    shown = lab.run("show", "1", **site).out
    assert re.search(r"^distance \(km\) +higher ", shown, re.MULTILINE)
    assert re.search(r"^surprise +– ", shown, re.MULTILINE)
    compared = lab.run("compare", "1", "3", **site).out
    assert "distance (km, higher is better), last" in compared
    page = (lab.root / "outputs" / "flights" / "report" / "report.md").read_text()
    assert "steep, then level (seed 0)" in page
    assert "rough landing" in page
    (run,) = [run for run in lab.run("report", "flights", "--json", **site).json["runs"] if run["id"] == 1]
    assert {name: metric["unit"] for name, metric in run["metrics"].items()}.items() >= {
        ("distance", "km"), ("landed", "fraction"), ("surprise", "")
    }  # fmt: skip
    listed = call(lab, "kinds", "drill").out
    assert re.search(r"^value +lower +held out ", listed, re.MULTILINE)
    known = lab.run("kinds", "glider", "--json", **site).json["kinds"][0]
    assert known["metrics"]["landed"]["items"] == "flights"
    assert known["artifacts"]["logbook"]["use"] == "samples"


def test_without_its_kind_a_workspace_is_shown_all_the_same(flights: tuple[Lab, dict[str, str]]) -> None:
    lab, _ = flights
    for words in (("report", "flights", "--markdown"), ("show", "1"), ("compare", "1", "3")):
        answer = call(lab, *words)
        assert answer.code == 0, answer.err
        assert "distance" in answer.out
        assert "distance (km" not in answer.out


def test_a_broken_declaration_is_refused_at_submission_with_the_kinds_file(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = tmp_path_factory.mktemp("site")
    extra = own_kinds.install(site, {"glider": GLIDER.replace('"held_out"', '"heldout"', 1)})
    error = refused(lab.run("submit", lab.text(SPEC), "--profile", "cpu", "--json", **extra))
    assert "its METRICS['distance'] has role 'heldout': did you mean 'held_out'?" in error["message"]
    assert error["file"] == str(site / "kinds" / "glider.py")
