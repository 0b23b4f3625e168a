import io
import math
import xml.etree.ElementTree as ET

import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.image import imread

from labqueue.report.figures import marks_and_axes, style, verdict
from labqueue.report.figures.choose import figures
from labqueue.report.figures.over_steps import thin
from labqueue.report.statistics.verdicts import judgements
from tests.report.factories import FINETUNE, prediction, sweep

COMPARE = prediction(compare={"metric": "eval_loss", "a": {"rank": 1}, "b": {"rank": 2}, "within": 0.1})

YES = prediction(compare={"metric": "overfit", "a": {"rank": 1}, "b": {"rank": 2}, "difference_below": 0})


def make(point, seed):
    end = 1 + math.log2(point["rank"]) / 10 + 0.01 * seed * point["rank"]
    return {"eval_loss": [(step, end + math.exp(-step / 30)) for step in range(0, 101, 10)], "wall_s": 3.0 + seed}


def draw(grid, seeds, predictions=(), metrics=make):
    view, series = sweep(grid, seeds, metrics, predictions)
    return figures(view, judgements(view, series), series, FINETUNE)


@pytest.mark.parametrize(
    ("grid", "seeds", "expected"),
    [
        ({"rank": [1]}, [0], {"eval_loss_curves"}),
        ({"rank": [1]}, range(5), {"eval_loss_curves"}),
        (
            {"rank": [1, 2, 4, 8], "lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]},
            range(3),
            {"verdict_p", "eval_loss_curves", "eval_loss_over_rank", "eval_loss_over_lr", "eval_loss_rank_lr"},
        ),
    ],
    ids=["1 run", "5 runs", "60 runs"],
)
def test_figures_are_well_formed_from_one_run_to_sixty(grid, seeds, expected):
    plots = draw(grid, seeds, [COMPARE])
    assert expected <= {plot.name for plot in plots}
    assert len({plot.name for plot in plots}) == len(plots)
    for plot in plots:
        ET.fromstring(plot.svg)
        assert imread(io.BytesIO(plot.png)).shape[1] > 300
        assert plot.caption


@pytest.mark.parametrize(("grid", "seeds"), [({"rank": [1, 2, 4], "lr": [1e-4, 1e-2]}, range(2)), ({"rank": [1]}, [0])])
def test_no_label_leaves_the_figure(grid, seeds, monkeypatch):
    outside = []
    real = style.save

    def checked(figure):
        saved = real(figure)
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        if box.x0 < -0.02 or box.y0 < -0.02 or box.x1 > width + 0.02 or box.y1 > height + 0.02:
            outside.append((figure.axes[0].get_ylabel(), box))
        return saved

    monkeypatch.setattr(style, "save", checked)
    draw(grid, seeds, [COMPARE])
    assert outside == []


def test_the_same_data_give_the_same_bytes():
    first, second = (draw({"rank": [1, 2]}, range(2)) for _ in range(2))
    assert [plot.svg for plot in first] == [plot.svg for plot in second]
    assert [plot.png for plot in first] == [plot.png for plot in second]


def test_metrics_of_different_lengths_and_null_values_are_drawn():
    def uneven(point, seed):
        steps = range(0, 50 + 50 * seed, 10 + seed)
        return {"loss": [(step, None if step == 20 else 2.0 - step / 100) for step in steps]}

    assert {plot.name for plot in draw({"rank": [1, 2]}, range(2), (), uneven)} >= {"loss_curves"}


def test_thousands_of_sweep_points_become_a_few_in_colour():
    (plot,) = [p for p in draw({"rank": list(range(1, 301))}, [0]) if p.name == "eval_loss_curves"]
    assert "6 of 300 sweep points in colour" in plot.caption
    assert len(plot.svg) < 1_000_000


def test_a_spike_survives_thinning():
    values = [0.0] * 100_000
    values[54_321] = 9.0
    steps, kept = thin(range(100_000), values)
    assert len(steps) <= 802
    assert kept[steps.index(54_321)] == 9.0
    assert (steps[0], steps[-1]) == (0, 99_999)


def test_names_in_any_script_and_with_dollar_signs_are_shown_as_they_are():
    plots = draw({"model": ["$x_1$", "數據", "naïve <b>"]}, range(2), (), lambda p, s: {"eval_loss": 1.0 + s})
    assert plots
    assert "數據".encode() in plots[0].svg


@pytest.fixture
def wide_font(tmp_path, monkeypatch):
    """A font of a usual Chinese family, installed for one test, whose every letter is the same hollow square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    for corners in (((0, 0), (0, 900), (900, 900), (900, 0)), ((100, 100), (800, 100), (800, 800), (100, 800))):
        pen.moveTo(corners[0])
        for corner in corners[1:]:
            pen.lineTo(corner)
        pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square" for letter in "數據"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "WenQuanYi Micro Hei", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "wide.ttf"
    builder.save(path)
    # The machine's own such fonts are out of sight meanwhile.
    monkeypatch.setattr(
        fontManager, "ttflist", [font for font in fontManager.ttflist if font.name not in style.WIDE_FONTS]
    )
    fontManager.addfont(path)
    return path


def titled(title):
    with style.look():
        figure = Figure()
        figure.suptitle(title)
        return style.save(figure)


def test_letters_that_our_font_lacks_are_drawn_in_a_chinese_font_where_there_is_one(wide_font, monkeypatch):
    svg, png = titled("數據 abc")
    assert b"<text" not in svg, "with every letter known the SVG is all outlines"
    plain = titled("abc")
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if font.fname != str(wide_font)])
    assert titled("abc") == plain, "known letters look the same with and without it"
    alone, boxes = titled("數據 abc")
    assert b"<text" in alone, "without it the letters are left to the reader's browser"
    assert boxes != png


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("eval_loss", "eval_loss (nats/token)"),
        ("wall_s", "wall_s (s)"),
        ("peak_memory_gib", "peak_memory_gib (GiB)"),
        ("tokens_per_second", "tokens_per_second (tokens/s)"),
        ("exact_answers", "exact_answers (fraction)"),
        ("accuracy", "accuracy"),
        ("value", "value"),
        ("eval_loss_min_step", "eval_loss_min_step (step)"),
        ("plateau_step", "plateau_step (step)"),
        ("steps_to_80_percent", "steps_to_80_percent (step)"),
        ("step_s", "step_s (s)"),
        ("gap", "gap (nats/token)"),
        ("overfit_rise", "overfit_rise (nats/token)"),
        ("merge_loss_difference", "merge_loss_difference (nats/token)"),
        ("general_text_loss", "general_text_loss (nats/token)"),
        ("general_text_perplexity", "general_text_perplexity"),
        ("domain_a_exact", "domain_a_exact (fraction)"),
        ("diverged", "diverged (1 is yes)"),
        ("update_norm", "update_norm"),
        ("stable_rank", "stable_rank"),
        ("glosses", "glosses"),
    ],
)
def test_known_units_stand_on_the_axes(metric, label):
    assert FINETUNE[metric].label() == label


@pytest.mark.parametrize("values", [[0.0] * 8, [0.0, 1.0] * 5, [0.01 * at for at in range(11)]])
def test_no_seed_of_a_verdict_hides_another(values):
    wide, rows = 0.034, 5
    places = list(zip(values, marks_and_axes.swarm(values, wide, rows), strict=True))
    assert len(set(places)) == len(values)
    for at, (x, row) in enumerate(places):
        assert all(abs(x - other) >= wide for other, its in places[:at] if its == row)
        assert abs(row) <= rows


def test_arms_whose_seeds_agree_show_each_of_them():
    view, series = sweep({"rank": [1, 2]}, range(6), lambda point, seed: {"overfit": float(point["rank"] == 1)}, [YES])
    axes = Figure().subplots()
    verdict._arms(axes, judgements(view, series)[0].evidence, FINETUNE["overfit"])
    drawn = [xy for line in axes.lines if line.get_marker() == "o" for xy in zip(*line.get_data(), strict=True)]
    assert len(set(drawn)) == len(drawn) == 12


def test_the_bound_of_a_positive_metric_is_drawn_where_its_values_are():
    claim = prediction(threshold={"metric": "eval_loss", "where": {"rank": 1}, "below": 16.0})
    view, series = sweep({"rank": [1]}, range(3), lambda _, seed: {"eval_loss": 3.0 + 0.1 * seed}, [claim])
    evidence = judgements(view, series)[0].evidence
    assert evidence.log
    axes = Figure().subplots()
    verdict._seeds(axes, evidence, "rank=1")
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [pytest.approx(16.0)]


@pytest.mark.parametrize(
    ("missing", "said"),
    [((), "n = 3 seeds, the same at every point"), ((1,), "n = 2 to 3 seeds, not the same everywhere")],
)
def test_figures_over_an_axis_say_how_many_seeds_and_that_bars_are_not_paired(missing, said):
    def some(point, seed):
        return {"eval_loss": 1.0 + 0.01 * seed} if (point["rank"], seed) not in {(r, 0) for r in missing} else {}

    for grid in ({"rank": [1, 2, 4]}, {"rank": [1, 2, 4], "lr": [0.1, 0.2, 0.3]}):
        plots = [plot for plot in draw(grid, range(3), metrics=some) if plot.section == "axes"]
        assert plots
        for plot in plots:
            assert said in plot.caption
            assert ("pair the points by seed" in plot.caption) == ("_over_" in plot.name)
