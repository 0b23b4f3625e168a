"""The question log: what ``QUESTIONS.md`` says, in a strict shape. Knows no file system and no results store.

A question is a heading ``## Q7: text``, then fields as a list, then free text, then two optional lists::

    ## Q7: Is rank or step size what matters?
    - Status: exploring
    - Source: where the question comes from
    - Superseded by: Q9
    - Evidence: experiment lora_rank, runs 1-12

    Why it is asked, in free text.

    ### Sub-questions
    - [ ] still open
    - [x] settled

    ### Progress
    - 2026-01-31: what became known

A list item goes on in lines that are indented by two spaces. What stands before the first question is an introduction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from labqueue.domain.errors import LabError, nearest

MAX_CITED = 100_000
"""Runs that one line of evidence may name: more is a slip of the pen."""


class Status(StrEnum):
    """How far a question is."""

    OPEN = "open"
    EXPLORING = "exploring"
    ANSWERED = "answered"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class SubQuestion:
    """A part of a question. ``settled`` is its tick."""

    text: str
    settled: bool


@dataclass(frozen=True)
class Citation:
    """Runs that a question rests on."""

    experiment: str
    runs: tuple[int, ...]
    line: int


@dataclass(frozen=True)
class Question:
    """One question as it stands in the file; ``line`` (1-based) is its heading's."""

    id: str
    text: str
    status: Status
    source: str
    about: str
    sub_questions: tuple[SubQuestion, ...]
    progress: tuple[str, ...]
    superseded_by: str | None
    cited: tuple[Citation, ...]
    line: int


FIELDS = ("Status", "Source", "Superseded by", "Evidence")
PARTS = ("Sub-questions", "Progress")


@dataclass
class _Draft:
    line: int
    id: str
    text: str
    fields: list[tuple[int, str, str]] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    parts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


def parse(text: str, file: str) -> list[Question]:
    """All questions of a log, in its order. ``file`` is named in errors.

    Raises:
        LabError: the log is not of the shape above; the message names file and line.
    """
    questions = [_question(draft, file) for draft in _drafts(text, file)]
    lines: dict[str, int] = {}
    for question in questions:
        if question.id in lines:
            words = f"{question.id} stands twice, first at line {lines[question.id]}; give one of them a free number"
            raise LabError(words, file=file, line=question.line, key=question.id)
        lines[question.id] = question.line
    for question in questions:
        after = question.superseded_by
        if after is not None and (after == question.id or after not in lines):
            words = f"{question.id} is superseded by {after}: name another question; {nearest(after, lines)}"
            raise LabError(words, file=file, line=question.line, key=question.id)
    return questions


def _drafts(text: str, file: str) -> Iterator[_Draft]:
    draft: _Draft | None = None
    part: str | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.rstrip()
        if line.startswith("## "):
            if draft is not None:
                yield draft
            found = re.fullmatch(r"## (Q[1-9][0-9]{0,5}): (\S.*)", line)
            if found is None:
                raise LabError(f"{line!r} is no question: write `## Q7: what is asked`", file=file, line=number)
            draft, part = _Draft(number, found[1], found[2]), None
        elif draft is None or not line:
            if draft is not None and part is None and draft.about:
                draft.about.append("")
        elif line.startswith("### "):
            part = line.removeprefix("### ").strip()
            if part not in PARTS:
                raise LabError(f"unknown part {part!r} of {draft.id}: {nearest(part, PARTS)}", file=file, line=number)
            if part in draft.parts:
                raise LabError(f"{draft.id} has {part!r} twice; put the two lists together", file=file, line=number)
            draft.parts[part] = []
        elif part is not None:
            _item(draft.parts[part], line, number, file, f"{part} of {draft.id}")
        elif draft.about or not (line.startswith(("- ", "  "))):
            draft.about.append(line)
        else:
            _field(draft, line, number, file)
    if draft is not None:
        yield draft


def _item(items: list[tuple[int, str]], line: str, number: int, file: str, where: str) -> None:
    if line.startswith("- "):
        items.append((number, line.removeprefix("- ").strip()))
    elif line.startswith("  ") and items:
        items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}")
    else:
        words = f"{where} is a list: begin with `- `, and indent by two spaces what goes on"
        raise LabError(words, file=file, line=number)


def _field(draft: _Draft, line: str, number: int, file: str) -> None:
    if line.startswith("  "):
        if not draft.fields:
            words = f"{draft.id} begins with an indented line; begin with `- Status: open`"
            raise LabError(words, file=file, line=number)
        first, name, value = draft.fields[-1]
        draft.fields[-1] = (first, name, f"{value} {line.strip()}")
        return
    name, colon, value = line.removeprefix("- ").partition(":")
    if not colon or name not in FIELDS:
        raise LabError(f"unknown field {name!r} of {draft.id}: {nearest(name, FIELDS)}", file=file, line=number)
    if not value.strip():
        raise LabError(f"{name} of {draft.id} is empty; fill it in or leave the line out", file=file, line=number)
    if name != "Evidence" and any(name == known for _, known, _ in draft.fields):
        raise LabError(f"{draft.id} has {name!r} twice; keep one", file=file, line=number)
    draft.fields.append((number, name, value.strip()))


def _question(draft: _Draft, file: str) -> Question:
    def wrong(words: str, line: int = draft.line) -> LabError:
        return LabError(f"{draft.id} {words}", file=file, line=line, key=draft.id)

    fields = {name: (line, value) for line, name, value in draft.fields}
    for name in ("Status", "Source"):
        if name not in fields:
            raise wrong(f"has no {name}; add `- {name}: …` below its heading")
    line, word = fields["Status"]
    if word not in list(Status):
        raise wrong(f"has the status {word!r}: {nearest(word, Status)}", line)
    status = Status(word)
    cited = tuple(_citation(draft.id, words, at, file) for at, name, words in draft.fields if name == "Evidence")
    after = fields["Superseded by"][1] if "Superseded by" in fields else None
    if status is Status.ANSWERED and not cited:
        raise wrong("is answered and cites nothing: add `- Evidence: experiment NAME, runs 1-6`", line)
    if status is Status.OPEN and cited:
        raise wrong("is open and has evidence: make it exploring, or answered", line)
    if (status is Status.SUPERSEDED) != (after is not None):
        raise wrong("is superseded exactly when `- Superseded by: Q7` says by what", line)
    return Question(
        id=draft.id,
        text=draft.text,
        status=status,
        source=fields["Source"][1],
        about="\n".join(draft.about).strip(),
        sub_questions=tuple(_sub(draft.id, words, at, file) for at, words in draft.parts.get("Sub-questions", [])),
        progress=tuple(words for _, words in draft.parts.get("Progress", [])),
        superseded_by=after,
        cited=cited,
        line=draft.line,
    )


def _sub(question: str, words: str, line: int, file: str) -> SubQuestion:
    found = re.fullmatch(r"\[([ x])\] (\S.*)", words)
    if found is None:
        words = f"a sub-question of {question} is `- [ ] text`, or `- [x] text` once settled"
        raise LabError(words, file=file, line=line)
    return SubQuestion(found[2], found[1] == "x")


def _citation(question: str, words: str, line: int, file: str) -> Citation:
    shape = "experiment NAME, runs 1-6, 9"
    found = re.fullmatch(r"experiment ([a-z0-9_]{1,64}), runs? ([0-9][0-9, -]*)", words)
    runs: list[int] = []
    for part in found[2].split(",") if found else []:
        span = re.fullmatch(r"\s*([0-9]{1,15})(?:\s*-\s*([0-9]{1,15}))?\s*", part)
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (1, 0)
        if first > last or last - first > MAX_CITED:
            runs = []
            break
        runs += range(first, last + 1)
    if found is None or not runs:
        raise LabError(f"evidence of {question} is `{shape}`, not {words!r}", file=file, line=line)
    return Citation(found[1], tuple(dict.fromkeys(runs)), line)
