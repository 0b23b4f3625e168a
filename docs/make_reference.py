"""Writes ``docs/reference/`` from the code: keys of a spec, kinds, commands. ``python docs/make_reference.py``.

A test compares what it makes with what lies there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from labqueue import kinds
from labqueue.cli.main import COMMANDS, cli
from labqueue.domain.spec import predictions, schema, search

FOLDER = Path(__file__).resolve().parent / "reference"

MODELS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("the spec", schema.Spec),
    ("sweep", schema.Sweep),
    ("sweep.random", schema.RandomSweep),
    ("sweep.search", search.Search),
    ("profiles.NAME", schema.Override),
    ("limits", schema.Limits),
    ("needs[]", schema.Need),
    ("from_run", schema.FromRun),
    ("predictions[]", predictions.Prediction),
    ("predictions[].compare", predictions.Compare),
    ("predictions[].trend", predictions.Trend),
    ("predictions[].threshold", predictions.Threshold),
    ("predictions[].best_at", predictions.BestAt),
    ("predictions[].crosses", predictions.Crosses),
    ("plots[]", schema.MetricPair),
)


def pages() -> dict[str, str]:
    """Text of each file, by its name."""
    return {"spec.md": _spec(), "kinds.md": _kinds(), "commands.md": _commands()}


def _spec() -> str:
    parts = ["# Keys of a spec", "An unknown key is refused with the nearest known one; types are strict."]
    for title, model in MODELS:
        parts += [f"## {title}", _plain(model.__doc__), _table(model.model_json_schema())]
    return _joined(parts)


def _kinds() -> str:
    parts = ["# Kinds of experiment", "The keys of `params`. A kind is one file or one package in `labqueue/kinds/`."]
    for name in kinds.names():
        kind = kinds.get(name)
        parts += [f"## {name}", kind.about, _table(kind.params.model_json_schema())]
    return _joined(parts)


def _commands() -> str:
    parts = [
        "# Commands",
        "Exit status: 0 done, 1 a run or check failed, 2 the request is wrong, 3 the workspace moved, 4 device held.",
    ]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli, info_name="labqueue"), name)
        assert command is not None
        context = click.Context(command, info_name=f"labqueue {name}")
        usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
        parts += [f"## {name}", f"`{usage}`", _plain(command.help)]
        rows = [found for each in command.get_params(context) if (found := each.get_help_record(context))]
        parts.append(_rows(("option", "does"), [(f"`{option}`", _plain(does)) for option, does in rows if does]))
    return _joined(parts)


def _table(schema: dict[str, Any]) -> str:
    return _rows(("key", "type", "default", "about"), list(_fields(schema, schema.get("$defs", {}), "")))


def _fields(schema: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[tuple[str, ...]]:
    for key, field in schema["properties"].items():
        inner = definitions.get(str(field.get("$ref", "")).rpartition("/")[2], {})
        default = f"`{_value(field['default'])}`" if "default" in field else "required"
        default = "" if "properties" in inner and "default" in field else default  # its own keys say it
        yield (
            f"`{prefix}{key}`",
            _type(field, definitions),
            default,
            _plain(field.get("description") or inner.get("description")),
        )
        if prefix.count(".") < 2 and "properties" in inner:
            yield from _fields(inner, definitions, f"{prefix}{key}.")


def _type(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in field:
        target = definitions[field["$ref"].rpartition("/")[2]]
        return _type(target, definitions) if "properties" not in target else "keys"
    if "enum" in field or "const" in field:
        return " \\| ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "anyOf" in field:
        return " \\| ".join(dict.fromkeys(_type(part, definitions) for part in field["anyOf"]))
    name = str(field.get("type", "any"))
    if name == "array" and isinstance(items := field.get("items"), dict):
        return f"list of {_type(items, definitions)}"
    return {"object": "keys"}.get(name, name) + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f" {sign} {field[name]:,}" for name, sign in signs.items() if name in field)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str | None) -> str:
    """One paragraph; double backquotes become Markdown's."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join((text or "").split())).replace(" | ", " \\| ")


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> None:
    """Writes every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
