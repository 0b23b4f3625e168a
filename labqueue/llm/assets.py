"""Fetches what must be on this machine before the night: models, data, generated tasks, by one kind of name.

A name is a model (``qwen2.5-7b-instruct``), ``file:PATH``, ``task:NAME``, ``corpus:NAME`` or ``corpus:PATH``,
``tokenizer:MODEL`` or ``hub:DATASET@REVISION#SUBSET``. Knows no torch and no runs.
"""

from __future__ import annotations

from pathlib import Path

from labqueue.llm.corpora import catalogue as corpora
from labqueue.llm.corpora import model_tokenizers
from labqueue.llm.data import hub_datasets
from labqueue.llm.data.files import records
from labqueue.llm.data.generated import tasks
from labqueue.llm.models import catalogue


def available(name: str) -> bool:
    """Whether a run could start now, as far as this asset goes.

    Raises:
        LabError: the name is unknown, whatever is done about it.
    """
    kind, _, rest = name.partition(":")
    if kind == "file":
        return Path(rest).expanduser().is_file()
    if kind == "task":
        tasks.check_task(rest)
        return True
    if kind == "corpus":
        return corpora.available(rest)
    if kind == "tokenizer":
        return model_tokenizers.available(rest)
    if kind == "hub":
        return hub_datasets.available(*_dataset(rest))
    return catalogue.available(name)


def fetch(name: str) -> None:
    """Makes the asset available on this machine.

    Raises:
        LabError: it cannot be; the message says what to do.
    """
    kind, _, rest = name.partition(":")
    if kind == "file":
        records.check_file(Path(rest))
    elif kind == "task":
        tasks.check_task(rest)
    elif kind == "corpus":
        corpora.fetch(rest)
    elif kind == "tokenizer":
        model_tokenizers.fetch(rest)
    elif kind == "hub":
        hub_datasets.fetch(*_dataset(rest))
    else:
        catalogue.fetch(name)


def _dataset(words: str) -> tuple[str, str, str | None]:
    named, _, subset = words.partition("#")
    name, _, revision = named.partition("@")
    return name, revision or "main", subset or None
