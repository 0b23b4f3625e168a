"""From YAML text to a spec, remembering where each key stands. Reads safely: no Python is ever evaluated."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from labqueue.domain import values
from labqueue.domain.errors import Conflict, LabError, nearest
from labqueue.domain.kind import Params
from labqueue.domain.spec import predictions
from labqueue.domain.spec.schema import Limits, Need, Override, RandomSweep, Spec, Sweep
from labqueue.domain.spec.search import Search

MAX_BYTES = 1_000_000
MAX_NODES = 200_000
"""A spec is written by hand; more than this is a mistake, or an attack by nested aliases."""
MAX_DEPTH = 64
"""Levels of lists and mappings inside each other: what the parser does with brackets grows with the square of them."""


@dataclass(frozen=True)
class Source:
    """A spec file's data, and the line (1-based) of each key by its dotted path."""

    file: str
    data: dict[str, Any]
    lines: dict[str, int]

    def error(self, message: str, key: str = "") -> LabError:
        """An error at the line of the key, or of its nearest enclosing key."""
        at = key
        while at and at not in self.lines:
            at = at.rpartition(".")[0]
        return LabError(message, file=self.file, line=self.lines.get(at), key=key or None)


def read(path: Path) -> Source:
    """Reads a YAML 1.2 file.

    Raises:
        LabError: it is missing, a folder, unreadable, too large, not YAML, not a mapping, or repeats a key.
    """
    if path.is_dir():
        raise LabError(f"{path} is a folder; name one spec in it, for example with `ls {path}/*.yaml`", file=str(path))
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise LabError(f"there is no file {path}: {nearest(path.name, near)}", file=str(path)) from None
    except OSError as error:
        raise LabError(f"cannot read {path}: {error.strerror}", file=str(path)) from error
    if len(raw) > MAX_BYTES:
        raise LabError(f"{path} has {len(raw):,} bytes; a spec has at most {MAX_BYTES:,}", file=str(path))
    try:
        return parse(raw.decode(), str(path))
    except UnicodeDecodeError as error:
        raise LabError(f"{path} is not UTF-8 text (byte {error.start})", file=str(path)) from error


def questions_of(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Experiment → question ids, of every spec below the folders; folders that are not there have none, and specs
    that cannot be read speak to none."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            try:
                data = read(path).data
            except LabError:
                continue
            name, ids = data.get("name"), data.get("questions")
            if isinstance(name, str) and isinstance(ids, list):
                found[name] = list(dict.fromkeys([*found.get(name, []), *(one for one in ids if isinstance(one, str))]))
    return found


def parse(text: str, file: str) -> Source:
    """Parses YAML text that came from ``file``; raises LabError as ``read`` does."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _shallow_composer()
    lines: dict[str, int] = {}
    try:
        root = yaml.compose(text)
        if root is None:
            raise LabError("the file is empty; `labqueue new NAME --kind K` writes a commented spec", file=file)
        _walk(root, "", lines, [MAX_NODES], file)
        data = yaml.constructor.construct_document(root)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise LabError(f"not valid YAML: {what}", file=file, line=mark.line + 1 if mark else None) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise LabError(f"not valid YAML: {' '.join(str(error).split())}", file=file) from error
    if not isinstance(data, dict):
        raise LabError(f"a spec is a mapping of keys, this is {_word(data)}", file=file, line=1)
    return Source(file, _plain(data, "", Source(file, {}, lines)), lines)


def _shallow_composer() -> Any:
    """The parser's composer, which stops at the line where values are too deep, before it has read any further."""
    from ruamel.yaml.composer import Composer, ComposerError

    class Shallow(Composer):
        levels = 0  # not `depth`: newer versions of the parser count in that, and older ones have no limit

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.levels += 1
            if self.levels > MAX_DEPTH:
                mark = self.parser.peek_event().start_mark
                raise ComposerError(None, None, f"values are over {MAX_DEPTH} levels deep; a spec needs few", mark)
            node = super().compose_node(parent, index)
            self.levels -= 1
            return node

    return Shallow


def _walk(node: Any, path: str, lines: dict[str, int], budget: list[int], file: str) -> None:
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    budget[0] -= 1
    if budget[0] < 0:
        raise LabError(f"the spec has over {MAX_NODES:,} values (nested aliases?)", file=file)
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            inner = f"{path}.{key.value}" if path else str(key.value)
            line, name = key.start_mark.line + 1, (str(key.tag), str(key.value))
            if name in first:
                words = f"the key {inner!r} stands twice, first at line {first[name]}; keep one"
                raise LabError(words, file=file, line=line, key=inner)
            first[name] = line
            lines.setdefault(inner, line)
            _walk(value, inner, lines, budget, file)
    elif isinstance(node, SequenceNode):
        for at, value in enumerate(node.value):
            _walk(value, f"{path}.{at}", lines, budget, file)


def _plain(value: Any, path: str, source: Source) -> Any:
    """The value itself where JSON can hold it; ``source`` knows the lines."""
    inside = f"{path}: " if path else ""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                words = f"{inside}keys are text, this one is {_word(key)} {key!r}; put it in quotes"
                raise source.error(words, f"{path}.{key}" if path else str(key))
            fault = values.fault(_joined(key))
            if fault is not None:
                raise source.error(f"{inside}the key {key!r} {fault}", path)
        return {_joined(key): _plain(inner, f"{path}.{key}" if path else key, source) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, f"{path}.{at}", source) for at, inner in enumerate(value)]
    if isinstance(value, datetime.date):
        raise source.error(f"{inside}{value} reads as a date; put it in quotes to make it text", path)
    if isinstance(value, bytes | set):
        raise source.error(f"{inside}{_word(value)} values are not allowed in a spec", path)
    if isinstance(value, float) and not math.isfinite(value):
        raise source.error(f"{inside}{value} is not a finite number", path)
    value = _joined(value) if isinstance(value, str) else value
    fault = values.fault(value) if isinstance(value, int | str) else None
    if fault is not None:
        shown = repr(value)
        raise source.error(f"{inside}{shown[:80]}{'…' if len(shown) > 80 else ''} {fault}", path)
    return value


def _joined(text: str) -> str:
    """A text in which each pair of surrogates is the one letter that it stands for: JSON writes an emoji as a pair,
    which YAML leaves as two. One with half of a pair stays as it is."""
    try:
        return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return text


def to_spec(source: Source) -> Spec:
    """Validates a source as a spec.

    Raises:
        LabError: an unknown key, a wrong type or a forbidden value, at its line.
    """
    try:
        return Spec.parse(source.data)
    except ValidationError as error:
        raise first_error(error, source, "", Spec) from error


def first_error(error: ValidationError, source: Source, prefix: str, model: type[BaseModel]) -> LabError:
    """The first problem of a validation as one sentence: key, value, and the nearest valid key or type."""
    renamed = renamed_key(error, model)
    if renamed is not None:
        old, new = (".".join(filter(None, [prefix, name])) for name in renamed)
        return source.error(f"{old} is called {new} now: write {new.rpartition('.')[2]}", old)
    problems = _of_one_value(error)
    problem = problems[0]
    loc = [str(part) for part in problem["loc"] if not _is_variant(part)]
    key = ".".join(filter(None, [prefix, *loc]))
    if problem["type"] == "extra_forbidden":
        owner = _fields(model, loc[:-1])
        where = ".".join(filter(None, [prefix, *loc[:-1]])) or "the spec"
        return source.error(f"unknown key {loc[-1]!r} in {where}: {nearest(loc[-1], owner)}", key)
    if problem["type"] == "missing":
        return source.error(f"the key {key!r} is missing", key)
    conflict = problem.get("ctx", {}).get("error")
    if isinstance(conflict, Conflict):  # of a whole mapping pydantic would show the first letters of all its keys
        key = ".".join(filter(None, [key, conflict.key]))
        return source.error(f"{key}: {conflict}", key)
    got = problem["input"]
    shown = repr(got)
    shown = f"{shown[:80]}…" if len(shown) > 80 else shown
    words = ", or: ".join(dict.fromkeys(each["msg"].removeprefix("Value error, ") for each in problems))
    choices = re.findall(r"'([^']*)'", problem.get("ctx", {}).get("expected", ""))
    if problem["type"] == "literal_error" and isinstance(got, str):
        words = f"Input should be one of these: {nearest(got, choices)}"
    return source.error(f"{key or 'the spec'}: {words} (got {_word(got)} {shown})", key)


def renamed_key(error: ValidationError, model: type[BaseModel]) -> tuple[str, str] | None:
    """Of the keys that a validation refused as unknown, the first that has another name now: (dotted, as it is now).

    Before any other problem: what the same key lacks under its new name is no news.
    """
    for problem in error.errors():
        if problem["type"] == "extra_forbidden":
            *path, old = [str(part) for part in problem["loc"] if not _is_variant(part)]
            for owner in _models_at(model, path):
                if issubclass(owner, Params) and old in owner.RENAMED:
                    return ".".join([*path, old]), ".".join([*path, owner.RENAMED[old]])
    return None


def _of_one_value(error: ValidationError) -> list[Any]:
    """The first problem, with those of the other forms that the same value could have had.

    Of a value with several forms (a name or a mapping), a problem inside it says more than "is not a name".
    """

    def path(problem: Any) -> list[str]:
        return [str(part) for part in problem["loc"] if not _is_variant(part)]

    problems = error.errors()
    first = path(problems[0])
    inside = [each for each in problems if path(each)[: len(first)] == first]
    deeper = [each for each in inside if len(path(each)) > len(first)]
    return deeper[:1] or inside


_MODELS: tuple[type[BaseModel], ...] = (
    Spec,
    Sweep,
    Limits,
    Need,
    Override,
    RandomSweep,
    Search,
    predictions.Prediction,
)


def _is_variant(part: str | int) -> bool:
    # pydantic names the member of a union in the location: "Need", "literal['auto']", "float", "function-after[…]".
    text = str(part)
    return (
        "[" in text
        or text in {"int", "float", "str", "bool", "none", "constrained-str", "constrained-int"}
        or any(text == model.__name__ for model in _MODELS)
    )


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that are valid at a path below a model; empty where any key is."""
    return [field.alias or name for owner in _models_at(model, path) for name, field in owner.model_fields.items()]


def _models_at(model: type[BaseModel], path: list[str]) -> list[type[BaseModel]]:
    """The models that a value at a path below a model can be of."""
    current: list[type[BaseModel]] = [model]
    for part in path:
        following: list[type[BaseModel]] = []
        for owner in current:
            for name, field in owner.model_fields.items():
                if part in (name, field.alias):
                    following += _models_in(field.annotation)
        # A key of a mapping or an index of a list stays with the models found.
        current = following or current
    return current


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]


def _word(value: object) -> str:
    names: dict[type, str] = {
        dict: "a mapping", list: "a list", str: "the text", int: "the number", float: "the number",
        bool: "the truth value", type(None): "nothing,", set: "set", bytes: "binary",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)
