"""What kinds declare of their metrics and artifacts: read by name and family, and refused where it is wrong."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue import kinds
from labqueue.domain.declarations import LAB, ArtifactUse, Metric, Metrics, belongs, fault
from labqueue.domain.errors import LabError
from tests import own_kinds

HEAD = """
    from labqueue.domain import kind
    from labqueue.domain.declarations import ArtifactUse, Metric

    class Params(kind.Params):
        'What can be set.'

    def run(params, rec):
        pass

"""
NAMES = st.text("ab_", max_size=4)


@given(NAMES, NAMES, NAMES)
def test_a_name_is_of_a_family_where_something_stands_for_the_star(start: str, middle: str, end: str) -> None:
    assert belongs(start + middle + end, f"{start}*{end}") is bool(middle)


@pytest.mark.parametrize(("name", "family"), [("loss", "*_loss"), ("_loss", "*_loss"), ("aba", "ab*ba")])
def test_a_name_that_only_overlaps_a_family_is_none_of_it(name: str, family: str) -> None:
    assert not belongs(name, family)


def test_a_name_is_itself_before_it_is_of_a_family_and_of_the_narrowest_family_first() -> None:
    known = Metrics({"*_loss": Metric("a"), "*_test_loss": Metric("b"), "my_loss": Metric("c")})
    assert [known[name].unit for name in ("my_loss", "your_loss", "your_test_loss", "other")] == ["c", "a", "b", ""]
    assert [known.place(name) for name in ("your_loss", "my_loss", "other")] == [0, 2, 3]


def test_only_names_that_a_run_can_record_are_known() -> None:
    known = Metrics({"value": Metric(), "*_loss": Metric()})
    assert known.records("value")
    assert known.records("any_loss"), "the kind does not say which of the family there are"
    assert not known.records("any_loss", ["its_loss"])
    assert known.records("its_loss", ["its_loss"])
    assert not known.records("valeu")
    assert not known.records("*_loss", [])
    assert Metrics(None).records("valeu"), "a kind that declares nothing may record anything"
    assert Metrics({"value": Metric(), "*": Metric()}).records("valeu"), "it says so"
    assert not Metrics({}).records("valeu"), "it says that it records nothing"


def test_a_scale_says_between_which_values_a_metric_lies() -> None:
    found = {scale: Metric(scale=scale).bounds for scale in ("real", "positive", "share", "yes_no")}  # type: ignore[arg-type]  # a literal each
    assert found == {"real": (-math.inf, math.inf), "positive": (0, math.inf), "share": (0, 1), "yes_no": (0, 1)}


@pytest.mark.parametrize("name", kinds.names())
def test_the_labs_own_kinds_declare_what_they_record(name: str) -> None:
    kind = kinds.get(name)
    assert not kind.metrics.free, "a misspelt metric in a prediction of it is found at submission"
    assert all(metric.about for metric in kind.metrics.declared.values())
    assert all(use.about for use in kind.artifacts.values())


BROKEN = {
    "Metric(role='heldout')": "has role 'heldout': did you mean 'held_out'?",
    "Metric(better='low')": "has better 'low': did you mean 'lower'?",
    "Metric(scale='positiv')": "has scale 'positiv': did you mean 'positive'?",
    "Metric('%', scale='share')": "has the unit '%' and the scale share, which has none",
    "Metric(items='n')": "has items 'n', which belong to the scale share, and the scale real",
    "Metric(unit=3)": "has unit 3, which is no text",
    "'nats/token'": "is 'nats/token', not a Metric",
}


@pytest.mark.parametrize(("value", "words"), BROKEN.items())
def test_a_broken_declaration_is_refused_with_the_kinds_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, words: str
) -> None:
    own_kinds.add(monkeypatch, tmp_path, {"broken": HEAD + f"    METRICS = {{'value': {value}}}\n"})
    with pytest.raises(LabError) as refused:
        kinds.get("broken")
    assert refused.value.file == str(tmp_path / "broken.py")
    assert refused.value.message.startswith("the kind 'broken' cannot be used: its METRICS['value'] ")
    assert words in refused.value.message
    assert kinds.get("drill").name == "drill", "the others can be used"


def test_a_declaration_that_python_refuses_is_named_with_its_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_kinds.add(monkeypatch, tmp_path, {"typo": HEAD + "    METRICS = {'value': Metric(untis='s')}\n"})
    with pytest.raises(LabError, match=r"cannot be imported: TypeError: .*'untis'") as refused:
        kinds.get("typo")
    lines = (tmp_path / "typo.py").read_text().splitlines()
    assert refused.value.file == str(tmp_path / "typo.py")
    assert refused.value.line == lines.index("METRICS = {'value': Metric(untis='s')}") + 1


def test_other_broken_declarations_are_named() -> None:
    assert fault({"a*b*": Metric()}, None) == "METRICS['a*b*'] has more than one *: a family has one"
    assert fault(["value"], None) == "METRICS is ['value'], not a mapping of names to Metric"
    assert "no text" in (fault({3: Metric()}, None) or "")
    assert "the lab's own" in (fault({"peak_memory_gib": Metric("GB")}, None) or "")
    assert fault({"peak_memory_gib": LAB["peak_memory_gib"]}, None) is None
    assert "did you mean 'samples'" in (fault(None, {"answers": ArtifactUse("sample")}) or "")  # type: ignore[arg-type]  # wrong on purpose
    assert "belong to the use curve_summary" in (fault(None, {"answers": ArtifactUse("samples", row="x")}) or "")
    summary = ArtifactUse("curve_summary", metrics=("gpa",))
    assert "did you mean 'gap'" in (fault({"gap": Metric()}, {"reading": summary}) or "")
    assert fault({"gap": Metric(), "gpa": Metric()}, {"reading": summary}) is None


def test_two_kinds_of_one_name_are_refused_with_both_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_kinds.add(monkeypatch, tmp_path, {"drill": HEAD})
    with pytest.raises(LabError) as refused:
        kinds.get("drill")
    lab = Path(kinds.__file__).parent / "drill.py"
    assert refused.value.file == str(lab)
    assert str(tmp_path / "drill.py") in refused.value.message
    assert kinds.names().count("drill") == 1
    assert kinds.get("generate").name == "generate", "the others can be used"


def test_a_folder_of_kinds_that_is_added_twice_holds_each_kind_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_kinds.add(monkeypatch, tmp_path, {"once": HEAD})
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    assert kinds.get("once").metrics.free


PACKAGE = Path(kinds.__file__).resolve().parent.parent

BESIDE = ("kinds", "llm")
"""Rooms whose words may be the same: other kinds name what is theirs, and the models' layer, which knows no run and no
metric, has settings that a kind passes on."""

OTHERWISE = {
    ("store/migrations/version_2_names.py", "extra_evals"): "what frozen specs of version 2 are rewritten with",
    ("cli/estimate.py", "model"): "an option of the command",
    ("domain/artifacts/types.py", "model"): "a type of artifact",
    ("report/document/artifacts.py", "model"): "a type of artifact",
    ("store/workspace/bundle.py", "model"): "a type of artifact",
    ("domain/declarations.py", "samples"): "a use of artifacts",
    ("domain/declarations.py", "item_scores"): "a use of artifacts",
    ("report/statistics/items.py", "item_scores"): "a use of artifacts",
    ("cli/report.py", "samples"): "a use of artifacts",
    ("report/document/sections.py", "samples"): "a use of artifacts",
    ("worker/telemetry.py", "samples"): "readings of a card",
    ("attempt/recorder.py", "model"): "a type of artifact",
    ("store/runs/results.py", "model"): "a type of artifact",
    ("cli/generate.py", "model"): "a type of artifact, and a parameter of the kind generate",
    ("cli/generate.py", "adapter"): "a parameter of the kind generate",
    ("cli/generate.py", "max_new_tokens"): "a parameter of the kind generate",
    ("cli/generate.py", "samples"): "what a run wrote",
    ("store/tables.py", "samples"): "a table",
    ("store/migrations/version_3.py", "samples"): "a table",
    ("store/workspace/archive.py", "samples"): "a table",
    ("store/workspace/bundle.py", "samples"): "a table",
    ("store/workspace/importing.py", "samples"): "a table",
}
"""Words of everyday use that fine-tuning has for a name, and what they mean in other files."""


def named_in(path: Path, names: set[str]) -> set[str]:
    """Which names a module has: compound ones anywhere in its text, single words as whole texts of the program."""
    source = path.read_text()
    words = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    compound = {name for name in names if "_" in name}
    # ``max_length=`` is an argument of pydantic's.
    return {name for name in compound if re.search(rf"\b{name}\b(?!=)", source)} | (names - compound) & words


def of_finetune() -> set[str]:
    kind = kinds.get("finetune")
    declared = {name for name in (*kind.metrics.declared, *kind.artifacts) if "*" not in name} - set(LAB)
    return declared | {key for key in kind.params.model_fields if "_" in key}


def test_no_file_outside_fine_tuning_names_a_metric_an_artifact_or_a_parameter_of_it() -> None:
    names = of_finetune()
    assert len(names) > 40
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in BESIDE
        for name in named_in(path, names)
    }
    assert sorted(found - set(OTHERWISE)) == []
    assert sorted(set(OTHERWISE) - found) == [], "listed, and no longer there"


def test_fine_tuning_itself_is_found_by_that_search() -> None:
    found = {name for path in (PACKAGE / "kinds" / "finetune").glob("*.py") for name in named_in(path, of_finetune())}
    assert found == of_finetune()


def test_every_metric_and_artifact_in_the_source_of_a_kind_is_declared() -> None:
    for name in kinds.names():
        kind = kinds.get(name)
        folder = PACKAGE / "kinds" / name
        files = list(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        source = "\n".join(path.read_text() for path in files)
        recorded = set(re.findall(r'rec\.metric\("(\w+)"', source))
        made = {f"x{end}" for end in re.findall(r'rec\.metric\(f"\{each\.name\}(\w+)"', source)}
        left = set(re.findall(r'rec\.artifact\("(\w+)"', source))
        assert recorded, name
        assert {metric for metric in recorded | made if not kind.metrics.records(metric)} == set(), name
        assert left <= set(kind.artifacts), name
