"""The longest row, asked without loading anything, against the rows as they are really encoded."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from labqueue.llm.data import lengths, tokenize
from labqueue.llm.data.generated import tasks
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.models import tiny

TASKS = {
    "chain_sum": {"min_terms": 2, "max_terms": 5, "min_digits": 1, "max_digits": 4},
    "word_sequence_reversal": {"min_words": 3, "max_words": 8},
    "spell_backward": {},
}


@pytest.mark.parametrize("task", TASKS)
def test_no_row_is_longer_than_is_said_and_little_is_wasted(task: str) -> None:
    rows = tasks.generated(task, train_items=400, held_out_items=1, options=TASKS[task]).train
    real = max(len(row["input_ids"]) for row in tokenize.encode(tiny.tokenizer(), rows, 4096).rows)
    said = lengths.SPARE * lengths.longest("random-tiny", rows[: lengths.SAMPLED])
    assert real <= said <= 2 * real


@pytest.mark.model
@pytest.mark.parametrize("task", TASKS)
def test_with_the_models_own_tokenizer_too(task: str) -> None:
    from transformers import AutoTokenizer

    from labqueue.llm.models import catalogue, gguf

    tokenizer = AutoTokenizer.from_pretrained(gguf.converted(catalogue.SMOLLM2))
    rows = tasks.generated(task, train_items=400, held_out_items=1, options=TASKS[task]).train
    real = max(len(row["input_ids"]) for row in tokenize.encode(tokenizer, rows, 4096).rows)
    assert lengths.longest("smollm2-135m-instruct", rows) == real
    assert real <= lengths.SPARE * lengths.longest("smollm2-135m-instruct", rows[: lengths.SAMPLED])


@pytest.mark.model
@pytest.mark.parametrize("template", ["chatml", "alpaca"])
def test_with_another_template_too(template: str) -> None:
    from transformers import AutoTokenizer

    from labqueue.llm.data import chat_templates
    from labqueue.llm.models import catalogue, gguf

    tokenizer = AutoTokenizer.from_pretrained(gguf.converted(catalogue.SMOLLM2))
    chat_templates.apply(tokenizer, template)
    rows = tasks.generated("spell_backward", train_items=50, held_out_items=1).train
    real = max(len(row["input_ids"]) for row in tokenize.encode(tokenizer, rows, 4096).rows)
    assert lengths.longest("smollm2-135m-instruct", rows, template) == pytest.approx(real, abs=2)


def test_every_turn_of_a_conversation_counts() -> None:
    turns = tuple((role, "word " * 20) for role in ("user", "assistant") * 4)
    row = Row("word " * 80, "word " * 20, 0, turns)
    real = len(tokenize.encode(tiny.tokenizer(), [row], 4096).rows[0]["input_ids"])
    assert real <= lengths.longest("random-tiny", [row]) + 8 * lengths.TURN_TOKENS


def test_asking_imports_no_torch_and_no_transformers() -> None:
    code = (
        "import sys\nfrom labqueue.llm.data import lengths\nfrom labqueue.llm.data.generated.tasks import Row\n"
        "lengths.longest('smollm2-135m-instruct', [Row('a', 'b', 0)])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_row_is_as_long_as_the_batches_that_many_draws_show(batch: int) -> None:
    sizes = [number**2 for number in range(1, 20)]
    rows = [Row("1" * size, "2", size) for size in sizes]
    draw = random.Random(0)
    drawn = [max(draw.choices(sizes, k=batch)) for _ in range(20_000)]
    around = lengths.TYPICAL_TEMPLATE["none"] + 1
    said = lengths.padded("no-such-model", rows, "none", batch=batch)
    assert said == pytest.approx(sum(drawn) / len(drawn) + around, rel=0.02)
    assert lengths.padded("no-such-model", rows, "none", batch=batch, most=7) <= 7
    assert lengths.padded("no-such-model", [], "none") == 0.0


@pytest.mark.model
@pytest.mark.parametrize("task", TASKS)
def test_where_the_tokenizer_is_not_here_yet_rows_are_guessed_about_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    from labqueue.llm.models import catalogue, gguf

    gguf.converted(catalogue.SMOLLM2)
    rows = tasks.generated(task, train_items=200, held_out_items=1, options=TASKS[task]).train
    templates = ("auto", "chatml", "alpaca", "none")
    real = [lengths.padded("smollm2-135m-instruct", rows, template, batch=3) for template in templates]
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path))
    assert lengths.opened("smollm2-135m-instruct", "auto") is None
    guessed = [lengths.padded("smollm2-135m-instruct", rows, template, batch=3) for template in templates]
    assert guessed == pytest.approx(real, rel=0.3)
