"""What cannot fit is refused with what would; what was measured corrects what is predicted."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from labqueue import kinds
from labqueue.domain.canonical import canonical
from labqueue.store.queries import measured_memory
from labqueue.submission import memory_check
from labqueue.submission.memory_check import Capacity, History
from tests import own_kinds
from tests.commands import call, refused, rows
from tests.conftest import Lab

DATA = {"task": "chain_sum", "options": {"min_terms": 400, "max_terms": 400}, "train_items": 64}
"""Rows of more than max_length tokens, so that it is max_length that counts."""
PARAMS: dict[str, Any] = {
    "model": "random-tiny",
    "backend": "hf",
    "data": DATA,
    "steps": 5,
    "evaluations": 0,
    "max_length": 1024,
    "batch": 8,
}


def params(**changed: Any) -> Any:
    return kinds.get("finetune").params.model_validate_json(canonical({**PARAMS, **changed}))


def formula(**changed: Any) -> dict[str, float]:
    found = kinds.get("finetune").estimate(params(**changed), "cuda")
    assert found is not None
    return found


def total(**changed: Any) -> float:
    return math.fsum(formula(**changed).values())


def history(*peaks: tuple[float, dict[str, Any]]) -> History:
    """As if runs with those changes had reserved that many times what the formula says."""
    past = []
    for number, (ratio, changed) in enumerate(peaks):
        plain = params(**changed).model_dump(mode="json")
        past.append(measured_memory.Measured(number, plain, ratio * total(**changed)))
    return History(kinds.get("finetune"), past)


def spec(lab: Lab, limit: float | str, **fields: Any) -> Path:
    return lab.spec("tuning", **{"kind": "finetune", "params": PARAMS, "limits": {"memory_gib": limit}, **fields})


def test_a_run_that_cannot_fit_is_refused_with_its_items_and_the_nearest_setting_that_fits(lab: Lab) -> None:
    limit = (total(batch=2, accumulation=4) + total(batch=4, accumulation=2)) / 2
    answer = call(lab, "submit", spec(lab, limit), "--profile", "gpu", "--json")
    error = refused(answer)
    assert rows(lab) == {}, "nothing is recorded"
    assert f"needs {total():.1f} GiB" in error["message"]
    assert "activations" in error["message"]
    assert "limits.memory_gib" in error["message"]
    assert "The nearest setting that fits is batch: 2, accumulation: 4 " in error["message"]
    assert (Path(error["file"]).name, error["key"]) == ("tuning.yaml", "params")
    # What it names is taken.
    words = ("--profile", "gpu", "--dry-run", "--json", "--set", "batch=2", "--set", "accumulation=4")
    assert call(lab, "submit", spec(lab, limit), *words).json["runs"][0]["fits"] is True


def test_beyond_single_rows_a_shorter_sequence_is_named_and_fits(lab: Lab) -> None:
    single = {"batch": 1, "accumulation": 8}
    limit = 0.4 * total(**single) + 0.6 * total(**single, max_length=512)
    error = refused(call(lab, "submit", spec(lab, limit), "--profile", "gpu", "--json"))
    named = re.search(r"batch: 1, accumulation: 8, max_length: (\d+) ", error["message"])
    assert named is not None, error["message"]
    assert total(**single, max_length=int(named[1])) <= limit < total(**single)


def test_where_nothing_near_fits_a_smaller_model_is_named(lab: Lab) -> None:
    error = refused(call(lab, "submit", spec(lab, 0.001), "--profile", "gpu", "--json"))
    assert "take a smaller model" in error["message"]


def test_a_sweep_says_how_many_of_its_runs_do_not_fit(lab: Lab) -> None:
    grid = {"grid": {"max_length": [64, 512, 1024]}}
    limit = (total(max_length=64) + total(max_length=512)) / 2
    path = spec(lab, limit, sweep=grid)
    error = refused(call(lab, "submit", path, "--profile", "gpu", "--json"))
    assert "2 of 3 runs do not fit; the largest (max_length=1024)" in error["message"]
    found = call(lab, "submit", path, "--profile", "gpu", "--dry-run", "--json").json["runs"]
    assert [run["fits"] for run in found] == [True, False, False]
    shown = call(lab, "submit", path, "--profile", "gpu", "--dry-run").out
    assert shown.count("does not fit") == 2
    assert rows(lab) == {}


def test_a_cpu_is_never_asked_whether_it_fits_a_card(lab: Lab) -> None:
    answer = call(lab, "submit", spec(lab, 0.001), "--profile", "cpu", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["runs"] == [1]


@pytest.mark.skipif(bool(memory_check.gpus()), reason="asks what happens on a machine without a card")
def test_with_neither_card_nor_limit_there_is_nothing_to_compare_with(lab: Lab) -> None:
    found = call(lab, "submit", spec(lab, "auto"), "--profile", "gpu", "--dry-run", "--json").json["runs"][0]
    assert found["fits"] is None
    assert found["estimated_memory_gib"] == pytest.approx(total())


def test_a_verdict_fits_exactly_when_total_and_context_are_within_what_both_may_have() -> None:
    items = formula()
    size = math.fsum(items.values())
    assert memory_check.MemoryCheck(items, size, Capacity(size, "")).fits is True
    assert memory_check.MemoryCheck(items, size, Capacity(size * 0.999, "")).fits is False
    assert memory_check.MemoryCheck(None, None, Capacity(1.0, "")).fits is None
    assert memory_check.MemoryCheck(items, size, None).fits is None


def test_without_measured_runs_the_formula_stands_alone() -> None:
    assert history().corrected(params(), formula()) == formula()


def test_a_run_of_the_same_shape_gives_its_measured_peak() -> None:
    past = history((0.93, {}), (1.4, {"max_length": 512}))
    found = past.corrected(params(learning_rate=1e-3), formula())
    assert math.fsum(found.values()) == pytest.approx(0.93 * total())
    assert found["calibration_from_1_run"] < 0
    assert {name: found[name] for name in formula()} == formula(), "the formula's own items stand as they were"


def test_of_runs_of_the_same_shape_the_highest_of_the_newest_three_counts() -> None:
    peaks = (0.2, 0.93, 0.9, 1.2)  # newest first: one that knew only its last step, and one of an older library
    found = history(*((ratio, {}) for ratio in peaks)).corrected(params(), formula())
    assert math.fsum(found.values()) == pytest.approx(0.93 * total())


def test_the_median_ratio_of_three_alike_is_believed_and_two_are_not() -> None:
    shapes = [{"max_length": length} for length in (256, 512, 768)]
    ratios = (0.9, 0.7, 0.8)
    two = history(*zip(ratios[:2], shapes[:2], strict=True))
    three = history(*zip(ratios, shapes, strict=True))
    assert two.corrected(params(), formula()) == formula()
    found = three.corrected(params(), formula())
    assert math.fsum(found.values()) == pytest.approx(0.8 * total())
    assert list(found)[-1] == "calibration_from_3_runs"


def test_other_data_can_only_raise_an_estimate_and_other_models_say_nothing() -> None:
    other = {"task": "gcd", "train_items": 64}
    lengths = (256, 512, 768)
    low = history(*((0.6, {"data": other, "max_length": length}) for length in lengths))
    assert low.corrected(params(), formula()) == formula(), "its rows may be shorter than these"
    high = history(*((1.1, {"data": other, "max_length": length}) for length in lengths))
    assert math.fsum(high.corrected(params(), formula()).values()) == pytest.approx(1.1 * total())
    strangers = history(*((1.1, {"model": "smollm2-135m-instruct", "max_length": length}) for length in lengths))
    assert strangers.corrected(params(), formula()) == formula()


def test_a_wild_ratio_is_bounded() -> None:
    lengths = (256, 512, 768)
    wild = history(*((9.0, {"max_length": length}) for length in lengths))
    assert math.fsum(wild.corrected(params(), formula()).values()) == pytest.approx(memory_check.HIGHEST * total())


def test_a_measured_run_in_the_results_store_corrects_the_next_submission(lab: Lab) -> None:
    path = spec(lab, 14.5)
    assert call(lab, "submit", path, "--profile", "gpu", "--json").json["runs"] == [1]
    peak = 1.07 * total()
    with lab.db.write() as connection:
        connection.execute(
            text(
                "UPDATE runs SET state = 'finished', outcome = 'succeeded', attempt = 1, started_at = 1,"
                " finished_at = 2, peak_memory_gib = :peak WHERE id = 1"
            ),
            {"peak": peak},
        )
    found = call(lab, "estimate", path, "--profile", "gpu", "--json").json["runs"][0]
    assert found["total_gib"] == pytest.approx(peak)
    assert found["formula_gib"] == pytest.approx(total())
    assert found["items_gib"]["calibration_from_1_run"] == pytest.approx(0.07 * total())
    again = call(lab, "submit", path, "--profile", "gpu", "--set", "learning_rate=0.001", "--json").json
    report = call(lab, "show", again["runs"][0], "--json").json
    assert report["estimated_memory_gib"] == pytest.approx(peak)


def made_by(lab: Lab, name: str = "first", **changed: Any) -> Path:
    """An experiment whose runs leave a model."""
    return lab.spec(name, kind="finetune", params={**PARAMS, "batch": 1, "merge": True, **changed})


def of_made(lab: Lab, limit: float | str = "auto", name: str = "tuning", of: str = "first") -> Path:
    """An experiment that goes on from that model."""
    model = {"from_run": {"experiment": of, "seed": "same", "artifact": "merged"}}
    values = {**PARAMS, "model": model}
    return lab.spec(name, kind="finetune", needs=[of], params=values, limits={"memory_gib": limit})


def estimated(lab: Lab, *words: str | Path) -> list[float | None]:
    found = call(lab, "submit", *words, "--profile", "gpu", "--dry-run", "--json").json
    documents = found.get("experiments", [found])
    return [document["runs"][0]["estimated_memory_gib"] for document in documents]


def test_a_model_that_another_run_makes_has_the_shape_of_the_one_it_is_made_from(lab: Lab) -> None:
    first, second, third = made_by(lab), of_made(lab), of_made(lab, name="third", of="tuning")
    beside = estimated(lab, third, second, first)
    assert beside == [pytest.approx(total()), pytest.approx(total()), pytest.approx(total(batch=1))]
    spec_alone = call(lab, "estimate", third, "--profile", "gpu", "--json").json["runs"][0]
    assert spec_alone["total_gib"] == pytest.approx(total()), "from the specs beside it"
    assert call(lab, "submit", first, "--profile", "gpu", "--json").code == 0
    assert estimated(lab, second) == [pytest.approx(total())], "from the results store"


def test_what_goes_on_from_another_runs_model_is_refused_where_it_cannot_fit(lab: Lab) -> None:
    limit = (total(batch=2, accumulation=4) + total(batch=4, accumulation=2)) / 2
    first, second = made_by(lab), of_made(lab, limit)
    error = refused(call(lab, "submit", second, first, "--profile", "gpu", "--json"))
    assert f"needs {total():.1f} GiB" in error["message"]
    assert "The nearest setting that fits is batch: 2, accumulation: 4 " in error["message"]
    assert (Path(error["file"]).name, error["key"]) == ("tuning.yaml", "params")
    assert rows(lab) == {}, "nothing is recorded"
    answer = call(lab, "submit", second, first, "--profile", "gpu", "--set", "batch=1", "--json")
    assert answer.code == 0, answer.err
    run = call(lab, "show", answer.json["jobs"][0]["runs"][0], "--json").json
    assert run["params"]["model"] == {"from_run": {"experiment": "first", "seed": "same", "artifact": "merged"}}
    assert run["estimated_memory_gib"] == pytest.approx(total(batch=1))


def test_a_rank_that_the_other_runs_model_has_no_room_for_is_refused(lab: Lab) -> None:
    first, second = made_by(lab), of_made(lab)
    words = (second, first, "--profile", "gpu", "--set", "lora.rank=4096", "--json")
    error = refused(call(lab, "submit", *words))
    assert error["key"] == "params.lora.rank"
    assert "4096" in error["message"]


def test_where_the_other_runs_have_different_models_nothing_is_predicted(lab: Lab) -> None:
    second, models = of_made(lab), {"grid": {"model": ["random-tiny", "smollm2-360m-instruct"]}}
    first = lab.spec("first", kind="finetune", params={**PARAMS, "batch": 1, "merge": True}, sweep=models)
    assert estimated(lab, second, first)[0] is None


def test_a_model_of_a_kind_that_names_its_models_otherwise_is_taken_without_a_prediction(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    maker = """
        from labqueue.domain import kind

        class Params(kind.Params):
            'A model made from nothing.'
            model: str

        def run(params, rec):
            pass
    """
    short = maker.replace("model: str", "model: str = __import__('pydantic').Field(max_length=8)")
    site = own_kinds.install(tmp_path_factory.mktemp("site"), {"netmaker": maker, "shortnames": short})
    first = lab.spec("first", kind="netmaker", params={"model": "a net of my own"})
    model = {"from_run": {"experiment": "first", "artifact": "net"}}
    third = lab.spec("third", kind="shortnames", needs=["first"], params={"model": model})
    words = ("--profile", "gpu", "--dry-run", "--json")
    answer = lab.run("submit", str(of_made(lab)), str(first), str(third), *words, **site)
    assert answer.code == 0, answer.err
    assert [document["runs"][0]["estimated_memory_gib"] for document in answer.json["experiments"]] == [None] * 3
