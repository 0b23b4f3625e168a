"""Every wrong spec is refused before anything is recorded, and says where and what it should have been."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from tests.commands import call, refused, rows
from tests.conftest import Lab

HEAD = "name: x\nkind: drill\n"


@dataclass(frozen=True)
class Case:
    """A spec's text; the line and key at fault; words that the message must have."""

    text: str
    line: int | None
    key: str | None
    words: tuple[str, ...]


def case(text: str, line: int | None, key: str | None, *words: str) -> Case:
    return Case(text, line, key, words)


def after_head(text: str, line: int | None, key: str | None, *words: str) -> Case:
    return Case(HEAD + text, line, key, words)


GRID = "sweep:\n  grid:\n"
PREDICT = "predictions:\n  - id: p\n    claim: c\n"

CASES = {
    # --- YAML ---
    "broken YAML": case("name: x\nkind: [drill\n", 3, None, "not valid YAML"),
    "a tab as indent": case("name: x\n\tkind: drill\n", 2, None, "not valid YAML"),
    "an empty file": case("", None, None, "empty"),
    "only a comment": case("# nothing\n", None, None, "empty"),
    "a list": case("- a\n", 1, None, "mapping", "list"),
    "a text": case("hello\n", 1, None, "mapping", "text"),
    "two documents": case(HEAD + "---\nname: y\n", 3, None, "single document"),
    "an unknown alias": after_head("params: *nope\n", 3, None, "nope"),
    "an alias of itself": after_head("params: &a {steps: *a}\n", None, None, "recursion"),
    "a control character": after_head("hypothesis: a\0b\n", None, None, "#x0000"),
    "half of a surrogate pair": after_head('hypothesis: "\\ud800"\n', 3, "hypothesis", "surrogate"),
    "a Python object": after_head(
        "params: !!python/object/apply:os.system ['touch pwned']\n", 3, None, "python/object"
    ),
    "a Python name": after_head("params: {steps: !!python/name:os.system }\n", 3, None, "python/name"),
    "an unknown tag": after_head("params: {steps: !mine 3}\n", 3, None, "!mine"),
    "a date": after_head("hypothesis: 2024-01-01\n", 3, "hypothesis", "2024-01-01", "quotes"),
    "a date and time": after_head("questions: [2024-01-01 10:00:00]\n", 3, "questions.0", "date", "quotes"),
    "a number as key": after_head("params: {1: 2}\n", 3, "params.1", "keys are text", "number 1", "quotes"),
    "a truth value as key": after_head("limits:\n  attempts: 1\n  true: 2\n", 3, "limits.True", "keys are text"),
    "a list as key": after_head("? [a, b]\n: 2\n", 1, "('a', 'b')", "keys are text"),
    "binary data": after_head("hypothesis: !!binary aGVsbG8=\n", 3, "hypothesis", "binary"),
    "a set": after_head("params:\n  witness: !!set {a, b}\n", 4, "params.witness", "set"),
    "the same key twice": after_head("seeds: [1]\nseeds: [2]\n", 4, "seeds", "twice", "line 3"),
    # Refused at the 64th, before anything after it is read: all of them would take seconds.
    "brackets without end": after_head("params: " + "[" * 100_000, 3, None, "over 64 levels deep"),
    "mappings too deep": after_head("params:\n" + " [\n" * 70 + " } ]", 67, None, "over 64 levels deep"),
    # --- looks ---
    "looks that fall": after_head("seeds: [0, 1]\nlooks: [5, 3]\n", 4, "looks", "[5, 3] do not rise"),
    "looks that stay": after_head("looks: [3, 3]\n", 3, "looks", "do not rise"),
    "a look at one seed": after_head("looks: [1, 3]\n", 3, "looks.0", "greater than or equal to 2"),
    "four looks": after_head("looks: [2, 3, 4, 5]\n", 3, "looks", "at most 3"),
    "looks that end before the seeds": after_head(
        "seeds: [0, 1, 2, 3]\nlooks: [2, 3]\n", 4, "looks", "end at 3 seeds", "4 would run"
    ),
    "two claims with one id": after_head(
        "predictions:\n"
        "  - {id: p, claim: c, threshold: {metric: value, below: 1}}\n"
        "  - {id: p, claim: d, threshold: {metric: value, below: 2}}\n",
        3,
        "predictions",
        "'p'",
        "twice",
    ),
    # --- keys ---
    "an unknown kind": case("name: x\nkind: dril\n", 2, "kind", "'dril'", "did you mean 'drill'?"),
    "an unknown kind after Windows line ends": case("name: x\r\nkind: dril\r\n", 2, "kind", "did you mean 'drill'?"),
    "an unknown kind after a byte-order mark": case("\ufeffname: x\nkind: dril\n", 2, "kind", "did you mean 'drill'?"),
    "a kind that is a number": case("name: x\nkind: 3\n", 2, "kind", "valid string", "3"),
    "no kind": case("name: x\n", 1, "kind", "'kind' is missing"),
    "no name": case("kind: drill\n", 1, "name", "'name' is missing"),
    "an unknown key": after_head("sweeps: {}\n", 3, "sweeps", "did you mean 'sweep'?"),
    "an unknown parameter": after_head("params:\n  step: 3\n", 4, "params.step", "'step'", "did you mean 'steps'?"),
    "an unknown limit": after_head(
        "limits: {wall_minute: 3}\n", 3, "limits.wall_minute", "did you mean 'wall_minutes'?"
    ),
    "an unknown key of a profile": after_head(
        "profiles:\n  cpu:\n    parms: {}\n", 5, "profiles.cpu.parms", "'params'?"
    ),
    "an unknown parameter in a profile": after_head(
        "profiles:\n  cpu:\n    params:\n      step: 3\n", 6, "profiles.cpu.params.step", "did you mean 'steps'?"
    ),
    "an unknown limit in a profile": after_head(
        "profiles:\n  cpu:\n    limits:\n      atempts: 3\n", 6, "profiles.cpu.limits.atempts", "'attempts'?"
    ),
    "an unknown block of a sweep": after_head("sweep:\n  grd: {steps: [1]}\n", 4, "sweep.grd", "did you mean 'grid'?"),
    "a sweep over an unknown key": after_head(
        GRID + "    step: [1, 2]\n", 5, "sweep.grid.step", "'step'", "did you mean 'steps'?"
    ),
    "a sweep over an unknown key in a list": after_head(
        "sweep:\n  list: [{steps: 1}, {step: 2}]\n", 3, "sweep", "did you mean 'steps'?"
    ),
    "a sweep below a number": after_head(GRID + "    steps.x: [1]\n", 5, "sweep.grid.steps.x", "steps.x", "integer"),
    "a sweep over params itself": after_head(
        GRID + "    params.steps: [1]\n", 5, "sweep.grid.params.steps", "'params'"
    ),
    "an axis with an empty part": after_head(GRID + "    'steps.': [1]\n", 3, "sweep", "'steps.'", "dotted key"),
    # --- types and values ---
    "text for a number": after_head("params:\n  steps: ten\n", 4, "params.steps", "integer", "'ten'"),
    "a truth value for a number": after_head("params:\n  steps: true\n", 4, "params.steps", "truth value"),
    "a fraction for a count": after_head("params:\n  steps: 1.5\n", 4, "params.steps", "integer", "1.5"),
    "a number out of range": after_head("params:\n  steps: 0\n", 4, "params.steps", "greater than or equal to 1"),
    "NaN": after_head("params:\n  step_s: .nan\n", 4, "params.step_s", "nan", "finite"),
    "infinity": after_head("params:\n  step_s: .inf\n", 4, "params.step_s", "inf", "finite"),
    "a number that overflows": after_head("params:\n  step_s: 1e999\n", 4, "params.step_s", "finite"),
    "NaN in a sweep": after_head(GRID + "    step_s: [0.1, .nan]\n", 5, "sweep.grid.step_s.1", "finite"),
    "an unknown choice": after_head("params:\n  fault: rase\n", 4, "params.fault", "'rase'", "did you mean 'raise'?"),
    "a list for params": after_head("params: [1]\n", 3, "params", "object", "list"),
    "a number for an axis": after_head(GRID + "    steps: 3\n", 5, "sweep.grid.steps", "3"),
    "a name with capitals": case("name: My Name\nkind: drill\n", 1, "name", "'My Name'", "a-z0-9_"),
    "a name with a newline": case('name: "x\\n"\nkind: drill\n', 1, "name", "a-z0-9_"),
    "a name as a path": case("name: ../x\nkind: drill\n", 1, "name", "'../x'"),
    "a limit below its least": after_head(
        "limits: {attempts: 0}\n", 3, "limits.attempts", "greater than or equal to 1"
    ),
    "memory in words": after_head("limits: {memory_gib: lots}\n", 3, "limits.memory_gib", "number", "'auto'", "'lots'"),
    # --- sweeps and seeds ---
    "an empty sweep": after_head("sweep: {}\n", 3, "sweep", "empty", "grid, zip, list, random"),
    "an empty axis": after_head(GRID + "    steps: []\n", 5, "sweep.grid.steps", "empty axis"),
    "an axis twice": after_head(GRID + "    steps: [1]\n    steps: [2]\n", 6, "sweep.grid.steps", "twice", "line 5"),
    "a value twice": after_head(GRID + "    steps: [1, 2, 1]\n", 5, "sweep.grid.steps", "the value 1 twice"),
    "a value twice in other writing": after_head(GRID + "    step_s: [1, 1.0]\n", 3, "sweep", "the same run"),
    "a point that spells out a default": after_head(
        "sweep:\n  list: [{fault_at: 1}, {steps: 10}]\n", 3, "sweep", "the same run"
    ),
    "an axis in grid and zip": after_head(
        "sweep:\n  grid: {steps: [1, 2]}\n  zip: {steps: [3], step_s: [0]}\n", 3, "sweep.steps", "'steps'", "two places"
    ),
    "an axis and a part of it": after_head(
        GRID + "    witness: [a]\n    witness.b: [c]\n", 3, "sweep.witness.b", "'witness'", "same parameter"
    ),
    "a zip of different lengths": after_head(
        "sweep:\n  zip: {steps: [3, 4], step_s: [0]}\n", 4, "sweep.zip", "equal length", "'steps': 2"
    ),
    "a point twice": after_head("sweep:\n  list: [{steps: 1}, {steps: 1}]\n", 3, "sweep", '{"steps":1} twice'),
    "a random range upside down": after_head(
        "sweep: {random: {samples: 2, space: {steps: {int: [5, 1]}}}}\n",
        3,
        "sweep.random.space.steps",
        "[5, 1]",
        "low <= high",
    ),
    "an unknown distribution": after_head(
        "sweep: {random: {samples: 2, space: {steps: {unifrm: [1, 5]}}}}\n",
        3,
        "sweep.random.space.steps.unifrm",
        "did you mean 'uniform'?",
    ),
    "a negative seed": after_head("seeds: [0, -1]\n", 3, "seeds.1", "-1"),
    "a seed twice": after_head("seeds: [0, 1, 0]\n", 3, "seeds", "[0]", "twice"),
    "a seed twice in a profile": after_head(
        "profiles:\n  cpu:\n    seeds: [4, 4]\n", 5, "profiles.cpu.seeds", "[4]", "twice"
    ),
    "no seeds": after_head("seeds: []\n", 3, "seeds", "at least 1"),
    "no seeds in a profile": after_head("profiles: {cpu: {seeds: []}}\n", 3, "profiles.cpu.seeds", "at least 1"),
    "a seed that is text": after_head("seeds: ['a']\n", 3, "seeds.0", "'a'"),
    "a seed that is a truth value": after_head("seeds: [true]\n", 3, "seeds.0", "True"),
    "a seed that is too large": after_head("seeds: [99999999999]\n", 3, "seeds.0", "2147483647"),
    # --- predictions, needs, references ---
    "a prediction that matches no run": after_head(
        GRID
        + "    steps: [1, 2]\n"
        + PREDICT
        + "    compare: {metric: value, a: {steps: 1}, b: {steps: 3}, within: 1}\n",
        7,
        "predictions.0",
        '{"steps":3}',
        "matches no run",
        '{"steps":1}; {"steps":2}',
    ),
    "a prediction over what is not varied": after_head(
        GRID + "    steps: [1, 2]\n" + PREDICT + "    trend: {metric: value, over: step, shape: rises}\n",
        7,
        "predictions.0",
        "'step'",
        "did you mean 'steps'?",
    ),
    "a prediction with an unknown test": after_head(
        PREDICT + "    threshhold: {metric: value, below: 1}\n", 6, "predictions.0.threshhold", "'threshold'?"
    ),
    "a prediction with an unknown bound": after_head(
        PREDICT + "    threshold: {metric: value, belo: 1}\n",
        6,
        "predictions.0.threshold.belo",
        "did you mean 'below'?",
    ),
    "a prediction with two tests": after_head(
        PREDICT + "    threshold: {metric: v, below: 1}\n    crosses: {metric: v, below: 1, before: 3}\n",
        4,
        "predictions.0",
        "exactly one of",
        "threshold, crosses",
    ),
    "a prediction id twice": after_head(
        "predictions:\n" + 2 * "  - {id: p, claim: c, threshold: {metric: v, below: 1}}\n",
        3,
        "predictions",
        "['p']",
        "twice",
    ),
    "a need that is unknown": after_head("needs: [nope]\n", 3, "needs", "'nope'", "--with-needs"),
    "a need with an unknown key": after_head(
        "needs: [{experiment: y, wher: {}}]\n", 3, "needs.0.wher", "did you mean 'where'?"
    ),
    "a need with an unknown outcome": after_head(
        "needs: [{experiment: y, accept: [faild]}]\n", 3, "needs.0.accept.0", "did you mean 'failed'?"
    ),
    # --- keys that have another name now ---
    "a renamed key": after_head(
        "params:\n  steps: 2\n  ledger: w.txt\n",
        5,
        "params.ledger",
        "params.ledger is called params.witness now: write witness",
    ),
    "a renamed key beside a worse mistake": after_head(
        "params: {steps: none,\n  ledger: w.txt}\n", 4, "params.ledger", "write witness"
    ),
    "a renamed key in a profile": after_head(
        "profiles:\n  cpu:\n    params: {ledger: a}\n", 5, "profiles.cpu.params.ledger", "write witness"
    ),
    "a renamed key in a grid": after_head(
        GRID + "    steps: [1]\n    ledger: [a, b]\n",
        6,
        "sweep.grid.ledger",
        "sweep axis ledger is called",
        "write witness",
    ),
    "a renamed key in a list of points": after_head(
        "sweep:\n  list: [{ledger: a}, {ledger: b}]\n", 3, "sweep", "sweep axis ledger is called", "write witness"
    ),
    "a renamed key in a prediction": after_head(
        GRID + "    witness: [a, b]\n" + PREDICT + "    threshold: {metric: value, below: 1, where: {ledger: a}}\n",
        7,
        "predictions.0",
        "'p'",
        "ledger, which is called witness now",
    ),
    "a renamed key of fine-tuning": case(
        "name: x\nkind: finetune\nparams:\n  also: [{name: s, task: chain_sum}]\n",
        4,
        "params.also",
        "write extra_evals",
    ),
    "a reference without its experiment": after_head(
        "params:\n  witness: {from_run: {artifact: a}}\n", 4, "params.witness.from_run.experiment", "missing"
    ),
    "the text that stands for a reference": after_head(
        "params:\n  witness: from_run\n", 4, "params.witness", "{from_run: {experiment: NAME, artifact: NAME}}"
    ),
    "a reference with an unknown key": after_head(
        "params:\n  witness: {from_run: {experiment: y, artifact: a, sead: 1}}\n",
        4,
        "params.witness.from_run.sead",
        "did you mean 'seed'?",
    ),
}


def test_a_key_that_has_another_name_now_is_refused_on_the_command_line(lab: Lab) -> None:
    for words in (("--set", "ledger=w.txt"), ("--sweep", "ledger=a,b")):
        error = refused(call(lab, "submit", lab.text(HEAD), *words, "--profile", "cpu", "--json"))
        assert (error["file"], error["line"]) == ("command line", None)
        assert "is called" in error["message"]
        assert "write witness" in error["message"]
    assert rows(lab) == {}


def test_a_key_that_has_another_name_now_is_refused_where_runs_of_another_experiment_are_chosen(lab: Lab) -> None:
    first = lab.text("name: first\nkind: drill\nparams: {witness: w.txt}\n", "first")
    need = lab.text(HEAD + "needs:\n  - {experiment: first, where: {ledger: w.txt}}\n", "need")
    taking = "params:\n  witness: {from_run: {experiment: first, where: {ledger: w.txt}, artifact: a}}\n"
    take = lab.text(HEAD + taking, "take")
    for specs, key in (((first, need), "needs.0.where"), ((first, take), "params.witness")):
        error = refused(call(lab, "submit", *specs, "--profile", "cpu", "--json"))
        assert (error["line"], error["key"]) == (4, key)
        assert "ledger, which is called witness now" in error["message"]
    assert call(lab, "submit", first, "--profile", "cpu").code == 0
    assert "witness now" in refused(call(lab, "submit", need, "--profile", "cpu", "--json"))["message"]


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_spec_is_refused_with_file_line_key_value_and_cure(lab: Lab, name: str) -> None:
    wrong = CASES[name]
    path = lab.root / "spec.yaml"
    path.write_bytes(wrong.text.encode("utf-8", "surrogatepass"))
    error = refused(call(lab, "submit", path, "--profile", "cpu", "--json"))
    assert error["file"] == str(path)
    assert (error["line"], error["key"]) == (wrong.line, wrong.key), error
    for word in wrong.words:
        assert word in error["message"], error["message"]
    assert rows(lab) == {}
    assert not (lab.root / "pwned").exists()


def test_a_sweep_of_a_thousand_million_runs_is_refused_at_once_with_the_count(lab: Lab) -> None:
    thousand = ", ".join(map(str, range(1, 1001)))
    grid = lab.text(
        HEAD + GRID + "".join(f"    {key}: [{thousand}]\n" for key in ("steps", "fault_at", "allocate_mib"))
    )
    drawn = lab.text(HEAD + "sweep: {random: {samples: 1000000000, space: {steps: {int: [1, 9]}}}}\n", "drawn")
    for path in (grid, drawn):
        answer = call(lab, "submit", path, "--json")
        error = refused(answer)
        assert (answer.cpu_s or 9) < 3
        assert "1,000,000,000 runs" in error["message"]
        assert error["line"] == 3
    assert rows(lab) == {}


def two_million_additions_s() -> float:
    """Processor time of a plain loop: 0.17 s on a processor of 2017."""
    began, total = time.process_time(), 0
    for number in range(2_000_000):
        total += number
    return time.process_time() - began


def test_a_billion_laughs_are_refused_at_once(lab: Lab) -> None:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    laughs += "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    merged = "a: &a {x: 1}\n"
    merged += "".join(
        f"{c}: &{c} {{<<: [{','.join([f'*{p}'] * 9)}]}}\n" for p, c in zip("abcdefg", "bcdefgh", strict=True)
    )
    deep = HEAD + "params: " + "[" * 100_000 + "\n"
    for at, text in enumerate((laughs, merged, deep)):
        answer = call(lab, "submit", lab.text(text, f"bomb{at}"), "--json")
        refused(answer)
        # Expanded, one of these would take the memory of the machine. In this processor's own measure: additions.
        assert answer.cpu_s is not None
        assert answer.cpu_s < 45 * two_million_additions_s()
    assert rows(lab) == {}


def test_what_is_no_readable_spec_file_is_named(lab: Lab) -> None:
    (lab.root / "jobs").mkdir()
    assert "is a folder" in refused(call(lab, "submit", lab.root / "jobs", "--json"))["message"]

    lab.spec("quickstart")
    error = refused(call(lab, "submit", "quikstart.yaml", "--json"))
    assert "quikstart.yaml" in error["message"]
    assert "did you mean 'quickstart.yaml'?" in error["message"]

    (lab.root / "latin.yaml").write_bytes("name: x\nkind: drill\nhypothesis: größer\n".encode("latin-1"))
    assert "not UTF-8" in refused(call(lab, "submit", "latin.yaml", "--json"))["message"]

    (lab.root / "big.yaml").write_bytes(b"#" * 1_000_001)
    assert "1,000,001 bytes" in refused(call(lab, "submit", "big.yaml", "--json"))["message"]

    (lab.root / "loop.yaml").symlink_to("loop.yaml")
    assert "loop.yaml" in refused(call(lab, "submit", "loop.yaml", "--json"))["message"]
    assert rows(lab) == {}


def test_one_wrong_spec_among_several_records_none(lab: Lab) -> None:
    good, bad = lab.spec("good"), lab.spec("bad", params={"step": 1})
    assert refused(call(lab, "submit", good, bad, "--json"))["file"] == str(bad)
    assert rows(lab) == {}


def test_needs_that_form_a_circle_are_refused_with_the_circle(lab: Lab) -> None:
    one, two = lab.spec("one", needs=["two"]), lab.spec("two", needs=["one"])
    error = refused(call(lab, "submit", one, two, "--json"))
    assert "one → two → one" in error["message"] or "two → one → two" in error["message"]
    assert refused(call(lab, "submit", one, "--with-needs", "--json"))["key"] == "needs"
    assert rows(lab) == {}


def test_an_experiment_named_twice_in_one_submission_is_refused(lab: Lab) -> None:
    path = lab.spec("twice")
    assert "twice" in refused(call(lab, "submit", path, path, "--json"))["message"]
    assert rows(lab) == {}


def test_what_is_long_or_foreign_is_accepted_as_it_is(lab: Lab) -> None:
    long, foreign = "x" * 10_000, "größer 数据 🙂 \u202e"
    path = lab.spec("foreign", hypothesis=long, params={"witness": foreign}, questions=[long])
    run = call(lab, "submit", path, "--json").json["runs"][0]
    assert call(lab, "show", run, "--json").json["params"]["witness"] == foreign
    assert call(lab, "report", "foreign", "--json").json["hypothesis"] == long


def test_a_fault_beyond_the_last_step_and_a_null_sweep_are_legal(lab: Lab) -> None:
    beyond = lab.text(HEAD + "params: {steps: 2, fault: raise, fault_at: 99}\nsweep:\n")
    assert len(call(lab, "submit", beyond, "--json").json["runs"]) == 1
    bare = lab.text(HEAD + "params:\n  # steps: 3\n", "bare")
    assert len(call(lab, "submit", bare, "--json").json["runs"]) == 1


FINETUNE = "name: x\nkind: finetune\nparams:\n  model: {model}\n  data: {data}\n"
TASK = "{task: chain_sum, train_items: 8, eval_items: 4}"


def test_an_unknown_model_is_refused_with_the_nearest_one(lab: Lab) -> None:
    path = lab.text(FINETUNE.format(model="smollm2-135m-instuct", data=TASK))
    error = refused(call(lab, "submit", path, "--profile", "cpu", "--json"))
    assert "'smollm2-135m-instuct'" in error["message"]
    assert "did you mean 'smollm2-135m-instruct'?" in error["message"]
    assert (error["file"], error["line"], error["key"]) == (str(path), 4, "params.model")
    assert rows(lab) == {}


def test_an_unknown_task_and_a_missing_data_file_are_refused_before_the_night(lab: Lab) -> None:
    for data, (key, *words) in (
        (TASK.replace("chain_sum", "chain_sun"), ("task", "'chain_sun'", "did you mean 'chain_sum'?")),
        (TASK.replace("chain_sum", "word_ladder"), ("task", "'word_ladder' is not offered", "differs from process")),
        ("{path: nope.jsonl, eval_items: 4}", ("path", "'nope.jsonl'", "does not exist")),
    ):
        path = lab.text(FINETUNE.format(model="smollm2-135m-instruct", data=data))
        error = refused(call(lab, "submit", path, "--profile", "cpu", "--json"))
        assert (error["line"], error["key"]) == (5, f"params.data.{key}")
        for word in words:
            assert word in error["message"]
    assert rows(lab) == {}
