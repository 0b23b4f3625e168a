"""What may import what, and what may not be imported just to say hello."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import grimp
import pytest

import labqueue
from labqueue import kinds

PACKAGE = Path(labqueue.__file__).resolve().parent

HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "unsloth")

LIGHT_HEADS = ("labqueue.cli.main", "labqueue.worker.worker", "labqueue.api", "labqueue.attempt.runner")


def imported_by(*modules: str) -> set[str]:
    """The top-level names that a fresh interpreter has after importing modules."""
    program = f"import sys, json\nfor name in {modules!r}: __import__(name)\n"
    program += "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_no_head_imports_torch() -> None:
    found = kinds.names()
    assert "drill" in found
    commands = [f"labqueue.cli.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE / "cli")])]
    assert len(commands) > 5
    heads = (*LIGHT_HEADS, *commands, *(f"labqueue.kinds.{name}" for name in found))
    assert not imported_by(*heads) & set(HEAVY)


def test_help_imports_neither_the_store_nor_a_validation_library() -> None:
    assert not imported_by("labqueue.cli.main") & {*HEAVY, "sqlalchemy", "pydantic", "alembic", "huey", "numpy", "rich"}


OWNERS = {
    "sqlalchemy": "store",
    "alembic": "store",
    "pysqlite3": "store",
    "huey": "system/wakeups.py",
    "fastapi": "api",
    "torch": "llm",
    "transformers": "llm",
    "peft": "llm",
    "trl": "llm",
    "bitsandbytes": "llm",
    "unsloth": "llm",
}
"""Who alone may name a library, read from the sources, functions' own imports included."""


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_named_only_where_it_belongs(library: str) -> None:
    owner = PACKAGE / OWNERS[library]
    assert owner.exists()
    strangers = []
    sources = list(PACKAGE.rglob("*.py"))
    assert len(sources) > 40
    for path in sources:
        names = [
            name
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        ]
        if any(name.partition(".")[0] == library for name in names) and not path.is_relative_to(owner):
            strangers.append(str(path.relative_to(PACKAGE)))
    assert strangers == []


def test_imports_point_down_only() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


MAX_LINES = 400
"""More than a reader keeps in mind at once (design, section 1)."""


def test_every_module_can_be_read_in_one_go() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert len(lines) > 40
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


MAX_MODULES = 14
"""Of a folder, beside its sub-packages: more than can be chosen from at a glance."""


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    """Of ``cli`` each module is a command, found by its name."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    counts = Counter(str(path.parent.relative_to(PACKAGE)) for path in modules)
    assert len(counts) > 20
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {"cli": counts["cli"]}


SMALL_LINES = 60

SMALL = {
    "attempt/exit_codes.py": "what a run's process tells its worker by its end",
    "attempt/resumption.py": "which checkpoint a run goes on from",
    "domain/canonical.py": "one text for equal values: what hashes and reuse rest on",
    "domain/downsample.py": "fewer points of a curve, with its spikes: knows nothing of who draws them",
    "domain/measured.py": "which values can be averaged: asked by the store, searches and reports alike",
    "domain/spec/registration.py": "what makes two predictions the same claim: asked by the spec and the store",
    "domain/spec/names.py": "what an experiment may be called; commands ask it before pydantic is imported",
    "domain/spec/strict.py": "how what people write is read: base of specs, predictions and parameters",
    "domain/values.py": "what the results store can hold: asked by the spec and the store alike",
    "kinds/_host.py": "what a run computes in and imports here: asked by several kinds",
    "kinds/_pins.py": "which model, exactly: fields of several kinds",
    "llm/corpora/choice.py": "which tokenizer, as parameters: asked by kinds",
    "kinds/pretrain/metrics.py": "what a pretraining run declares of its metrics and artifacts",
    "llm/attention.py": "the names that scripts know",
    "llm/load.py": "the name that scripts know",
    "llm/warm.py": "imports ahead: importing it is what it does",
    "llm/memory/coefficients.py": "the fitted numbers alone: written anew at each refit",
    "report/declarations.py": "what the kinds of reported runs declare, where they can be asked",
    "report/document/blocks.py": "the parts of a document, below all that make and render them",
    "report/document/costs.py": "the section on memory and time",
    "report/document/formatting.py": "numbers, times and run ids as a report writes them",
    "report/figures/metric_order.py": "which metrics come first, in tables and figures",
    "store/address.py": "SQLite's names for a file: to work with, or only to look at",
    "store/migrations/env.py": "Alembic's own",
    "store/migrations/in_use.py": "whether an older worker still works here: asked before migrating",
    "store/queries/measured_memory.py": "what like runs really reserved",
    "store/migrations/versions/0004_samples.py": "one step of the schema, whole, as Alembic wants it",
    "store/migrations/version_3.py": "what an export of that version lacks: each version's is a module of its own",
    "store/sqlite.py": "driver and safe version, below the store, its backup and its migrations",
}
"""Modules under SMALL_LINES lines, and the concept that each names; what is half of a thought belongs to its neighbour.
Commands, packages' heads and ``__main__`` apart."""


def test_a_small_module_names_a_concept_of_its_own() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    small = {path.relative_to(PACKAGE) for path in paths if len(path.read_text().splitlines()) < SMALL_LINES}
    assert sorted(str(path) for path in small if path.parts[0] != "cli") == sorted(SMALL)


def test_the_store_reads_and_writes_without_the_mapper() -> None:
    """Importing and configuring it was a fifth of `labqueue status`."""
    files = [path for path in (PACKAGE / "store").rglob("*.py") if "migrations" not in path.parts]
    store = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    program = f"import sys\nfor name in {store!r}: __import__(name)\nprint('sqlalchemy.orm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(store) > 20
    assert done.stdout == "False\n"


def test_there_is_no_module_for_what_has_no_name() -> None:
    banned = {"utils", "util", "helpers", "misc", "common_utils", "manager", "service"}
    assert not {path.stem for path in PACKAGE.rglob("*.py")} & banned


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


@pytest.mark.parametrize(("root", "modules"), [("labqueue", 100), ("benchmarks", 30)])
def test_no_two_modules_import_each_other_not_even_by_way_of_others(root: str, modules: int) -> None:
    """Imports for type annotations count: what needs the other's name cannot be read without it."""
    graph = grimp.build_graph(root, cache_dir=None)
    assert len(graph.modules) > modules
    needed = {module: graph.find_upstream_modules(module) for module in graph.modules}
    circles = sorted((one, other) for one in needed for other in needed[one] if one < other and one in needed[other])
    assert circles == []


ANY = {"llm": (2, 3), "kinds": (0, 0)}
"""By room, how often ``Any`` stands for a value of which nothing is known, and how often for the values of a mapping of
JSON or of keyword arguments (``dict[str, Any]``; in ``llm`` those are ``llm.types.Json``). Lower them when it is fewer;
each of the former says why."""


def anys(tree: ast.AST) -> tuple[int, int]:
    """(alone, as values of a mapping with text keys): how often ``Any`` is named in annotations."""
    values = [
        node.slice.elts[1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("dict", "Mapping")
        and isinstance(node.slice, ast.Tuple)
        and ast.unparse(node.slice.elts[0]) == "str"
        and ast.unparse(node.slice.elts[1]) == "Any"
    ]
    every = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "Any"]
    return len(every) - len(values), len(values)


@pytest.mark.parametrize("room", ANY)
def test_models_tokenizers_and_trainers_are_typed(room: str) -> None:
    found = [anys(ast.parse(path.read_text())) for path in (PACKAGE / room).rglob("*.py")]
    assert (sum(alone for alone, _ in found), sum(values for _, values in found)) == ANY[room]


def test_any_is_counted_alone_and_in_mappings() -> None:
    assert anys(ast.parse("def f(a: Any, b: dict[str, Any], c: list[dict[str, Any]]) -> dict[int, Any]: ...")) == (2, 2)
