"""From YAML text to a spec, remembering where each key stands. Reads safely: no Python is ever evaluated."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from labqueue.domain import predictions
from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError, nearest
from labqueue.domain.spec import Limits, Need, Override, RandomSweep, Spec, Sweep

MAX_BYTES = 1_000_000
MAX_NODES = 200_000
"""A spec is written by hand; more than this is a mistake, or an attack by nested aliases."""


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


def parse(text: str, file: str) -> Source:
    """Parses YAML text that came from ``file``; raises LabError as ``read`` does."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    lines: dict[str, int] = {}
    try:
        root = yaml.compose(text)
        if root is None:
            raise LabError("the file is empty; `labqueue new NAME --kind K` writes a commented spec", file=file)
        _walk(root, "", lines, [MAX_NODES], file)
        data = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise LabError(f"not valid YAML: {what}", file=file, line=mark.line + 1 if mark else None) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise LabError(f"not valid YAML: {error}", file=file) from error
    if not isinstance(data, dict):
        raise LabError(f"a spec is a mapping of keys, this is {_word(data)}", file=file, line=1)
    return Source(file, _plain(data, file), lines)


def _walk(node: Any, path: str, lines: dict[str, int], budget: list[int], file: str) -> None:
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    budget[0] -= 1
    if budget[0] < 0:
        raise LabError(f"the spec has over {MAX_NODES:,} values (nested aliases?)", file=file)
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            inner = f"{path}.{key.value}" if path else str(key.value)
            lines.setdefault(inner, key.start_mark.line + 1)
            _walk(value, inner, lines, budget, file)
    elif isinstance(node, SequenceNode):
        for at, value in enumerate(node.value):
            _walk(value, f"{path}.{at}", lines, budget, file)


def _plain(value: Any, file: str) -> Any:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise LabError(f"keys are text, this one is {_word(key)} {key!r}; put it in quotes", file=file)
        return {key: _plain(inner, file) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, file) for inner in value]
    if isinstance(value, datetime.date):
        raise LabError(f"{value} reads as a date; put it in quotes to make it text", file=file)
    if isinstance(value, bytes | set):
        raise LabError(f"{_word(value)} values are not allowed in a spec", file=file)
    return value


def to_spec(source: Source) -> Spec:
    """Validates a source as a spec.

    Raises:
        LabError: an unknown key, a wrong type or a forbidden value, at its line.
    """
    try:
        return Spec.model_validate_json(canonical(source.data))
    except ValidationError as error:
        raise first_error(error, source, "", Spec) from error
    except ValueError as error:
        raise source.error(f"a number in it is not finite: {error}") from error


def first_error(error: ValidationError, source: Source, prefix: str, model: type[BaseModel]) -> LabError:
    """The first problem of a validation as one sentence: key, value, and the nearest valid key or type."""
    problem = error.errors()[0]
    loc = [str(part) for part in problem["loc"] if not _is_variant(part)]
    key = ".".join(filter(None, [prefix, *loc]))
    if problem["type"] == "extra_forbidden":
        owner = _fields(model, loc[:-1])
        where = ".".join(filter(None, [prefix, *loc[:-1]])) or "the spec"
        return source.error(f"unknown key {loc[-1]!r} in {where}: {nearest(loc[-1], owner)}", key)
    if problem["type"] == "missing":
        return source.error(f"the key {key!r} is missing", ".".join(key.split(".")[:-1]))
    got = problem["input"]
    shown = repr(got)
    shown = f"{shown[:80]}…" if len(shown) > 80 else shown
    words = problem["msg"].removeprefix("Value error, ")
    return source.error(f"{key or 'the spec'}: {words} (got {_word(got)} {shown})", key)


_MODELS: tuple[type[BaseModel], ...] = (Spec, Sweep, Limits, Need, Override, RandomSweep, predictions.Prediction)


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
    current: list[type[BaseModel]] = [model]
    for part in path:
        following: list[type[BaseModel]] = []
        for owner in current:
            for name, field in owner.model_fields.items():
                if part in (name, field.alias):
                    following += _models_in(field.annotation)
        # A key of a mapping or an index of a list stays with the models found.
        current = following or current
    return [field.alias or name for owner in current for name, field in owner.model_fields.items()]


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
