"""Figures over what was varied, for sweeps that are no grid; and one metric against another."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from labqueue.domain.declarations import Metric, Quantity
from labqueue.domain.spec.schema import MetricPair
from labqueue.report.document.report import compose
from labqueue.report.figures import marks_and_axes, style
from labqueue.report.figures.choose import AXES_FIGURES, METRICS_SHOWN, figures, over_axes
from labqueue.report.figures.metric_pair import against
from labqueue.report.figures.over_axis import over_key
from labqueue.report.figures.sweep_points import Cell, along, cell, names, points_of
from labqueue.report.statistics.scales import interval_of_mean
from labqueue.store.queries import experiment
from labqueue.submission import plan, specfile
from tests.conftest import Lab
from tests.report.factories import FINETUNE, Series, make_experiment, make_run, prediction, sweep
from tests.store.factories import executed, submitted

RATES = [{"method": m, "rank": r, "rate": v} for m, r in (("lora", 2), ("lora", 64)) for v in (1e-3, 1e-2, 1e-4)]
RATES += [{"method": "full", "rate": v} for v in (1e-4, 1e-3, 1e-5)]
ARMS = [
    {"method": "lora", "bits": "4bit", "rate": 1e-3},
    {"method": "lora", "bits": "none", "rate": 1e-3},
    {"method": "full", "bits": "none", "rate": 1e-4},
]


def runs_of(points: list[dict[str, Any]], make: Any, seeds: Any = range(3)) -> list[Any]:
    found = []
    for seed in seeds:
        for point in points:
            made = make(point, seed)
            outcome, metrics = made if isinstance(made, tuple) else ("succeeded", made)
            found.append(make_run(len(found) + 1, point, seed, metrics, outcome))
    return found


def loss(point: dict[str, Any], seed: int) -> dict[str, float]:
    return {"eval_loss": 1 + 100 * point["rate"] + 0.1 * seed, "kept_loss": 3 - point["rate"] + 0.2 * seed}


def drawn(points: list[dict[str, Any]], make: Any = loss) -> list[Any]:
    runs = runs_of(points, make)
    axes = list(dict.fromkeys(key for point in points for key in point))
    with style.look():
        return over_axes(FINETUNE["eval_loss"], points_of(runs), axes)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures as they are saved, to look into."""
    kept: list[Any] = []
    real = style.save

    def keep(figure: Any) -> tuple[bytes, bytes]:
        kept.append(figure)
        return real(figure)

    monkeypatch.setattr(style, "save", keep)
    return kept


def at_edge(axes: Any, shape: str) -> int:
    return sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == shape and line.get_mfc() == "none")


def test_points_whose_keys_move_together_have_one_figure_with_every_point_named(saved: list[Any]) -> None:
    assert [plot.name for plot in drawn(ARMS)] == ["eval_loss_points"]
    shown = [label.get_text().replace("\u00a0", " ") for label in saved[0].axes[0].get_yticklabels()]
    assert [" ".join(label.split()) for label in shown] == [
        "lora · 4bit · rate 0.001",
        "lora · bits none · rate 0.001",
        "full · bits none · rate 0.0001",
    ]


def test_a_numeric_key_with_three_levels_becomes_the_axis_and_the_others_the_lines(saved: list[Any]) -> None:
    assert [plot.name for plot in drawn(RATES)] == ["eval_loss_over_rate"]
    (axes,) = saved[0].axes
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in saved[0].legends[0].get_texts()] == ["lora · rank 2", "lora · rank 64", "full"]


def test_keys_zipped_together_are_one_axis_and_tell_no_lines_apart() -> None:
    zipped = points_of(runs_of([{"batch": b, "rate": b / 1000} for b in (4, 8, 16)], loss))
    assert along(["batch", "rate"], zipped) == ("batch", [])


def test_many_random_points_are_scattered_over_each_key() -> None:
    points = [{"rate": 10 ** -(1 + (i * 7919 % 101) / 40), "rank": i * 104_729 % 61} for i in range(60)]
    (plot,) = drawn(points)
    assert plot.name == "eval_loss_scattered"


@pytest.mark.parametrize(("rates", "heatmaps"), [([1e-3, 1e-2], 0), ([1e-4, 1e-3, 1e-2], 1)])
def test_two_values_by_two_are_no_heatmap(rates: list[float], heatmaps: int) -> None:
    view, _ = sweep({"rate": rates, "rank": [1, 2]}, range(2), loss)
    plots = over_axes(FINETUNE["eval_loss"], points_of(view.runs), view.axes)
    assert sum(" and " in plot.title for plot in plots) == heatmaps


@pytest.mark.parametrize(
    "points", [RATES, ARMS, [{"rate": r} for r in (1e-5, 1e-4, 1e-3)]], ids=["lines", "points", "grid"]
)
def test_a_run_without_a_value_is_seen_at_the_edge_and_said(points: list[dict[str, Any]], saved: list[Any]) -> None:
    def make(point: dict[str, Any], seed: int) -> Any:
        if point["rate"] == 1e-4:
            return ("diverged" if seed else "out_of_memory"), {"eval_loss": [(0, 3.0), (5, None)]}
        return loss(point, seed)

    plot = drawn(points, make)[0]
    broken = sum(point["rate"] == 1e-4 for point in points)
    assert at_edge(saved[0].axes[0], "^") == broken
    assert at_edge(saved[0].axes[0], "x") == broken
    assert f"{2 * broken} diverged" in plot.caption
    assert f"{broken} out of memory" in plot.caption


def test_a_run_that_diverged_by_rule_is_hollow_and_one_without_the_metric_is_counted(saved: list[Any]) -> None:
    def make(point: dict[str, Any], seed: int) -> Any:
        return {"diverged": 1.0, **loss(point, seed)} if point["method"] == "full" else {"other": 1.0}

    (plot,) = drawn(ARMS, make)
    assert "Hollow" in plot.caption
    assert "6 succeeded runs have no value of it" in plot.caption
    assert [text.get_text() for text in saved[0].axes[0].texts] == ["no value", "no value"]


def test_figures_are_few_and_the_page_says_which_metrics_have_none() -> None:
    wide = {"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 2, 3]}

    def make(point: dict[str, Any], seed: int) -> dict[str, float]:
        return {f"m{i}_loss": sum(point.values()) + i + 0.1 * seed for i in range(9)} | {"step_s": 1.0 + seed}

    named = prediction(threshold={"metric": "m8_loss", "above": 0})
    view, series = sweep(wide, range(2), make, [named])
    plots = [plot for plot in figures(view, [], series, FINETUNE) if plot.section == "axes"]
    assert len(plots) <= AXES_FIGURES
    assert plots[0].metrics == ("m8_loss",)
    assert len({plot.metrics for plot in plots}) == METRICS_SHOWN
    text = compose(view, series).markdown()
    said = text.partition("Without a figure")[2].partition("\n")[0]
    assert all(name in said for name in ("m5\\_loss".replace("\\", ""), "m7_loss", "step_s"))
    assert "m8_loss" not in said


@given(
    st.lists(st.dictionaries(st.sampled_from(["a.x", "b.x", "c"]), st.sampled_from([1, 2, "u", "none"])), max_size=6)
)
def test_different_points_have_different_names(points: list[dict[str, Any]]) -> None:
    different = [point for i, point in enumerate(points) if point not in points[:i]]
    made = names(different)
    assert len(set(made)) == len(different)


VALUES = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


def with_interval(*values: float) -> Cell:
    seeds = dict(enumerate(values))
    return Cell(seeds, ends=interval_of_mean(Quantity("anything"), seeds))


def test_bars_are_exact_for_yes_and_no_and_of_shares_at_least_what_their_items_allow() -> None:
    yes_no, share = Quantity("m", Metric(scale="yes_no")), Quantity("m", Metric(scale="share", items="asked"))
    runs = [make_run(seed, {}, seed, {"m": 1.0, "asked": 24.0}) for seed in range(3)]
    exact = scipy.stats.binomtest(3, 3).proportion_ci(0.95, "exact")
    assert cell(runs, yes_no).ends == (pytest.approx(exact.low), 1.0)
    pooled = scipy.stats.binomtest(72, 72).proportion_ci(0.95, "exact")
    low, high = cell(runs, share).ends or (1.0, 1.0)
    assert low <= pooled.low + 1e-9
    assert high == 1.0
    assert cell(runs, Quantity("m", Metric(deterministic=True))).ends == (1.0, 1.0)
    alike = [make_run(seed, {}, seed, {"m": 0.7}) for seed in range(3)]
    assert cell(alike, Quantity("m", Metric())).ends is None, "seeds that agree are no proof that all do"


@example([[349526.1879258541] * 3])
@given(st.lists(st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=5))
def test_every_seed_is_inside_the_frame_and_an_interval_does_not_press_them_flat(found: list[list[float]]) -> None:
    cells = [with_interval(*values) for values in found]
    reach = marks_and_axes.reach(cells)
    assert reach is not None
    low, high, log = reach
    seeds = [value for values in found for value in values]
    assert low < min(seeds) <= max(seeds) < high
    if not log and max(seeds) - min(seeds) > 1e-3:
        assert high - low <= 3.5 * (max(seeds) - min(seeds))


def test_an_interval_makes_no_room_for_values_that_cannot_be() -> None:
    wide = [with_interval(0.2, 0.6)]
    assert wide[0].low < -0.5
    free, fraction = marks_and_axes.reach(wide), marks_and_axes.reach(wide, bounds=FINETUNE["domain_a_exact"].bounds)
    assert free is not None
    assert fraction is not None
    assert free[0] < -0.1
    assert -0.1 < fraction[0] < 0 < 1 < fraction[1] < 1.1, "a margin, so that a mark at 0 or 1 is whole"
    assert FINETUNE["eval_loss"].bounds == (0, math.inf)
    assert FINETUNE["gap"].bounds == FINETUNE["anything"].bounds == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("metric", "values", "log"),
    [
        ("eval_loss", (0.2, 0.25, 2.2), True),
        ("eval_loss", (0.3, 0.5, 2.2), False),
        ("exact_answers", (0.05, 0.4, 0.9), False),
        ("gap", (-0.1, 0.4, 0.9), False),
    ],
)
def test_values_a_decade_apart_are_drawn_on_a_log_scale_unless_they_are_shares(
    metric: str, values: tuple[float, ...], log: bool
) -> None:
    reach = marks_and_axes.reach([Cell({0: value}) for value in values], bounds=FINETUNE[metric].bounds)
    assert reach is not None
    assert reach[2] is log


def test_an_axis_says_that_it_is_logarithmic(saved: list[Any]) -> None:
    runs = runs_of(RATES, lambda point, seed: {"eval_loss": (0.2 + 0.01 * seed) * point["rate"] / 1e-5})
    assert over_key(FINETUNE["eval_loss"], "rate", ["method", "rank"], points_of(runs)) is not None
    (axes,) = saved[0].axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "eval_loss (nats/token, log scale)"


def pair(**changes: Any) -> MetricPair:
    return MetricPair(**{"x": "eval_loss", "y": "kept_loss", "by": "method", **changes})


def test_one_metric_against_another_has_a_mark_at_the_means_joined_in_the_order_of_the_rate(saved: list[Any]) -> None:
    plot = against(
        pair(better="lower-left", title="B against A"),
        points_of(runs_of(RATES, loss)),
        ["method", "rank", "rate"],
        FINETUNE,
    )
    assert plot is not None
    (axes,) = saved[0].axes
    joined = [container.lines[0] for container in axes.containers]
    rates = [[1e-4, 1e-3, 1e-2], [1e-4, 1e-3, 1e-2], [1e-5, 1e-4, 1e-3]]
    assert [line.get_xdata() for line in joined] == [pytest.approx([1.1 + 100 * r for r in each]) for each in rates]
    assert [line.get_ydata() for line in joined] == [pytest.approx([3.2 - r for r in each]) for each in rates]
    colours = [line.get_color() for line in joined]
    assert colours[0] == colours[1] != colours[2]
    assert axes.get_title(loc="right") == "better: lower left"
    half = axes.containers[0].lines[2][0].get_segments()[0]
    coarse = 1.1  # three seeds a tenth apart lie on a lattice
    assert half[1][0] - half[0][0] == pytest.approx(2 * scipy.stats.t.ppf(1 - 0.025 / coarse, 2) * 0.1 / math.sqrt(3))


def test_a_sweep_point_without_both_metrics_is_named_below_the_figure() -> None:
    def make(point: dict[str, Any], seed: int) -> Any:
        if point["method"] == "full" and point["rate"] == 1e-3:
            return "diverged", {"eval_loss": None}
        return loss(point, seed)

    plot = against(pair(), points_of(runs_of(RATES, make)), ["method", "rank", "rate"], FINETUNE)
    assert plot is not None
    assert "Without a mark: full · rate 0.001 (diverged, 3 runs)." in plot.caption
    assert against(pair(y="nowhere"), points_of(runs_of(RATES, make)), ["method"], FINETUNE) is None


@pytest.mark.parametrize("stored", [{"x": "a"}, "text", {"x": "a", "y": "b", "z": 1}, None])
def test_a_plot_from_elsewhere_that_cannot_be_read_is_left_out(stored: Any) -> None:
    view = make_experiment(runs_of(ARMS, loss), plots=[stored, {"x": "eval_loss", "y": "kept_loss"}])
    found = compose(view, Series())
    assert [plot.name for plot in found.plots if plot.section == "asked"] == ["kept_loss_against_eval_loss"]
    assert "## One metric against another" in found.markdown()


def test_a_results_store_from_before_there_were_plots_has_none(lab: Lab) -> None:
    submitted(lab.db, "older", [{"steps": 1}])
    executed(lab.db, points=[("value", 1, 0.5)])
    assert experiment.experiment(lab.db, "older").plots == []


CONTROL = {"method": "full", "rate": 1e-3}


def with_control(point: dict[str, Any], seed: int) -> Any:
    """Losses, of which those of the control are far from the others."""
    return {"eval_loss": 900.0 + seed, "kept_loss": 800.0 + seed} if point == CONTROL else loss(point, seed)


def test_a_point_that_a_plot_is_without_has_no_mark_no_seed_and_no_room_and_the_figure_says_so(
    saved: list[Any],
) -> None:
    points = points_of(runs_of(RATES, with_control))
    whole = against(pair(), points, ["method", "rank", "rate"], FINETUNE)
    part = against(pair(without=(CONTROL,)), points, ["method", "rank", "rate"], FINETUNE)
    assert whole is not None
    assert part is not None
    wide, narrow = (figure.axes[0] for figure in saved)
    assert wide.get_xlim()[1] > 900
    assert narrow.get_xlim()[1] < 10
    assert narrow.get_ylim()[1] < 10
    assert max(x for line in narrow.lines for x in line.get_xdata()) < 10
    assert " Left out: method=full, rate=0.001." in part.caption
    assert "Left out" not in whole.caption
    assert "Without a mark" not in part.caption

    def looks(axes: Any) -> dict[str, Any]:
        lines = {each.get_label(): each.lines[0] for each in axes.containers}
        return {name: (line.get_color(), line.get_marker(), line.get_linestyle()) for name, line in lines.items()}

    assert looks(narrow) == looks(wide), "names and colours of the others stay"


def test_a_choice_takes_every_point_that_has_its_values_and_none_that_does_not_set_its_keys(saved: list[Any]) -> None:
    choices = ({"rate": 1e-4}, {"rank": 64}, {"method": "none"}, {"gone": 1})
    plot = against(pair(without=choices), points_of(runs_of(RATES, loss)), ["method", "rank", "rate"], FINETUNE)
    assert plot is not None
    assert " Left out: rate=0.0001 (3 sweep points); rank=64 (3 sweep points)." in plot.caption
    drawn_lines = {each.get_label(): len(each.lines[0].get_xdata()) for each in saved[0].axes[0].containers}
    assert drawn_lines == {"lora · rank 2": 2, "full": 2}
    nothing = pair(without=({"method": "lora"}, {"method": "full"}))
    assert against(nothing, points_of(runs_of(RATES, loss)), [], FINETUNE) is None


def test_two_metrics_asked_for_with_and_without_a_point_are_two_figures_and_change_no_verdict() -> None:
    older = {"x": "eval_loss", "y": "kept_loss", "by": None, "title": "", "better": None}  # frozen before ``without``
    claims = [prediction(threshold={"metric": "eval_loss", "where": CONTROL, "above": 100})]
    view = make_experiment(runs_of(RATES, with_control), claims, axes=["method", "rank", "rate"])
    bare = compose(view, Series())
    part = {**older, "without": [CONTROL]}
    asked = compose(replace(view, plots=[older, part, older, part]), Series())
    named = {plot.name: "Left out" in plot.caption for plot in asked.plots if plot.section == "asked"}
    assert named == {"kept_loss_against_eval_loss": False, "kept_loss_against_eval_loss_2": True}
    assert asked.verdicts == bare.verdicts
    assert [verdict.verdict for verdict in asked.verdicts] == ["supported"]


def test_what_a_plot_is_without_is_no_part_of_the_spec_version() -> None:
    def planned(*plots: dict[str, Any]) -> Any:
        fields = {"name": "x", "kind": "drill", "sweep": {"grid": {"steps": [3, 5]}}, "plots": list(plots)}
        return plan.plan(specfile.parse(json.dumps(fields), "x.yaml"), plan.Request(profile="cpu")).job

    whole, part = (planned({"x": "wall_s", "y": "value", **more}) for more in ({}, {"without": [{"steps": 5}]}))
    assert part.spec["plots"][0]["without"] == [{"steps": 5}]
    assert (part.spec_version, [run.spec_hash for run in part.runs]) == (
        whole.spec_version,
        [run.spec_hash for run in whole.runs],
    )


def test_a_line_has_the_same_colour_in_the_figures_over_a_key_and_of_two_metrics(saved: list[Any]) -> None:
    points = points_of(runs_of(RATES, loss))
    assert over_key(FINETUNE["eval_loss"], "rate", ["method", "rank"], points) is not None
    assert against(pair(by=None), points, ["method", "rank", "rate"], FINETUNE) is not None
    assert against(pair(by="method"), points, ["method", "rank", "rate"], FINETUNE) is not None
    over, alone, by_method = (
        {each.get_label(): each.lines[0].get_color() for each in figure.axes[0].containers} for figure in saved
    )
    assert alone == over
    assert by_method == {**over, "lora · rank 64": over["lora · rank 2"]}


def test_values_of_by_keep_colours_of_their_own_where_there_are_more_lines_than_colours(saved: list[Any]) -> None:
    many = [{"method": m, "rank": f"r{k}", "rate": v} for m in ("a", "b") for k in range(8) for v in (1e-3, 1e-2)]
    assert against(pair(), points_of(runs_of(many, loss)), ["method", "rank", "rate"], FINETUNE) is not None
    colours = [each.lines[0].get_color() for each in saved[0].axes[0].containers]
    assert colours == [style.COLOURS[0]] * 8 + [style.COLOURS[1]] * 8


FRONTIER = [{"method": "lora", "rank": r, "rate": v} for r in (2, 64) for v in (3e-4, 1e-3, 3e-3)]
FRONTIER += [{"method": "full", "rate": v} for v in (3e-5, 1e-4, 3e-4, 3e-3)]


def frontier(spread: float, noise: float) -> list[Any]:
    """Points that lie the closer together, the smaller the spread; the noise makes the error bars."""

    def make(point: dict[str, Any], seed: int) -> dict[str, float]:
        reach = spread * math.log10(point["rate"] / 3e-5) + 0.02 * point.get("rank", 1) ** 0.5
        wave = [math.sin(7919 * (seed + 1) * (1 + reach) + turn) for turn in (0, 2)]
        return {"eval_loss": 2 - reach + noise * wave[0], "kept_loss": 0.3 + 0.3 * reach**2 + noise * wave[1]}

    return runs_of(FRONTIER, make)


@pytest.mark.parametrize("spread", [1.0, 0.3, 0.05, 0.0])
@pytest.mark.parametrize("noise", [0.0, 0.03, 0.2])
def test_labels_beside_marks_cover_no_mark_no_label_and_no_edge(spread: float, noise: float, saved: list[Any]) -> None:
    runs = frontier(spread, noise)
    plot = against(pair(), points_of(runs), ["method", "rank", "rate"], FINETUNE)
    assert plot is not None
    (axes,) = saved[0].axes
    saved[0].set_dpi(150)  # as the PNG is
    renderer = FigureCanvasAgg(saved[0]).get_renderer()
    shown = [(text, text.get_window_extent(renderer)) for text in axes.texts]
    joined = [container.lines[0] for container in axes.containers]
    means = [(line.get_color(), *at) for line in joined for at in line.get_xydata()]
    seeds = [(run.metrics["eval_loss"].last, run.metrics["kept_loss"].last) for run in runs]
    for text, box in shown:
        centres = axes.transData.transform([at for _, *at in means])
        away = [math.dist(at, (min(max(at[0], box.x0), box.x1), min(max(at[1], box.y0), box.y1))) for at in centres]
        assert min(away) > 3 * 150 / 72, f"{text.get_text()} covers a mean"
        assert not any(box.contains(*at) for at in axes.transData.transform(seeds)), f"{text.get_text()} covers a seed"
        assert [at for at in box.corners() if not axes.bbox.contains(*at)] == []
        own = [distance for (colour, *at), distance in zip(means, away, strict=True) if tuple(at) == text.xy]
        alike = [distance for (colour, *_), distance in zip(means, away, strict=True) if colour == text.get_color()]
        assert min(own) == pytest.approx(min(alike)), "it is read as that of the nearest mark of its colour"
        for line in (segment for container in axes.containers for segment in container.lines[2][0].get_segments()):
            (left, up), (right, _) = axes.transData.transform(line)
            assert not (left < box.x0 and box.x1 < right and box.y0 < up < box.y1), "a bar strikes it through"
    pairs_ = [(one, two) for i, (_, one) in enumerate(shown) for _, two in shown[i + 1 :]]
    assert not any(one.overlaps(two) for one, two in pairs_)
    assert ("order along each line is that of rate" in plot.caption) == (len(shown) < len(means))
    assert ("written beside" in plot.caption) == bool(shown)


def test_a_label_is_left_out_only_where_there_is_no_room(saved: list[Any]) -> None:
    for spread, noise in ((1.0, 0.01), (0.05, 0.2)):
        against(pair(), points_of(frontier(spread, noise)), ["method", "rank", "rate"], FINETUNE)
    apart, together = (figure.axes[0] for figure in saved)
    assert len(apart.texts) == len(FRONTIER)
    assert sorted(text.get_text() for text in apart.texts) == sorted(style.short(p["rate"]) for p in FRONTIER)
    assert len(together.texts) < len(FRONTIER)
