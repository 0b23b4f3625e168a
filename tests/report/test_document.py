import csv
import io
import json
import math
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from labqueue.domain.artifacts import Table
from labqueue.domain.views import SampleView
from labqueue.report.compare.runs import compare, comparison_blocks, overlaid
from labqueue.report.document import export, render
from labqueue.report.document.formatting import spans
from labqueue.report.document.report import Sample, compose, read_learnings, write
from tests.report.factories import Series, make_experiment, make_run, prediction, sweep

CONTRACT = {
    "id", "job", "state", "outcome", "reason", "params", "varied", "seed", "device", "experiment", "profile",
    "priority", "waiting", "progress", "eta_s", "queued_at", "started_at", "finished_at", "wall_s", "attempts",
    "peak_memory_gib", "estimated_memory_gib", "context_gib", "metrics", "artifacts", "commit", "dirty", "spec_hash",
}  # fmt: skip
COMPARE = prediction(compare={"metric": "eval_loss", "a": {"rank": 1}, "b": {"rank": 2}, "difference_below": 0})


def make(point, seed):
    return {"eval_loss": [(0, 3.0), (100, 1 + point["rank"] / 2 + 0.01 * seed * point["rank"])]}


def report(grid=None, seeds=range(3), predictions=(COMPARE,), metrics=make, **options):
    view, series = sweep(grid or {"rank": [1, 2]}, seeds, metrics, predictions)
    return compose(view, series, plots=False, **options)


def every_format(found):
    return found.json(), found.csv(), found.markdown(), found.html()


def test_the_json_has_the_keys_of_the_contract():
    found = json.loads(report().json())
    assert found["schema"] == 1
    assert {"experiment", "hypothesis", "runs", "verdicts"} <= set(found)
    assert set(found["runs"][0]) >= CONTRACT
    assert found["runs"][0]["metrics"]["eval_loss"]["last"] == 1.5
    assert set(found["verdicts"][0]) == {
        *("id", "claim", "verdict", "estimate", "ci", "item_ci", "n", "why", "registration")
    }


def test_numbers_that_are_not_finite_are_null_wherever_they_stand():
    run = make_run(params={"a": [math.nan, {"b": math.inf}]}, wall_s=-math.inf)
    found = export.plain(run)
    assert found["params"] == {"a": [None, {"b": None}]}
    assert found["wall_s"] is None
    json.dumps(found, allow_nan=False)


def test_samples_are_shown_from_the_first_step_to_the_last_of_the_first_seed_that_has_some():
    view, series = sweep({"rank": [1, 2]}, [0, 1], lambda p, s: {"loss": [(0, 1.0)]}, ())
    said = [SampleView(step, 0, "Once", f"upon {step}\n| x") for step in range(0, 900, 100)]
    runs = [replace(run, samples=said if run.seed == 1 and run.varied["rank"] == 2 else []) for run in view.runs]
    text = compose(replace(view, runs=runs), series, plots=False).markdown()
    section = text.partition("## Samples as it went")[2].partition("\n## ")[0]
    (ran,) = [run.id for run in runs if run.samples]
    assert f"### run {ran}: " in section
    assert re.findall(r"^\| (\d+) ", section, re.MULTILINE) == ["0", "200", "400", "600", "800"]
    assert "5 of 9 steps; all are in report.json" in section
    assert "Samples as it went" not in compose(view, series, plots=False).markdown()


def test_csv_has_one_row_per_run_with_whole_values():
    long = "x" * 10_000
    view, series = sweep({"prompt": [long, 'a,"b"\nc'], "rate": [1e-5]}, [0], lambda p, s: {"loss": None}, ())
    rows = list(csv.DictReader(io.StringIO(compose(view, series, plots=False).csv())))
    assert [row["prompt"] for row in rows] == [long, 'a,"b"\nc']
    assert [row["loss"] for row in rows] == ["", ""]
    assert float(rows[0]["rate"]) == 1e-5


def test_verdicts_come_before_the_table_of_runs_and_every_section_is_there():
    broken = make_run(99, {"rank": 4}, 0, {}, outcome="out_of_memory", reason="wanted 20 GiB")
    view, series = sweep({"rank": [1, 2]}, range(3), make, [COMPARE])
    view = replace(view, runs=[*view.runs, broken], left_out=["2 runs of an older spec version."])
    text = compose(view, series, plots=False, learnings="Ranks *matter*.").markdown()
    titles = re.findall(r"^## (.+)$", text, re.M)
    assert titles == [
        "Hypothesis", "Methodology", "Verdicts", "Runs", "What failed and why", "Left out", "Memory and time",
        "Artifacts", "Provenance", "RESULTS", "LEARNINGS",
    ]  # fmt: skip
    assert "wanted 20 GiB" in text
    assert "Ranks *matter*." in text
    assert "n = 3 seeds" in text


def bad_all_null(point, seed):
    return "diverged", {"eval_loss": [(0, None), (10, None)]}


def bad_lengths(point, seed):
    return {"eval_loss": [(i, 2.0 + seed / 7) for i in range(0, 10 * (seed + 1), 10)]}


@pytest.mark.parametrize(
    "case",
    [
        {"grid": {"rank": [1]}, "seeds": [0]},
        {"metrics": bad_all_null},
        {"metrics": lambda p, s: (None, {})},
        {"metrics": lambda p, s: {}},
        {"metrics": bad_lengths},
        {"predictions": ()},
    ],
    ids=["one run", "all null", "nothing finished", "no metric", "different lengths", "no prediction"],
)
def test_poor_experiments_still_give_a_readable_report(case):
    view, series = sweep(
        case.get("grid", {"rank": [1, 2]}), case.get("seeds", range(3)), case.get("metrics", make),
        case.get("predictions", (COMPARE,)),
    )  # fmt: skip
    found = compose(view, series)
    for text in every_format(found):
        assert text
        assert not re.search(r"\bnan\b|\binf\b", text)
    if found.verdicts and case.get("metrics") is not make:
        assert all(verdict.why for verdict in found.verdicts)


def test_an_experiment_without_runs_says_so():
    found = compose(make_experiment([], [COMPARE]), Series())
    assert "No run has been recorded yet" in found.markdown()
    assert found.verdicts[0].verdict == "inconclusive"


def test_mixed_profiles_are_shown_apart_and_not_averaged():
    runs = [make_run(i, {"rank": 1}, i, {"eval_loss": 1.0 + i}) for i in range(2)]
    runs += [make_run(10 + i, {"rank": 1}, i, {"eval_loss": 9.0}, profile="gpu", device="cuda") for i in range(2)]
    text = compose(make_experiment(runs), Series(), plots=False).markdown()
    assert "| profile |" in text
    assert "2 runs of profile gpu are not counted with those of cpu" in text
    assert "| rank=1 | 2 | 1.5 \\[" in text


def test_long_values_are_shortened_in_tables_and_whole_in_json():
    long = "ä" * 10_000
    found = report({"prompt": [long]}, range(2), (), lambda p, s: {"eval_loss": 1.0})
    assert long not in found.markdown()
    assert long not in found.html()
    assert long in found.json()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.open, self.urls = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_nothing_that_a_user_wrote_becomes_markup_and_the_page_asks_nobody():
    evil = '<script>alert("x")</script>|\n# `boo`'
    view, series = sweep({"name": [evil]}, range(2), lambda p, s: {evil: 1.0}, [])
    view = replace(view, hypothesis=evil, left_out=[evil])
    found = compose(view, series, learnings=evil)
    page = found.html()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert tags.open == []
    assert all(url.startswith("data:") for url in tags.urls)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    table = [line for line in found.markdown().splitlines() if line.startswith("| 1 |")]
    assert len(table) == 1
    assert "<script>" not in table[0]


def test_samples_are_shown_side_by_side():
    table = Table(columns=("prompt", "before", "after"), rows=(("2+2", "five", "four"),))
    text = report(samples=[Sample(3, "samples", table)]).markdown()
    assert "| 2+2 | five | four |" in text


def readings(point, seed):
    found = {"eval_loss": 1.0, "diverged": float(point["rank"] == 2), "gap": 0.1 * (1 + seed)}
    return found | ({"plateau_step": 80.0} if seed else {})


def test_what_the_curves_show_is_told_over_seeds_with_how_many_it_is_told_of():
    table = Table(columns=("feature", "value", "rule"), rows=(("phases", "fast to step 9", "a rule"),))
    text = report(metrics=readings, samples=[Sample(1, "curve_reading", table)]).markdown()
    (one,) = re.findall(r"^\| rank=1 \| 3 \| 0.1 to 0.3 .*$", text, re.M)
    assert one.split(" | ")[3:] == ["80 (2 of 3)", "no", "fast to step 9 (seed 0) |"]
    assert re.search(r"^\| rank=2 \| 3 \| .* \| yes \| — \|$", text, re.M)
    assert "## Samples" not in text


def test_the_table_of_runs_has_claimed_metrics_first_and_curve_readings_last():
    names = (
        "zeta",
        "overfit",
        "train_loss",
        "step_s",
        "eval_loss",
        "task_exact",
        "peak_memory_gib",
        "diverged",
        "beta",
    )
    claimed = prediction(threshold={"metric": "zeta", "above": 0})
    found = report(predictions=[claimed], metrics=lambda p, s: dict.fromkeys(names, 1.0)).markdown()
    (head,) = re.findall(r"^\| run \|.*$", found, re.M)
    assert [cell.split(" ")[0] for cell in head.split(" | ")[4:-1]] == [
        "zeta", "eval_loss", "task_exact", "train_loss", "beta", "peak_memory_gib", "step_s", "diverged",
    ]  # fmt: skip
    assert "1 more metrics" in found


def test_artifacts_are_one_line_for_all_runs_that_left_the_same():
    text = report({"rank": [1]}, range(3)).markdown()
    assert "- runs 1, 2, 3: adapter (model); 3 B" in text


@pytest.mark.parametrize(("estimate", "said"), [(4.0, "1.00 to 1.00"), (16.0, "0.25 to 0.25")])
def test_memory_is_judged_by_the_share_of_the_estimate_that_was_used(estimate, said):
    runs = [
        make_run(i, {"rank": 1}, i, {"loss": 1.0}, peak_memory_gib=4.0, estimated_memory_gib=estimate) for i in (1, 2)
    ]
    text = compose(make_experiment(runs), Series(), plots=False).markdown()
    assert f"the peak was {said} of the estimate" in text
    assert "none went above it" in text
    assert ("longest rows" in text) == (estimate == 16.0)


def test_learnings_are_read_and_never_written(tmp_path):
    assert read_learnings(tmp_path) is None
    (tmp_path / "learnings.md").write_text("mine", encoding="utf-8")
    found = report(learnings=read_learnings(tmp_path))
    write(tmp_path / "report", found)
    assert (tmp_path / "learnings.md").read_text() == "mine"
    assert "mine" in (tmp_path / "report" / "report.md").read_text()


def test_writing_replaces_whole_files_and_drops_figures_of_other_data(tmp_path):
    view, series = sweep({"rank": [1, 2]}, range(3), make, [COMPARE])
    old = tmp_path / "plots" / "gone_curves.svg"
    old.parent.mkdir()
    old.write_text("old")
    paths = write(tmp_path, compose(view, series))
    names = {path.relative_to(tmp_path).as_posix() for path in paths}
    assert {
        "report.json",
        "runs.csv",
        "report.md",
        "report.html",
        "plots/verdict_p.svg",
        "plots/verdict_p.png",
    } <= names
    assert not old.exists()
    assert not list(tmp_path.rglob(".*"))
    for link in re.findall(r"\]\((plots/[^)]+)\)", (tmp_path / "report.md").read_text()):
        assert (tmp_path / link).exists()


def test_a_thousand_runs_are_reported_without_figures_in_seconds():
    """Two of processor time on a quiet core; what grew by the square of the runs would take minutes."""
    view, series = sweep({"rank": list(range(1, 251))}, range(4), make, [COMPARE])
    start = time.process_time()
    every_format(compose(view, series, plots=False))
    assert time.process_time() - start < 10


def test_compare_lists_only_differing_keys_first_and_pairs_metrics():
    one = make_run(1, {"rank": 1}, 0, {"loss": [(0, 3.0), (10, 2.0)], "only": 1.0})
    two = make_run(2, {"rank": 2}, 0, {"loss": [(0, 3.0), (10, 1.5), (20, 1.0)]})
    series = Series({(1, "loss"): [(0, 3.0), (10, 2.0)], (2, "loss"): [(0, 3.0), (10, 1.5), (20, 1.0)]})
    found = compare([one, two], series)
    assert found["config"] == [{"key": "rank", "values": [1, 2]}]
    loss = next(metric for metric in found["metrics"] if metric["name"] == "loss")
    assert loss["difference"] == [0.0, -1.0]
    assert loss["at_common_step"] == {"step": 10, "values": [2.0, 1.5], "difference": [0.0, -0.5]}
    assert next(m for m in found["metrics"] if m["name"] == "only")["difference"] == [0.0, None]
    text = render.markdown(comparison_blocks(found))
    assert text.index("What differs") < text.index("Metrics")
    assert "1.5 (-0.5)" in text
    assert render.html("c", comparison_blocks(found, overlaid([one, two], series)))


def test_comparing_equal_runs_or_none_is_said():
    assert "Nothing: the configurations are the same" in render.markdown(
        comparison_blocks(compare([make_run(1), make_run(2)], Series()))
    )
    assert compare([], Series())["config"] == []


def test_a_point_has_no_value_of_a_key_that_it_does_not_name_and_a_metric_never_takes_an_axis_name():
    runs = [
        make_run(1, {"method": "lora", "rank": 2, "rate": 0.1}, 0, {"eval_loss": 1.0, "rate": 5e-8}),
        make_run(2, {"method": "full", "rate": 0.1}, 0, {"eval_loss": 1.0, "rate": 5e-8}),
    ]
    for run in runs:
        run.params.update({"rank": 64})
    text = compose(make_experiment(runs, [], axes=["method", "rank", "rate"]), Series(), plots=False).markdown()
    table = [line for line in text.splitlines() if line.startswith(("| run |", "| 1 |", "| 2 |"))]
    assert table[0].count("rate") == 1
    assert "| full | — | 0.1 |" in table[2]
    assert "| lora | 2 | 0.1 |" in table[1]
    assert "5e-08" not in text


def test_an_interval_in_a_table_ends_where_the_metric_does():
    def shares(point, seed):
        return {"domain_a_exact": 0.9 + 0.09 * (seed == 1), "general_text_loss": 0.1 * (1 + 9 * (seed == 1))}

    view, series = sweep({"rank": [1]}, range(2), shares)
    results = compose(view, series, plots=False).markdown().split("## RESULTS")[1]
    (row,) = [line for line in results.splitlines() if line.startswith("| rank=1 | 2 |")]
    assert re.search(r"0\.945 \\\[\d.*, 1\\\]", row)
    assert re.search(r"0\.55 \\\[0, ", row)


def test_runs_of_one_commit_are_one_line_of_provenance():
    view, series = sweep({"rank": [1, 2]}, range(3), make)
    text = compose(view, series, plots=False).markdown()
    lines = [line for line in text.split("## Provenance")[1].split("## ")[0].splitlines() if line.startswith("|")]
    assert len(lines) == 3, "head, rule and one line"
    assert lines[2].endswith(f"| {spans(view.runs)} |")
    assert spans(view.runs) == "1–6"
    assert spans([*view.runs[:2], *view.runs[3:4]]) == "1–2, 4"


def test_provenance_tells_runs_by_the_type_of_number_that_they_compute_in():
    losses = {"eval_loss": 1.0}
    view, series = sweep({"dtype": ["bfloat16", "float32"]}, range(2), lambda _point, _seed: losses)
    text = compose(view, series, plots=False).markdown().split("## Provenance")[1].split("## ")[0]
    head, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    assert head.endswith("| device | computed in | runs |")
    assert [line.split("|")[4].strip() for line in lines] == ["bfloat16", "float32"]
