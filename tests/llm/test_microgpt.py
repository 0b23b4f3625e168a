"""The reading page's GPT: its gradients are PyTorch's, it learns, and its page's code runs as it stands there."""

from __future__ import annotations

import ast
import contextlib
import io
import math
import random
import re
import sys
from pathlib import Path

import pytest

from labqueue.llm import microgpt
from labqueue.llm.microgpt import MicroGPT, Number
from tests.commands import REPOSITORY

SOURCE = Path(microgpt.__file__)
PAGE = (REPOSITORY / "docs" / "microgpt.md").read_text(encoding="utf-8")
TOKENS = [0, 3, 1, 4, 1, 2, 0, 4, 3]


def test_it_is_plain_python_of_at_most_200_lines() -> None:
    text = SOURCE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert imported == {"__future__", "collections", "math", "random"}


@pytest.mark.parametrize("point", [0.3, 1.7])
def test_the_slope_of_each_operation_is_that_of_a_small_step(point: float) -> None:
    functions = [
        lambda x: x + x * 2.0 + 1.0,
        lambda x: x * x * x,
        lambda x: x.power(-0.5),
        lambda x: x.exp().log() * x.exp(),
        lambda x: (x + -1.0).relu() * x,
        lambda x: microgpt.total(microgpt.norm([x, x * x, x + -2.0])),
        lambda x: microgpt.softmax([x, x * x, x * -1.0])[1],
        lambda x: microgpt.dot([x, x], [x, x + 1.0]),
    ]
    for number, function in enumerate(functions):
        x = Number(point)
        function(x).backward()
        h = 1e-6
        expected = (function(Number(point + h)).value - function(Number(point - h)).value) / (2 * h)
        assert x.gradient == pytest.approx(expected, rel=1e-6, abs=1e-8), number


def test_loss_and_every_gradient_are_those_of_pytorch() -> None:
    import torch
    from torch.nn import functional

    model = MicroGPT(vocabulary=5, width=8, heads=2, context=8, seed=3)
    mine = model.loss(TOKENS)
    mine.backward()
    weights = {
        name: torch.tensor([[number.value for number in row] for row in matrix], dtype=torch.float64).requires_grad_()
        for name, matrix in model.weights.items()
    }
    inputs, wanted = torch.tensor(TOKENS[:-1]), torch.tensor(TOKENS[1:])

    def norm(x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (8,), eps=1e-5)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(8, 2, 4).transpose(0, 1)  # [head, position, size]

    stream = weights["token"][inputs] + weights["position"]
    query, key, value = (heads(norm(stream) @ weights[name].T) for name in ("query", "key", "value"))
    looked = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    stream = stream + looked.transpose(0, 1).reshape(8, 8) @ weights["mix"].T
    stream = stream + functional.relu(norm(stream) @ weights["widen"].T) @ weights["narrow"].T
    theirs = functional.cross_entropy(norm(stream) @ weights["head"].T, wanted)
    theirs.backward()
    assert mine.value == pytest.approx(theirs.item(), rel=1e-12)
    for name, matrix in model.weights.items():
        found = torch.tensor([[number.gradient for number in row] for row in matrix], dtype=torch.float64)
        assert torch.allclose(found, weights[name].grad, rtol=1e-9, atol=1e-13), name
        assert float(found.abs().max()) > 0, name


def test_no_position_sees_what_follows_it() -> None:
    model = MicroGPT(vocabulary=5, width=8, heads=2, context=8)
    first, second = (model.scores([0, 1, 2, last]) for last in (3, 4))
    for at in range(3):
        assert [number.value for number in first[at]] == [number.value for number in second[at]]
    assert [number.value for number in first[3]] != [number.value for number in second[3]]


def test_training_lowers_the_loss_from_that_of_a_guess() -> None:
    draw = random.Random(0)
    tokens = [draw.choice((0, 1)) * 2 + at % 2 for at in range(200)]  # each token tells the parity of the next
    model = MicroGPT(vocabulary=4, width=8, heads=2, context=4)
    losses = microgpt.train(model, tokens, steps=60)
    assert losses[0] == pytest.approx(math.log(4), abs=0.3)
    assert sum(losses[-10:]) / 10 == pytest.approx(math.log(2), abs=0.15), "what cannot be known stays"
    again = MicroGPT(vocabulary=4, width=8, heads=2, context=4)
    assert microgpt.train(again, tokens, steps=60) == losses
    written = microgpt.write(model, [0, 1], 30)
    assert written[:2] == [0, 1]
    assert sum(token % 2 == at % 2 for at, token in enumerate(written)) >= 25, "by chance 17"
    assert written == microgpt.write(model, [0, 1], 30)


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHOWN = re.compile(r"```text\n(.*?)```", re.DOTALL)


def test_the_page_quotes_the_module_and_its_programs_run() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    quoted = [block for block in BLOCKS if block.strip() in source]
    programs = [block for block in BLOCKS if block.strip() not in source]
    assert len(quoted) >= 5
    assert len(programs) >= 3
    world: dict[str, object] = {}
    for program in programs:
        # A page's steps are for a reader with a minute; three, and five letters, show here that the code is right.
        short = re.sub(r"steps=\d+", "steps=3", program).replace("count: int = 60", "count: int = 5")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(short, "docs/microgpt.md", "exec"), world)  # our own page
        assert out.getvalue(), program
    assert "torch" not in {name for name in sys.modules if name in world}


def test_every_part_of_the_module_is_named_on_its_page() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {name for name in names if f"`{name}" not in PAGE} == set()
