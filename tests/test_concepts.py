"""The concept documents have their sections, name only what exists, and compute what is computed again here."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from typing import get_args

import numpy
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from labqueue import kinds
from labqueue.cli.main import COMMANDS
from labqueue.kinds.finetune import loss_curve
from tests.commands import REPOSITORY

FOLDER = REPOSITORY / "docs" / "concepts"
PROBING = ("residual_stream", "probing")
NAMES = ("qlora", "lora_rank", "loss_curves", "learning_rate", "forgetting", "pretraining", "attention", *PROBING)
KIND = dict.fromkeys(NAMES, "finetune") | {"pretraining": "pretrain", "attention": "attention"}
KIND |= dict.fromkeys(PROBING, "probing")
SECTIONS = [
    "What it is",
    "How the lab does it",
    "What the literature claims",
    "What the lab's own runs showed",
    "What would change our mind",
    "Self-assessment",
]
TEXT = {name: (FOLDER / f"{name}.md").read_text(encoding="utf-8") for name in NAMES}
BLOCK = re.compile(r"```(?:\w*)\n(.*?)```", re.DOTALL)

each_document = pytest.mark.parametrize("name", NAMES)


def section(name: str, title: str) -> str:
    return re.split(r"^## .*\n", TEXT[name], flags=re.MULTILINE)[SECTIONS.index(title) + 1]


def flat(name: str) -> str:
    """The document with every run of white space as one space: a number may stand on either side of a line's end."""
    return " ".join(TEXT[name].split())


def says(name: str, *values: str) -> None:
    missing = [value for value in values if value not in flat(name)]
    assert missing == [], name


# What they are made of


def test_the_index_links_every_document_and_there_is_no_other() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted([*NAMES, "README"])
    assert {f"{name}.md" for name in NAMES} <= set(re.findall(r"\]\(([^)]+)\)", index))


@each_document
def test_the_sections_stand_in_their_order(name: str) -> None:
    assert re.findall(r"^## (.*)$", TEXT[name], re.MULTILINE) == SECTIONS
    assert TEXT[name].startswith("# ")


@each_document
def test_what_it_is_fits_a_page_and_states_shapes(name: str) -> None:
    text = section(name, "What it is")
    assert len(text.splitlines()) <= 80
    assert any("∈ R^" in block or "∈ {" in block for block in BLOCK.findall(text))


@each_document
def test_the_lab_s_results_are_marked_once_or_name_their_runs(name: str) -> None:
    results = section(name, "What the lab's own runs showed")
    assert "<!-- results -->" not in TEXT[name].replace(results, "")
    if "<!-- results -->" in results:
        assert results.strip() == "<!-- results -->\nNone yet: no run of this experiment has been recorded."
    else:
        assert re.search(r"\bruns? \d+", results), "figures come with the ids of their runs"


@each_document
def test_every_question_has_a_hidden_answer(name: str) -> None:
    text = section(name, "Self-assessment")
    numbers = [int(number) for number in re.findall(r"^\*\*(\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert 8 <= len(numbers) <= 10
    questions = re.split(r"^\*\*\d+\. ", text, flags=re.MULTILINE)[1:]
    for question in questions:
        asked, found, hidden = question.partition("<details><summary>Answer</summary>\n\n")
        assert asked.strip()
        assert found, "the summary and an empty line, else Markdown inside is not rendered"
        answer, found, rest = hidden.partition("\n\n</details>")
        assert answer.strip()
        assert found
        assert not rest.strip()


@each_document
def test_every_list_item_of_the_literature_names_its_source(name: str) -> None:
    items = re.split(r"^- ", section(name, "What the literature claims"), flags=re.MULTILINE)[1:]
    assert len(items) >= 5
    for item in items:
        sourced = "arxiv.org/abs/" in item or "https://" in item or "issue" in item or "*Psychology" in item
        assert sourced or item.startswith("The last two"), item
    for shown, linked in re.findall(r"\[arXiv:(\d{4}\.\d{4,5})\]\(https://arxiv\.org/abs/([^)]+)\)", TEXT[name]):
        assert shown == linked
    assert len(re.findall(r"arXiv:\d", TEXT[name])) == len(re.findall(r"\[arXiv:\d{4}\.\d{4,5}\]\(", TEXT[name]))


# What they name


@pytest.mark.parametrize("name", [*NAMES, "README"])
def test_every_link_and_every_file_named_exists(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            assert (FOLDER / path).is_file(), link
            assert not anchor, "headings move: link the document"
    files = re.findall(r"\b((?:jobs|labqueue|tests)/[\w/.]+\.(?:yaml|py))\b", text)
    assert [file for file in files if not (REPOSITORY / file).is_file()] == []
    assert name == "README" or any(file.startswith("jobs/") for file in files)


@each_document
def test_every_command_exists_with_its_options(name: str) -> None:
    from importlib import import_module

    lines = [line for block in BLOCK.findall(TEXT[name]) for line in block.splitlines() if line.startswith("labqueue ")]
    assert len(lines) >= 3
    for line in lines:
        _, command, *words = line.split("#")[0].split()
        assert command in COMMANDS, line
        module, attribute, _ = COMMANDS[command]
        known = {option for param in getattr(import_module(module), attribute).params for option in param.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line
    named = re.findall(r"`labqueue ([a-z]+)", TEXT[name])
    assert set(named) <= COMMANDS.keys()


def parameters(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for key, field in model.model_fields.items():
        found.add(prefix + key)
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found |= parameters(inner, f"{prefix}{key}.")
    return found


def extra_evals(tree: object) -> set[str]:
    """Names of the further evaluations anywhere in a spec."""
    if isinstance(tree, dict):
        return {entry["name"] for entry in tree.get("extra_evals") or ()}.union(*map(extra_evals, tree.values()))
    return set().union(*map(extra_evals, tree)) if isinstance(tree, list) else set()


def rows(name: str, head: str) -> list[str]:
    """Names in the first column of the table with that head."""
    table = re.search(rf"^\| {head} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT[name], re.MULTILINE)
    assert table is not None
    return [found for line in table[1].splitlines() for found in re.findall(r"`([^`]+)`", line.split("|")[1])]


@each_document
def test_every_parameter_is_one_of_the_kind(name: str) -> None:
    named = rows(name, "parameter")
    assert len(named) >= 3
    assert set(named) <= parameters(kinds.get(KIND[name]).params)


@each_document
def test_every_metric_is_one_that_runs_record(name: str) -> None:
    named = rows(name, "metric")
    assert len(named) >= 3
    source = "\n".join(path.read_text() for path in (REPOSITORY / "labqueue" / "kinds").rglob("*.py"))
    written = set(re.findall(r'"(\w+)"', source)) | set(loss_curve.MEASURED)
    ends = re.findall(r'f"\{each\.name\}(_\w+)"', source)
    specs = re.findall(r"`(jobs/fine_tuning/\w+\.yaml)`", TEXT[name])
    written |= {
        entry + end for spec in specs for entry in extra_evals(YAML(typ="safe").load(REPOSITORY / spec)) for end in ends
    }
    assert [metric for metric in named if metric not in written] == []


def test_the_scalings_described_are_the_scalings_there_are() -> None:
    field = kinds.get("finetune").params.model_fields["lora"].annotation.model_fields["scaling"]  # type: ignore[union-attr]  # a model
    assert rows("lora_rank", "scaling") == list(get_args(field.annotation))


def test_the_rules_told_are_the_rules_applied() -> None:
    says(
        "loss_curves",
        f"Total drop below {loss_curve.MIN_DROP_SHARE:.0%}".replace("%", " %"),
        f"below {loss_curve.FLAT_SHARE:.0%} of the total drop".replace("%", " %"),
        f"Needs {loss_curve.MIN_POINTS} evaluations in all and {loss_curve.MIN_WINDOW} in the rest",
        f"above {loss_curve.ABOVE_START:g} times the untrained model's",
        f"at least {2 * loss_curve.MIN_DROP_SHARE:.0%} of the untrained model's loss".replace("%", " %"),
        f"at least {loss_curve.RISE_SHARE:.0%} of the total drop".replace("%", " %"),
        f"by {loss_curve.NOISE_SIGMAS:g} standard deviations",
    )
    assert loss_curve.LOST_SHARE == 0.5, "half of the way"


# What they compute, computed again

HIDDEN, KEY, INTERMEDIATE, LAYERS, VOCABULARY = 576, 3 * 64, 1536, 30, 49_152
SMALL = [(576, 576), (KEY, 576), (KEY, 576), (576, 576), (INTERMEDIATE, 576), (INTERMEDIATE, 576), (576, INTERMEDIATE)]
LARGE = [(3584, 3584), (512, 3584), (512, 3584), (3584, 3584), (18944, 3584), (18944, 3584), (3584, 18944)]
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
MIB, GIB = 2**20, 2**30


def linear(matrices: list[tuple[int, int]], layers: int) -> int:
    return layers * sum(rows * columns for rows, columns in matrices)


def adapter(matrices: list[tuple[int, int]], layers: int, rank: int) -> int:
    return layers * rank * sum(rows + columns for rows, columns in matrices)


def test_bytes_of_a_4_bit_model() -> None:
    whole = linear(SMALL, LAYERS) + VOCABULARY * HIDDEN + (2 * LAYERS + 1) * HIDDEN
    assert whole == 134_515_008
    assert linear(SMALL, LAYERS) == 106_168_320
    assert f"{NF4_BITS:.3f}" == "4.127"
    assert f"{4.5 - NF4_BITS:.3f}" == "0.373"
    packed = linear(SMALL, LAYERS) * NF4_BITS / 8
    rest = 2 * (whole - linear(SMALL, LAYERS))
    assert [f"{value / 1e6:.1f}" for value in (packed, rest, packed + rest, 2 * whole)] == [
        "54.8",
        "56.7",
        "111.5",
        "269.0",
    ]
    says("qlora", "134,515,008", "106,168,320", "28,311,552", "35,136", "3,538,944", "111.5 MB", "269.0 MB")
    says("qlora", "= 4.127 bits, or 0.516 bytes", "saves 0.373 bits")
    assert f"{2 * whole / (packed + rest):.1f}" == "2.4"
    assert f"{16 * 7_615_616_512 / GIB:.0f}" == "113"
    says("qlora", "113 GiB for 7.6 billion weights")


def test_parameters_and_bytes_of_an_adapter() -> None:
    trained = adapter(SMALL, LAYERS, 16)
    assert [adapter(SMALL, LAYERS, rank) for rank in (1, 4, 16, 64)] == [305_280, 1_221_120, 4_884_480, 19_537_920]
    says("lora_rank", "305,280; 1,221,120; 4,884,480; 19,537,920", "8·(576 + 1,536) = 16,896", "884,736")
    assert f"{trained / (134_515_008 + trained):.2%}" == "3.50%"
    assert (f"{16 * trained / 1e6:.1f}", f"{16 * trained / MIB:.1f}", f"{10 * trained / 1e6:.1f}") == (
        "78.2",
        "74.5",
        "48.8",
    )
    says("qlora", "4,884,480", "3.50 %", "78.2 MB (74.5 MiB)", "48.8 MB")
    sides = [LAYERS * 16 * sum(matrix[side] for matrix in SMALL) for side in (0, 1)]
    assert sides == [2_488_320, 2_396_160]
    assert f"{5e-4 * math.sqrt(sides[0]):.2f}" == "0.79"
    says("learning_rate", "2,488,320", "2,396,160", "= 0.79")


def test_the_table_of_memory() -> None:
    small, large = adapter(SMALL, LAYERS, 16), adapter(LARGE, 28, 16)
    figures = [
        (linear(SMALL, LAYERS) * NF4_BITS / 8 / MIB, "52.2 MiB", linear(LARGE, 28) * NF4_BITS / 8 / GIB, "3.14 GiB"),
        (2 * VOCABULARY * HIDDEN / MIB, "54.0 MiB (tied)", 2 * 2 * 152_064 * 3584 / GIB, "2.03 GiB"),
        (4 * small / MIB, "18.6 MiB", 4 * large / GIB, "0.15 GiB"),
        (8 * small / MIB, "37.3 MiB", 8 * large / GIB, "0.30 GiB"),
        (2 * LAYERS * 2048 * HIDDEN / MIB, "67.5 MiB", 2 * 28 * 2048 * 3584 / GIB, "0.38 GiB"),
        (4 * 2048 * VOCABULARY / MIB, "384 MiB", 4 * 2048 * 152_064 / GIB, "1.16 GiB"),
    ]
    for first, shown, second, beside in figures:
        for value, text in ((first, shown), (second, beside)):
            digits = len(text.split()[0].partition(".")[2])
            assert f"{value:.{digits}f}" == text.split()[0]
        says("qlora", f"| {shown} | {beside} |")


def nf4_levels() -> numpy.ndarray:
    """Quantiles of a normal distribution, from 0.9677 on, 8 above and 7 below zero (Dettmers et al. 2023)."""
    quantile = statistics.NormalDist().inv_cdf
    end = (1 - 1 / 32 + 1 - 1 / 30) / 2
    above = [quantile(0.5 + (end - 0.5) * n / 8) for n in range(1, 9)]
    below = [-quantile(0.5 + (end - 0.5) * n / 7) for n in range(1, 8)]
    return numpy.array(sorted([*below, 0.0, *above])) / max(above)


def nf4(weights: numpy.ndarray) -> numpy.ndarray:
    blocks = weights.reshape(-1, 64)
    scale = numpy.abs(blocks).max(axis=1, keepdims=True)
    levels = nf4_levels()
    codes = numpy.abs((blocks / scale)[..., None] - levels).argmin(axis=-1)
    return (levels[codes] * scale).reshape(weights.shape)


def test_the_levels_described_are_those_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    theirs = sorted(set(functional.create_normal_map().tolist()))  # the table is filled up with zeros
    assert nf4_levels() == pytest.approx(theirs, abs=1e-4)
    assert [f"{value:.3f}" for value in nf4_levels()[[6, 7, 8, 14, 15]]] == [
        "-0.091",
        "0.000",
        "0.080",
        "0.723",
        "1.000",
    ]
    says("qlora", "(−0.091, 0, 0.080)", "(0.723, 1)")


def test_what_quantising_again_leaves_of_an_adapter() -> None:
    draw = numpy.random.default_rng(0)
    weights = draw.standard_normal((384, 576))
    base = nf4(weights)
    error = numpy.linalg.norm(base - weights) / numpy.linalg.norm(weights)
    assert error == pytest.approx(0.092, abs=0.002)
    left = {}
    for share in (0.01, 0.05):
        change = draw.standard_normal((384, 16)) @ draw.standard_normal((16, 576))
        change *= share * numpy.linalg.norm(base) / numpy.linalg.norm(change)
        left[share] = ((nf4(base + change) - base) * change).sum() / (change**2).sum()
    assert 0 <= left[0.01] < 0.04
    assert 0.2 < left[0.05] < 0.35
    says("qlora", "(0.092 for blocks of 64", "about 2 % of it", "about a quarter survives")


def test_scales_and_first_steps_over_the_rank() -> None:
    scales = {
        "standard": [32 / rank for rank in (1, 4, 16, 64)],
        "rslora": [32 / math.sqrt(rank) for rank in (1, 4, 16, 64)],
        "constant": [32 / 16] * 4,
    }
    for scaling, values in scales.items():
        says("lora_rank", f"`{scaling}` {', '.join(f'{value:g}' for value in values)}")
    adam = [values[3] * 64 / (values[2] * 16) for values in scales.values()]
    descent = [values[3] ** 2 * 64 / (values[2] ** 2 * 16) for values in scales.values()]
    assert (adam, descent) == ([1, 2, 4], [0.25, 1, 4])


def test_a_first_step_moves_as_the_rank_says() -> None:
    """Of A drawn as PEFT draws it; the movement of the output, root mean square, over many draws."""
    draw = numpy.random.default_rng(0)

    def moved(rank: int, rule: str) -> tuple[float, float]:
        same, other = [], []
        for _ in range(200):
            a = draw.uniform(-1, 1, (rank, 576)) / math.sqrt(576)
            seen, unseen, gradient = (
                a @ draw.standard_normal(576),
                a @ draw.standard_normal(576),
                draw.standard_normal(32),
            )
            step = numpy.outer(gradient, seen)
            b = -numpy.sign(step) if rule == "adam" else -step
            same.append(numpy.sqrt(numpy.mean((b @ seen) ** 2)))
            other.append(numpy.sqrt(numpy.mean((b @ unseen) ** 2)))
        return statistics.mean(same), statistics.mean(other)

    for rule in ("adam", "descent"):
        (low, low_other), (high, high_other) = moved(16, rule), moved(256, rule)
        assert high / low == pytest.approx(16, rel=0.15), "in proportion to r on the same input"
        if rule == "adam":
            assert high_other / low_other == pytest.approx(4, rel=0.2), "to its root on another"


def test_stable_ranks() -> None:
    for values, norm, stable in (((4, 2, 1, 1), "4.69", 1.375), ((3, 3, 3, 3), "6.00", 4.0)):
        change = numpy.diag(numpy.array(values, dtype=float))
        assert f"{numpy.linalg.norm(change):.2f}" == norm
        assert numpy.linalg.norm(change) ** 2 / numpy.linalg.norm(change, 2) ** 2 == pytest.approx(stable)
    says("lora_rank", "√22 = 4.69", "22/16 = 1.375", "36/9 = 4")


def test_the_spectrum_of_a_product_from_two_small_matrices() -> None:
    draw = numpy.random.default_rng(0)
    b, a, scale = draw.standard_normal((40, 4)), draw.standard_normal((4, 30)), 2.0
    small = scale * numpy.sqrt(numpy.linalg.eigvals((a @ a.T) @ (b.T @ b)).real)
    assert sorted(small) == pytest.approx(sorted(numpy.linalg.svd(scale * b @ a, compute_uv=False)[:4]))


def test_nats_bits_and_perplexities() -> None:
    assert (f"{math.log(VOCABULARY):.3f}", f"{math.log2(VOCABULARY):.3f}") == ("10.803", "15.585")
    assert (f"{math.exp(2.31):.2f}", f"{2.31 / math.log(2):.2f}", f"{math.exp(-2.31):.3f}") == (
        "10.07",
        "3.33",
        "0.099",
    )
    mean = (100 * 1.0 + 300 * 3.0) / 400
    assert (mean, f"{math.exp(mean):.2f}", f"{(math.e + math.exp(3)) / 2:.2f}") == (2.5, "12.18", "11.40")
    assert ((2 * 1.6 + 2 * 2.0) / 4, 2 * 1.6 / 4, f"{1 - 0.8 / 1.8:.0%}") == (1.8, 0.8, "56%")
    says("loss_curves", "10.803 nats", "15.585 bits", "= 10.07", "3.33 bits", "0.099", "12.18", "= 11.40")
    says("loss_curves", "From 1.8 to 0.8: by 56 %")


def test_random_logits_cost_half_their_variance() -> None:
    draw = numpy.random.default_rng(0)
    logits = draw.standard_normal((50, VOCABULARY // 8)) * 0.8
    loss = numpy.log(numpy.exp(logits).sum(axis=1)).mean()
    assert loss - math.log(VOCABULARY // 8) == pytest.approx(0.8**2 / 2, rel=0.02)


def test_tokens_of_a_step() -> None:
    assert (16 * 51, round(16 * 3.94), 300 * 16, f"{300 * 16 / 8192:.2f}") == (816, 63, 4800, "0.59")
    says("loss_curves", "16·51 = 816", "63 carry loss", "4,800 rows: 0.59 of an epoch")


@pytest.mark.model
def test_rows_of_the_addition_task_are_as_long_as_is_said() -> None:
    from labqueue.llm.data import tokenize
    from labqueue.llm.data.generated import tasks
    from labqueue.llm.models import catalogue, gguf

    transformers = pytest.importorskip("transformers")
    folder = gguf.converted(catalogue.find("smollm2-135m-instruct"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    options = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}
    split = tasks.generated("chain_sum", train_items=512, held_out_items=24, options=options)
    many = tasks.generated("chain_sum", train_items=8192, held_out_items=256, options=options)
    assert f"{len({row.question for row in many.train}):,}" == "4,832"
    says("loss_curves", "8,192 rows of this task hold only 4,832 different questions")
    found = tokenize.encode(tokenizer, split.train, 256).rows
    assert statistics.mean(len(row["input_ids"]) for row in found) == pytest.approx(51, abs=0.5)
    assert statistics.mean(tokenize.loss_tokens(row) for row in found) == pytest.approx(3.94, abs=0.01)


CURVE = list(zip(range(0, 401, 50), [4.0, 2.4, 1.6, 1.22, 1.20, 1.19, 1.20, 1.19, 1.18], strict=True))


def test_the_plateau_worked_by_hand() -> None:
    shown = re.search(r"Evaluations at steps 0, 50, …, 400: ([\d., ]+)\. Where", flat("loss_curves"))
    assert shown is not None
    assert [float(value) for value in shown[1].split(", ")] == [loss for _, loss in CURVE]
    drop = 4.0 - 1.18

    def slope(rest: list[tuple[int, float]]) -> float:
        pairs = itertools.combinations(rest, 2)
        return statistics.median((y - x) / (later - step) for (step, x), (later, y) in pairs) * 400

    def above(rest: list[tuple[int, float]]) -> float:
        return rest[0][1] - statistics.median(loss for _, loss in rest)

    by_hand = [abs(slope(CURVE[n:])) < 0.1 * drop and abs(above(CURVE[n:])) < 0.1 * drop for n in range(5)]
    assert by_hand == [False, False, False, True, True]
    assert [f"{slope(CURVE[n:]):.3f}" for n in (1, 2, 3, 4)] == ["-0.140", "-0.080", "-0.060", "-0.033"]
    assert [f"{above(CURVE[n:]):.3f}" for n in (1, 2, 3)] == ["1.200", "0.400", "0.025"]
    assert loss_curve.plateau_step(CURVE) == 150
    assert loss_curve.steps_to_share(CURVE, 0.8) == pytest.approx(50 + 50 * (2.4 - (4.0 - 0.8 * drop)) / 0.8)
    says(
        "loss_curves", "= 91", "The plateau begins at step 150", "−0.033", "−0.060", "−0.080", "would have said step 50"
    )


def test_the_divergence_worked_by_hand() -> None:
    for end, expected in ((2.3, True), (2.1, False)):
        train = loss_curve.Smoothed(10)  # ten steps: every tenth is one of them
        for step, loss in enumerate([2.6, 2.2, 1.8, 1.6, 1.5, 1.4, 1.5, 1.8, 2.0, end], start=1):
            train.take(step, loss)
        assert loss_curve.read([(0, 3.0), (5, 1.5), (10, end)], train).diverged is expected
    says("loss_curves", "It gave back 0.9", "At 2.1 it gave back 0.7: no")


def test_adam_and_its_schedule() -> None:
    torch = pytest.importorskip("torch")
    first = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    first.grad = torch.tensor([1e-3, -50.0])
    torch.optim.AdamW([first], lr=0.01, weight_decay=0.0).step()
    assert first.tolist() == pytest.approx([0.99, 1.01])
    rare = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([rare], lr=1.0, weight_decay=0.0)
    late = {"step": torch.tensor(1e6), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}
    optimizer.state[rare] = late  # after a long time without a gradient
    rare.grad = torch.ones(1)
    optimizer.step()
    assert f"{-rare.item():.2f}" == "3.16"
    says("learning_rate", "0.1/√0.001 = 3.16", "= 3.2")


def test_the_rates_of_a_schedule() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 10, 200)
    used = []
    for _ in range(200):
        used.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [f"{used[step - 1]:.1e}" for step in (1, 6, 11, 106, 200)] == [
        "0.0e+00",
        "5.0e-04",
        "1.0e-03",
        "5.0e-04",
        "6.8e-08",
    ]
    assert statistics.mean(used) == pytest.approx(5e-4)
    says("learning_rate", "0; 5e-4; 1e-3; 5e-4; 6.8e-8. The mean is 5e-4")


def test_bounds_of_stability() -> None:
    for factor, stable in ((1.99, True), (2.01, False)):
        error, rate = 1.0, 0.01
        for _ in range(3000):
            error -= rate * (factor / rate) * error
        assert (abs(error) < 1) is stable
    beta = 0.9
    assert (2 + 2 * beta) / (1 - beta) == pytest.approx(38)
    assert (2 / 0.01, round(38 / 0.01)) == (200, 3800)
    says("learning_rate", "2/η = 200, and 38/η = 3,800")


def test_how_much_rate_an_adapter_needs_for_the_same_first_move() -> None:
    draw = numpy.random.default_rng(0)
    for width, share, times in ((576, "0.192", "5.2"), (3584, "0.077", "13"), (4096, "0.07", "14")):
        a = draw.uniform(-1, 1, (16, width)) / math.sqrt(width)
        b = draw.choice([-1.0, 1.0], (256, 16))
        move = 2 * math.sqrt(16 / (3 * width))
        assert numpy.sqrt(numpy.mean((2 * b @ a) ** 2)) == pytest.approx(move, rel=0.05)
        assert (f"{move:.{len(share) - 2}f}", f"{1 / move:.{1 if '.' in times else 0}f}") == (share, times)
    says("learning_rate", "= 0.192: 5.2 times. At 3,584: 0.077: 13 times", "that is 0.07·η", "14 times the rate")


def wilson(right: int, asked: int) -> tuple[str, str]:
    """Roots p of (right/asked − p)² = 1.96² p (1 − p)/asked."""
    share, square = right / asked, 1.959964**2
    low, high = sorted(numpy.roots([1 + square / asked, -(2 * share + square / asked), share**2]).real)
    return f"{low:.2f}", f"{high:.2f}"


def test_errors_of_a_share() -> None:
    assert f"{math.sqrt(0.75 * 0.25 / 12):.3f}" == "0.125"
    assert f"{math.sqrt(0.75 * 0.25 / 400):.4f}" == "0.0217"
    assert (wilson(9, 12), wilson(300, 400)) == (("0.47", "0.91"), ("0.71", "0.79"))
    says("forgetting", "= 0.125; 0.47 to 0.91. For 300 of 400: 0.0217; 0.71 to 0.79", "from 47 % to 91 %")
    assert sum("5" in str(number) for number in range(100)) == 19
    assert f"{1 - 0.05 ** (1 / 400):.3%}" == "0.746%"
    says("forgetting", "19 %", "0.746 %")
    assert round((1.959964 + 0.841621) ** 2 * (0.75 * 0.25 + 0.70 * 0.30) / 0.05**2) == 1248
    says("forgetting", "= 1,248")
    assert f"{math.sqrt(0.25 / 256):.0%}" == "3%"
    says("loss_curves", "with 256 questions about 3 points")


def test_a_paired_difference_of_shares() -> None:
    changes = numpy.array([-1] * 52 + [1] * 20 + [0] * 328, dtype=float)
    assert f"{changes.mean():.3f}" == "-0.080"
    paired = changes.std() / math.sqrt(400)
    assert paired == pytest.approx(math.sqrt(72 - 32**2 / 400) / 400)
    unpaired = math.sqrt(0.75 * 0.25 / 400 + 0.67 * 0.33 / 400)
    assert [f"{100 * error:.2f}" for error in (paired, unpaired)] == ["2.08", "3.20"]
    assert [f"{0.08 / error:.1f}" for error in (paired, unpaired)] == ["3.8", "2.5"]
    says("forgetting", "2.08 points: 3.8 standard errors", "3.20 points, 2.5 standard errors")


def test_the_frontier_read_by_hand() -> None:
    question = flat("forgetting").split("**6. Frontier.**")[1].split("<details>")[0]
    points = {name: (float(g), float(f)) for name, g, f in re.findall(r"\b([a-f]) \(([\d.]+), ([\d.]+)\)", question)}
    assert len(points) == 6
    best = [
        name
        for name, (learned, forgot) in points.items()
        if not any(g >= learned and f <= forgot and (g, f) != (learned, forgot) for g, f in points.values())
    ]
    assert best == ["a", "c", "d"]
    says("forgetting", "The frontier is a, c, d", "b is dominated by c, e by d, f by a")


def test_numbers_of_pretraining() -> None:
    blocks = 6 * (12 * 384**2 + 2 * 384)
    assert (blocks + 65 * 384 + 256 * 384 + 384, blocks + 384) == (10_745_088, 10_621_824)
    assert f"{math.log(65):.4f} + {384 * 0.02**2 / 2:.4f} = {math.log(65) + 384 * 0.02**2 / 2:.4f}" in flat(
        "pretraining"
    )
    assert f"{math.log(50_304):.4f}; plus 768·0.0004/2 = 0.1536: {math.log(50_304) + 0.1536:.4f}" in flat("pretraining")
    assert f"1.40 / ln 2 = {1.40 / math.log(2):.2f}" in flat("pretraining")
    says("pretraining", "10,745,088", "10,621,824")
