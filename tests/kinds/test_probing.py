"""The kind that looks into the residual stream: what it records is what was found there, with its null beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from labqueue import kinds
from labqueue.domain.artifacts import Curve, Table
from labqueue.domain.errors import LabError
from labqueue.domain.kind import Stopped, UserError
from labqueue.kinds import probing
from labqueue.kinds.probing import labels, stream
from labqueue.llm.interp.probes.probe import Reading
from labqueue.llm.interp.stream_summary import summarise
from labqueue.llm.models import load
from tests.commands import call
from tests.conftest import Lab
from tests.helpers_recorder import MemoryRecorder
from tests.llm.interp.probes.test_labelled import CAPITALS, TAGGED

STREAM = {"of": "residual_stream", "passages": 2, "passage_tokens": 16}
LABELS = {"of": "next_token_class", "documents": 10, "words": 16, "layers": 3, "permutations": 3, "controls": 3}


def looked(where: Path, study: dict[str, Any], seed: int = 0, **more: Any) -> MemoryRecorder:
    rec = MemoryRecorder(where, seed=seed)
    given = {"model": "random-tiny", "dtype": "float32", "study": study, **more}
    probing.run(probing.Params.model_validate(given), rec)
    return rec


def last(rec: MemoryRecorder) -> dict[str, float | None]:
    found = {name: points[0] for name, points in rec.metrics.items()}
    declared = kinds.get("probing").metrics
    assert all(declared.records(name) for name in found)
    assert rec.artifacts.keys() <= kinds.get("probing").artifacts.keys()
    return found


@pytest.mark.parametrize("text", ["prose", "code", "sums", "shuffled"])
def test_a_study_of_the_stream_records_each_layer_beside_its_null(text: str, tmp_path: Path) -> None:
    rec = looked(tmp_path, STREAM | {"text": text})
    found = last(rec)
    for layer in range(3):
        assert {f"norm_layer_{layer}", f"lens_loss_layer_{layer}", f"lens_agrees_layer_{layer}"} <= found.keys()
    assert found["lens_agrees_layer_2"] == 1
    assert found["loss"] == found["lens_loss_layer_2"]
    assert found["lens_null_loss"] == pytest.approx(found["loss"], abs=1.5), "a model that knows nothing"
    assert {"lens_null_agrees", "attn_added_layer_1", "ffn_added_layer_2"} <= found.keys()
    curve, table, parts = rec.artifacts["norms"], rec.artifacts["lens"], rec.artifacts["attributed"]
    assert isinstance(curve, Curve)
    assert curve.series["stream"] == (found["norm_layer_1"], found["norm_layer_2"])
    assert isinstance(table, Table)
    assert len(table.rows) == 16
    assert table.columns == ("token", "layer 0", "layer 1", "layer 2")
    assert isinstance(parts, Table)
    assert [row[0] for row in parts.rows] == ["embedding", "attn 0", "ffn 0", "attn 1", "ffn 1", "bias"]


def test_four_kinds_of_text_are_four_and_drawn_by_the_seed() -> None:
    tokenizer = load.load_model("random-tiny", dtype="float32").tokenizer
    made = {
        (text, seed): stream._texts(probing.params.Residual(text=text, passages=2, passage_tokens=20), tokenizer, seed)
        for text in ("prose", "code", "sums", "shuffled")
        for seed in (0, 1)
    }
    assert len({tuple(texts) for texts in made.values()}) == 8
    for one, other in zip(made["prose", 0], made["shuffled", 0], strict=True):
        assert sorted(one.split()) == sorted(other.split())
        assert one.split() != other.split()
    sums = made["sums", 0][0].splitlines()[0]
    left, _, right = sums.partition(" = ")
    assert sum(map(int, left.split(" + "))) == int(right)


def test_a_layer_counts_as_decided_only_if_all_later_ones_agree() -> None:
    loaded = load.load_model("random-tiny", dtype="float32")
    found = summarise(loaded.model, loaded.tokenizer, ["one two three four"])
    for agrees, wanted in (([0.0, 0.9, 0.4, 0.6, 1.0], 0.75), ([0.0, 0.1, 0.1, 0.1, 1.0], 1.0), ([0.5] * 5, 0.0)):
        object.__setattr__(found, "lens_agrees", agrees)
        assert found.decided_at == wanted


def test_a_probe_of_every_layer_stands_beside_controls_permutations_and_the_untrained_model(tmp_path: Path) -> None:
    rec = looked(tmp_path, LABELS)
    found = last(rec)
    for layer in range(3):
        for name in ("accuracy", "control", "permuted", "selectivity", "selectivity_half_width", "p", "untrained"):
            assert f"{name}_layer_{layer}" in found
        accuracy, control = found[f"accuracy_layer_{layer}"], found[f"control_layer_{layer}"]
        assert accuracy is not None
        assert control is not None
        assert found[f"selectivity_layer_{layer}"] == pytest.approx(accuracy - control)
    best = int(found["best_layer"] or 0)
    assert found["accuracy_best"] == found[f"accuracy_layer_{best}"]
    assert found["gain_over_embedding"] == pytest.approx(
        (found["accuracy_best"] or 0) - (found["accuracy_layer_0"] or 0)
    )
    curve, table = rec.artifacts["by_layer"], rec.artifacts["classes"]
    assert isinstance(curve, Curve)
    assert curve.x == (0.0, 1.0, 2.0)
    assert curve.series.keys() == {"accuracy", "control", "permuted", "untrained"}
    assert isinstance(table, Table)
    assert {row[0] for row in table.rows} >= {"rest of a word", "punctuation"}


def test_statements_and_tagged_words_of_a_file_of_ones_own_are_probed(tmp_path: Path) -> None:
    (tmp_path / "lands.txt").write_text(CAPITALS[0])
    tagged = tmp_path / "tagged.jsonl"
    tagged.write_text("".join(f'{{"text": "{text}"}}\n'.replace(" ./.\n", " ./. ") for text in TAGGED))
    truth = looked(tmp_path, LABELS | {"of": "truth", "corpus": str(tmp_path / "lands.txt"), "untrained": False})
    assert last(truth)["chance"] == pytest.approx(0.5)
    assert "untrained_best" not in truth.metrics
    words = looked(tmp_path, LABELS | {"of": "part_of_speech", "corpus": str(tagged)})
    assert (last(words)["accuracy_best"] or 0) > (last(words)["chance"] or 0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapter far from its base, in attention and FFN."""
    from labqueue.llm.models import adapter_folder

    loaded = load.load_model("random-tiny", dtype="float32")
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(loaded.model, config)  # type: ignore[arg-type]  # a model of transformers
    assert isinstance(adapted, PeftModel)
    folder = tmp_path_factory.mktemp("adapter")
    adapter_folder.save(adapted, folder, loaded)
    return str(folder)


@pytest.mark.parametrize(
    ("study", "form"),
    [
        (STREAM, {"dtype": "bfloat16"}),
        (STREAM, {"quantization": "4bit", "dtype": "bfloat16"}),
        (LABELS, {"quantization": "4bit", "dtype": "bfloat16"}),
    ],
)
def test_a_model_in_any_form_is_looked_into_with_its_adapter_on_and_off(
    study: dict[str, Any], form: dict[str, str], adapter: str, tmp_path: Path
) -> None:
    base = last(looked(tmp_path, study, **form))
    off = last(looked(tmp_path, study, **form, adapter=adapter, adapter_off=True))
    on = looked(tmp_path, study, **form, adapter=adapter)
    assert off == base
    assert last(on) != base
    assert all(value is not None for value in last(on).values())
    if study is STREAM:
        parts = on.artifacts["attributed"]
        assert isinstance(parts, Table)
        # In 4 bit on a CPU the stream is in float32.
        last_but_bias = "ffn 1" if "quantization" in form else "rounding"
        assert [row[0] for row in parts.rows][-2:] == [last_but_bias, "bias"]
    else:
        # Weights as training begins with them know of no adapter.
        untrained = [name for name in base if name.startswith("untrained_layer_")]
        assert untrained
        assert {name: last(on)[name] for name in untrained} == {name: base[name] for name in untrained}


def test_texts_of_one_token_have_no_loss() -> None:
    loaded = load.load_model("random-tiny", dtype="float32")
    with pytest.raises(LabError, match="every text has one token, so that nothing follows"):
        summarise(loaded.model, loaded.tokenizer, ["a", "b"])


def test_half_depth_is_the_probed_layer_nearest_to_it(tmp_path: Path) -> None:
    def reading(accuracy: float, control: float) -> Reading:
        return Reading(accuracy, 0.1, accuracy, control, accuracy - control, 0.1, 0.1, 0.2, 0.5)

    for layers, half in (([0, 10, 20, 30], 10), ([0, 5, 10, 15, 20, 25, 30], 15), ([0, 30], 30)):
        rec = MemoryRecorder(tmp_path)
        labels._record(rec, layers, {each: reading(0.3 + each / 100, 0.3 - each / 200) for each in layers}, None)
        found = last(rec)
        assert found["gain_at_half"] == pytest.approx(half / 100)
        assert found["control_falls"] == pytest.approx(half / 200)


def test_the_same_seed_gives_the_same_numbers_and_another_other_ones(tmp_path: Path) -> None:
    one, again, other = (last(looked(tmp_path, LABELS, seed)) for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_what_cannot_be_probed_is_a_sentence_and_a_stop_is_heard(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="documents are asked for, and the corpus has"):
        looked(tmp_path, LABELS | {"documents": 99_999})
    rec = MemoryRecorder(tmp_path, stop_at=1)
    given = {"model": "random-tiny", "dtype": "float32", "study": STREAM}
    with pytest.raises(Stopped, match="pause"):
        probing.run(probing.Params.model_validate(given), rec)


def test_a_spec_names_its_study_and_an_unknown_one_is_refused(lab: Lab) -> None:
    text = "name: s\nkind: probing\nparams: {{model: random-tiny, study: {{of: {of}}}}}\n"
    answer = call(lab, "submit", lab.text(text.format(of="residual_strem"), "s"), "--profile", "cpu")
    assert answer.code == 2
    assert "residual_strem" in answer.err
    assert "residual_stream" in answer.err
    answer = call(lab, "submit", lab.text(text.format(of="residual_stream"), "s"), "--profile", "cpu", "--dry-run")
    assert answer.code == 0, answer.err
