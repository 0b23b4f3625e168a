"""Adapters in folders: they open elsewhere, carry what they were trained with, and fit no other model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.kinds import generate
from labqueue.llm.data import chat_templates, tokenize
from labqueue.llm.data.generated import tasks
from labqueue.llm.models import adapter_folder, catalogue, load, pins, tiny
from tests.helpers_recorder import MemoryRecorder
from tests.llm.conftest import RECIPE, Bench
from tests.llm.test_adapters import logits

Build = Callable[..., Bench]

FAST = dataclasses.replace(RECIPE, learning_rate=0.05)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The tiny model in a folder."""
    return Path(shutil.copytree(tiny.folder(), tmp_path / "models" / "base"))


def trained(bench: Build, base: Path, folder: Path, **changes: Any) -> Bench:
    made = bench(FAST, model=str(base), **changes)
    made.trainer.train()
    adapter_folder.save(made.adapted, folder, made.loaded)
    return made


def rewritten(folder: Path, name: Callable[[str], str]) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    save_file({name(each): value for each, value in load_file(file).items()}, file, metadata={"format": "pt"})


def test_peft_opens_an_adapter_elsewhere_where_its_base_is_found_by_name(
    bench: Build, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM

    made = trained(bench, base, tmp_path / "adapter", lora={"scaling": "rslora", "targets": ("q_proj", "up_proj")})
    away = tmp_path / "away"
    shutil.move(tmp_path / "adapter", away / "adapter")
    shutil.move(base, away / "base")
    monkeypatch.chdir(away)
    opened = AutoPeftModelForCausalLM.from_pretrained("adapter", dtype=torch.float32)
    assert torch.equal(logits(opened, made.rows[0]), logits(made.adapted, made.rows[0]))


def test_a_hub_models_adapter_names_repository_and_commit(bench: Build, tmp_path: Path) -> None:
    made = bench()
    commit = "a" * 40
    from_hub = dataclasses.replace(made.loaded, name="qwen2.5-0.5b-instruct", pin=f"commit:{commit}")
    adapter_folder.save(made.adapted, tmp_path, from_hub)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("unsloth/Qwen2.5-0.5B-Instruct", commit)
    assert adapter_folder.about(tmp_path)["base"]["pin"] == f"commit:{commit}"


def test_base_quantization_template_and_end_travel_with_an_adapter(bench: Build, base: Path, tmp_path: Path) -> None:
    made = bench(model=str(base), quantization="4bit")
    made.loaded.tokenizer.eos_token = "<|endoftext|>"
    chat_templates.apply(made.loaded.tokenizer, "chatml")
    adapter_folder.save(made.adapted, tmp_path / "adapter", made.loaded, "chatml")
    said = adapter_folder.about(tmp_path / "adapter")
    assert said["base"]["name"] == "base"
    assert said["base"]["pin"] == pins.of(str(base))
    assert (said["quantization"], said["template"], said["eos_token"]) == ("4bit", "chatml", "<|im_end|>")
    again = adapter_folder.with_tokenizer(made.loaded, tmp_path / "adapter").tokenizer
    turns = [{"role": "user", "content": "a"}]
    mine = made.loaded.tokenizer
    assert again.chat_template == mine.chat_template == chat_templates.CHATML.jinja
    assert (again.eos_token_id, again.pad_token_id) == (mine.eos_token_id, mine.pad_token_id)
    asked = {"tokenize": False, "add_generation_prompt": True}
    assert again.apply_chat_template(turns, **asked) == mine.apply_chat_template(turns, **asked)
    settings = json.loads((tmp_path / "adapter" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == mine.eos_token_id == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (lambda name: name.replace("base_model.model.", ""), "not in the model"),
        (lambda name: name.replace(".weight", ".default.weight"), "not in the model"),
        (lambda name: name.replace("layers.1", "layers.7"), r"layers\.7.* \(not in the model\)"),
        (lambda name: name.replace("lora_", "delta_"), "holds no LoRA"),
    ],
)
def test_an_adapter_whose_tensors_have_other_names_is_refused_at_submission_and_as_it_is_loaded(
    bench: Build, base: Path, tmp_path: Path, name: Callable[[str], str], reason: str
) -> None:
    made = trained(bench, base, tmp_path / "adapter")
    rewritten(tmp_path / "adapter", name)
    with pytest.raises(LabError, match=reason):
        adapter_folder.check(tmp_path / "adapter", str(base))
    fresh = load.load_model(str(base), quantization="none", dtype="float32")
    with pytest.raises(LabError, match=r"does not fit .*(missing|not in the model)"):
        adapter_folder.load(fresh, tmp_path / "adapter")
    assert made.loaded.folder == base


def test_an_adapter_that_lacks_a_layer_is_refused_as_it_is_loaded(bench: Build, base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    trained(bench, base, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if "layers.1" not in name}, file)
    fresh = load.load_model(str(base), quantization="none", dtype="float32")
    with pytest.raises(LabError, match=r"layers\.1.* \(missing\)"):
        adapter_folder.load(fresh, tmp_path / "adapter")


def test_an_adapter_of_another_base_of_the_same_shape_is_refused(bench: Build, base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    trained(bench, base, tmp_path / "adapter")
    other = Path(shutil.copytree(base, tmp_path / "other"))
    (other / "generation_config.json").write_text("{}")
    adapter_folder.check(tmp_path / "adapter", str(other))  # the same weights in another folder
    adapter_folder.load(load.load_model(str(other), quantization="none", dtype="float32"), tmp_path / "adapter")
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    reason = r"was trained on other weights than those of .*other: on 'base' \(SHA-256"
    with pytest.raises(LabError, match=reason):
        adapter_folder.check(tmp_path / "adapter", str(other))
    loaded = load.load_model(str(other), quantization="none", dtype="float32")
    with pytest.raises(LabError, match=reason):
        adapter_folder.load(loaded, tmp_path / "adapter")


def test_an_adapter_without_safetensors_is_none(bench: Build, base: Path, tmp_path: Path) -> None:
    trained(bench, base, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(LabError, match=r"holds no adapter: it has no adapter_model\.safetensors"):
        adapter_folder.check(tmp_path / "adapter", str(base))


def test_an_adapter_is_asked_with_the_template_it_was_trained_with_unless_another_is_named(
    bench: Build, base: Path, tmp_path: Path
) -> None:
    made = bench(model=str(base))
    chat_templates.apply(made.loaded.tokenizer, "alpaca")
    adapter_folder.save(made.adapted, tmp_path / "adapter", made.loaded, "alpaca")
    row = tasks.Row("1 + 1", "2", 0)

    def asked(rec: MemoryRecorder, **changes: Any) -> list[int]:
        plain = {"model": str(base), "adapter": str(tmp_path / "adapter"), "quantization": "none", "questions": ["a"]}
        params = generate.Params.model_validate(plain | changes)
        loaded = load.load_model(str(base), quantization=params.quantization)
        chat_templates.apply(loaded.tokenizer, params.template)
        return tokenize.prompt_ids(generate._as_trained(params, loaded, tmp_path / "adapter", rec).tokenizer, row)

    rec = MemoryRecorder(tmp_path / "asked")
    as_trained = tokenize.prompt_ids(made.loaded.tokenizer, row)
    assert asked(rec) == asked(rec, template="alpaca") == as_trained
    assert asked(rec, template="chatml") != as_trained
    assert rec.notes == []
    asked(rec, quantization="4bit")
    assert rec.notes == ["the adapter was trained on a base with quantization none, not as loaded here"]


def test_asking_a_model_in_4_bit_for_16_or_with_a_strange_adapter_is_refused_at_submission(
    bench: Build, base: Path, tmp_path: Path
) -> None:
    trained(bench, base, tmp_path / "adapter")
    plain = {"model": str(base), "adapter": str(tmp_path / "adapter"), "questions": ["a"]}
    generate.check(generate.Params.model_validate(plain), "cpu")
    rewritten(tmp_path / "adapter", lambda name: name.replace("layers.1", "layers.7"))
    with pytest.raises(LabError, match="does not fit"):
        generate.check(generate.Params.model_validate(plain), "cpu")
    assert catalogue.available(str(base))
