"""Folders that came quantised: taken as what they are, called what they are, or refused with the cure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.kinds import finetune
from labqueue.kinds.finetune import memory
from labqueue.llm.memory import footprint
from labqueue.llm.models import catalogue, load, shapes, stored_form, tiny
from tests.helpers_recorder import MemoryRecorder
from tests.kinds.test_finetune import params

FORMS: dict[str, dict[str, Any]] = {
    "nf4": {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "single": {"bnb_4bit_quant_type": "nf4"},
    "some": {"bnb_4bit_quant_type": "nf4", "llm_int8_skip_modules": ["lm_head", "layers.1.mlp.up_proj", "k_proj"]},
    "fp4": {},
    "unrounded": {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
}


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the tiny model, quantised by transformers and bitsandbytes."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    root = tmp_path_factory.mktemp("quantised")
    for name, settings in FORMS.items():
        # The tiny model is made in float32, from which the lab quantises it.
        dtype = torch.float32 if name == "unrounded" else torch.bfloat16
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float16, **settings)
        model = AutoModelForCausalLM.from_pretrained(
            tiny.folder(), quantization_config=config, dtype=dtype, device_map={"": "cpu"}
        )
        model.save_pretrained(root / name)
        tiny.tokenizer().save_pretrained(root / name)
    return root


def test_a_folder_in_nf4_is_the_model_that_the_lab_quantises_itself_and_is_called_what_it_is(quantised: Path) -> None:
    import bitsandbytes
    import torch

    loaded = load.load_model(str(quantised / "unrounded"), quantization="4bit", dtype="bfloat16")
    own = load.load_model("random-tiny", quantization="4bit", dtype="bfloat16")
    assert (loaded.quantization, loaded.weights) == ("4bit", f"{quantised / 'unrounded'}, NF4 as stored")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, own.model(input_ids=ids).logits)
    layers = [each for each in loaded.model.modules() if isinstance(each, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 14
    assert {layer.compute_dtype for layer in layers} == {torch.bfloat16}, "not what its config says"
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


@pytest.mark.parametrize(
    ("form", "label"),
    [
        ("single", "NF4 without double quantisation as stored"),
        ("some", "NF4 without double quantisation as stored (3 of 14 linear layers in 16 bit)"),
    ],
)
def test_what_of_a_folder_is_in_4_bit_and_how_is_said(quantised: Path, form: str, label: str) -> None:
    loaded = load.load_model(str(quantised / form), quantization="4bit", dtype="float32")
    assert loaded.weights == f"{quantised / form}, {label}"


@pytest.mark.parametrize("form", ["nf4", "single", "some"])
def test_the_memory_of_a_quantised_folders_weights_is_that_of_its_own_tensors(quantised: Path, form: str) -> None:
    from safetensors.torch import load_file

    weights = load_file(quantised / form / "model.safetensors")
    tables = (".absmax", "quant_map", ".nested_absmax", "bitsandbytes__nf4")
    held = sum(each.nbytes for name, each in weights.items() if "embed" not in name and not name.endswith(tables))
    scales = sum(each.nbytes for name, each in weights.items() if name.endswith(".absmax"))
    plan = memory.plan(params(model=str(quantised / form), quantization="4bit", backend="hf"))
    items = footprint.held(shapes.shape_of(str(quantised / form)), plan)
    assert items["weights"] == held
    code_tables = 14 * 3072
    spare = scales / 256 * 4 if form == "nf4" else 0.0  # an fp32 a block of 256 scales
    assert items["quantization_state"] - code_tables == pytest.approx(scales + spare)


@pytest.mark.parametrize("changes", [{"quantization": "none"}, {"quantization": "none", "method": "full"}])
def test_a_model_in_4_bit_is_refused_where_16_are_asked_for(quantised: Path, changes: dict[str, Any]) -> None:
    asked = params(model=str(quantised / "nf4"), samples=0, scored=0, **changes)
    with pytest.raises(LabError, match=r"is already quantised in NF4, so it cannot be loaded.*set quantization: 4bit"):
        finetune.check(asked, "cpu")
    with pytest.raises(LabError, match="is already quantised in NF4"):
        load.load_model(str(quantised / "nf4"), quantization="none")


def test_a_form_that_a_backend_would_misread_is_refused(quantised: Path) -> None:
    form = catalogue.form(str(quantised / "single"))
    with pytest.raises(LabError, match="without double quantisation, which backend unsloth does not read: set backend"):
        stored_form.check_use(form, "single", quantization="4bit", backend="unsloth")
    stored_form.check_use(form, "single", quantization="4bit", backend="hf")
    stored_form.check_use(catalogue.form(str(quantised / "nf4")), "nf4", quantization="4bit", backend="unsloth")


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes in 8 bit"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes fp4"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "bitsandbytes fp4"),
        ({"bits": 2}, "an unknown form"),
    ],
)
def test_weights_quantised_in_another_form_are_refused_by_its_name_before_they_are_fetched(
    tmp_path: Path, said: dict[str, Any], named: str
) -> None:
    config = json.loads((tiny.folder() / "config.json").read_text()) | {"quantization_config": said}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LabError, match=rf"is already quantised \({named}\), .*Give the folder of its 16-bit weights"):
        catalogue.find(str(tmp_path))


def test_a_config_that_says_another_form_than_the_weights_have_is_refused(quantised: Path, tmp_path: Path) -> None:
    plain, four = tmp_path / "plain", tmp_path / "four"
    shutil.copytree(tiny.folder(), plain)
    shutil.copytree(quantised / "nf4", four)
    here, there = (json.loads((folder / "config.json").read_text()) for folder in (plain, four))
    (plain / "config.json").write_text(json.dumps(here | {"quantization_config": there.pop("quantization_config")}))
    (four / "config.json").write_text(json.dumps(there))
    with pytest.raises(LabError, match="says that its weights are NF4, but they are F32"):
        catalogue.available(str(plain))
    with pytest.raises(LabError, match="says that its weights are not quantised, but they are nf4"):
        catalogue.available(str(four))
    shutil.copy(quantised / "fp4" / "model.safetensors", four)
    shutil.copy(quantised / "nf4" / "config.json", four)
    with pytest.raises(LabError, match="says that its weights are NF4, but they are fp4"):
        catalogue.available(str(four))


def test_a_run_on_a_quantised_folder_says_so_and_its_merged_model_is_plain(quantised: Path, tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path)
    finetune.run(
        params(
            model=str(quantised / "nf4"), quantization="4bit", merge=True, samples=0, scored=0, evaluations=0, steps=2
        ),
        rec,
    )
    assert any("NF4 as stored" in note for note in rec.notes)
    merged = rec.artifacts["merged"].path  # type: ignore[union-attr]  # files
    assert catalogue.form(str(merged)) is None
    assert catalogue.available(str(merged))
