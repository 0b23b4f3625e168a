"""The longest row, asked without loading anything, against the rows as they are really encoded."""

from __future__ import annotations

import subprocess
import sys

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
