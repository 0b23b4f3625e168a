"""Rows as they stand in files: one object each, with a question and an answer, or a conversation. No torch.

A row without an answer is not a row to learn from; it is counted, and ``sources`` decides. What is in the objects and
is not used is counted, too, and said in a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.llm.data.files import formats, turns
from labqueue.llm.data.files.turns import Seen, Turn, plain
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.types import Json

QUESTION_KEYS = ("question", "prompt")
ANSWER_KEYS = ("answer", "completion")
CONVERSATION_KEYS = ("messages", "conversations", "conversation")

MOST_TABLES = 4
"""Keys of an object that is taken for a whole set, with a list of rows under each (train, validation, test)."""

NAMED_COLUMNS = 12
"""Unused columns that a note names; it says how many there are besides."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a row are what. ``question`` columns are joined by an empty line, empty ones left out."""

    question: tuple[str, ...] = ()
    answer: str | None = None
    messages: str | None = None


@dataclass(frozen=True)
class Found:
    """Rows of one source, and the numbers of those that have no answer. ``place`` says where a number points, ``notes``
    what form the rows have and what of them is not used."""

    rows: list[Row]
    unanswered: list[int]
    name: str
    place: str
    notes: tuple[str, ...] = ()


def check_file(path: Path, key: str = "data.path") -> None:
    """Does nothing for a readable file.

    Raises:
        LabError: there is no such file, or it is a folder or a device.
    """
    path = path.expanduser()
    if path.is_dir():
        raise LabError(f"data file {str(path)!r} is a folder; name a file of rows in it", key=key)
    if path.exists() and not path.is_file():
        raise LabError(f"data file {str(path)!r} is no plain file (a device or a pipe); save its rows as one", key=key)
    if not path.is_file():
        raise LabError(
            f"data file {str(path)!r} does not exist (relative paths start at {str(Path.cwd())!r}); "
            "write one JSON object a line with question and answer, or use data.task",
            key=key,
        )


def read_file(
    path: Path, columns: Columns | None = None, key: str = "data.path", *, sha256: str | None = None
) -> Found:
    """Rows of a file in a format of ``formats``. A row is ``{"question" or "prompt": text, "answer" or "completion":
    text}``, or ``{"messages": [{"role": …, "content": …}, …]}``, or ShareGPT's ``conversations``, or Alpaca's
    ``instruction``, ``input``, ``output``, or what ``columns`` say. ``sha256`` (hex): what the file must have.

    Raises:
        LabError: a missing file, another content or format, or a bad row, with its line or row.
    """
    check_file(path, key)
    path = path.expanduser()
    data = formats.contents(path, key, sha256)
    opened = formats.objects(data, str(path), key)

    def where(number: int) -> Json:
        return {"file": str(path), "line": number if opened.place == "line" else None}

    return collect(opened.values, columns, path.name, opened.place, where, opened.form)


def collect(
    values: Iterable[tuple[int, object]],
    columns: Columns | None,
    name: str,
    place: str,
    where: Callable[[int], Json],
    form: str = "",
) -> Found:
    """Rows from ``(number, object)``; ``where(number)`` are the keyword arguments that place a ``LabError``, ``form``
    is the file's format.

    Raises:
        LabError: a bad row.
    """
    rows: list[Row] = []
    unanswered: list[int] = []
    seen = Seen()
    for number, value in values:
        try:
            if not isinstance(value, dict):
                cure = 'write {"question": "…", "answer": "…"}'
                raise LabError(f"a row is an object, not {type(value).__name__}: {cure}")
            row = _Reader(value, seen).row(columns or Columns(), number)
        except LabError as error:
            at = where(number)
            said = error.message if at.get("line") is not None else f"{place} {number}: {error.message}"
            raise LabError(said, **at) from None
        if row is None:
            unanswered.append(number)
        else:
            rows.append(row)
    if unanswered and not rows and seen.without_answer_column == len(unanswered):
        raise LabError(
            f"no row of {name} has a column {' or '.join(ANSWER_KEYS)}; the columns are {', '.join(seen.columns)}: "
            "name the one that holds the answers as data.columns.answer, or add it",
            key="data",
        )
    return Found(rows, unanswered, name, place, _notes(seen, name, form))


def _notes(seen: Seen, name: str, form: str) -> tuple[str, ...]:
    forms = ", ".join(f"{count} rows of {form}" for form, count in seen.forms.most_common())
    notes = [f"{name} is read as {form}: {forms}"] if form and forms else []
    if seen.unused:
        notes.append(f"{name} has columns that are not used: {_counted(seen.unused)}")
    if seen.unused_in_turns:
        notes.append(f"{name} has keys of messages that are not used: {_counted(seen.unused_in_turns)}")
    if seen.greeted:
        notes.append(
            f"{seen.greeted} conversations of {name} begin with the assistant: what it says before anybody asks is "
            "shown and not learned"
        )
    if seen.unlearned:
        notes.append(f"{seen.unlearned} turns of {name} have weight 0 or train false and are not learned")
    return tuple(notes)


def _counted(names: Counter[str]) -> str:
    named = ", ".join(f"{name} ({count})" for name, count in names.most_common(NAMED_COLUMNS))
    return named + (f" and {len(names) - NAMED_COLUMNS} more" if len(names) > NAMED_COLUMNS else "")


class _Reader:
    """One object, and which of its columns have been used. Null means that there is none."""

    def __init__(self, value: Json, seen: Seen) -> None:
        self.whole = value
        self.value = {name: each for name, each in value.items() if each is not None}
        self.seen, self.used = seen, set[str]()

    def row(self, columns: Columns, number: int) -> Row | None:
        """The row, or None where it has no answer."""
        named = bool(columns.question or columns.answer)
        talk = columns.messages or next((key for key in CONVERSATION_KEYS if key in self.value and not named), None)
        if talk is not None:
            form, row = talk, self._conversation(talk, number)
        elif not named and "instruction" in self.value and ("output" in self.value or not self._given(QUESTION_KEYS)):
            form, row = "instruction and output", self._instruction(number)
        else:
            form, row = self._question(columns, number)
        self.seen.forms[form] += 1
        for name, each in self.value.items():
            if name not in self.used and each not in ("", [], {}):
                self.seen.unused[name] += 1
        return row

    def _conversation(self, name: str, number: int) -> Row | None:
        found = turns.read(self._cell(name), self.seen, name)
        if found[0].role != "system":
            found = self._system() + found
        return turns.conversation(found, number, self.seen, tools=turns.tools(self._take("tools")))

    def _instruction(self, number: int) -> Row | None:
        asked = "\n\n".join(part for name in ("instruction", "input") if (part := self._text(name)).strip())
        return self._asked(asked, self._text("output"), number, history=self._history())

    def _question(self, columns: Columns, number: int) -> tuple[str, Row | None]:
        if columns.question:
            parts = [plain(self._cell(name), name) for name in columns.question]
            asked, names = "\n\n".join(part for part in parts if part.strip()), " and ".join(columns.question)
        else:
            names = self._one_of(QUESTION_KEYS)
            if isinstance(self.value[names], list):
                raise LabError(
                    f"{names} is a list: write it and its answer as one list of {{role, content}} in messages"
                )
            asked = self._text(names)
        if columns.answer is not None:
            name = columns.answer
            self._cell(name)
        else:
            name = self._one_of(ANSWER_KEYS) if self._given(ANSWER_KEYS) else ANSWER_KEYS[0]
            if not any(key in self.whole for key in ANSWER_KEYS):
                self.seen.without_answer_column += 1
                self.seen.columns = tuple(map(str, self.whole))
        return f"{names} and {name}", self._asked(asked, self._text(name), number)

    def _asked(self, question: str, answer: str, number: int, history: tuple[Turn, ...] = ()) -> Row | None:
        if not question.strip():
            raise LabError(f"the question must be text that is not empty, got {question!r}")
        before = [*self._system(), *history]
        if before and answer.strip():
            whole = [*before, Turn("user", question), Turn("assistant", answer)]
            return turns.conversation(whole, number, self.seen)
        return Row(question, answer, number) if answer.strip() else None

    def _history(self) -> tuple[Turn, ...]:
        found = turns.unpacked(self._take("history"), "history")
        if not found:
            return ()
        if not isinstance(found, list):
            raise LabError(f"history is a list of [question, answer], got {found!r}")
        made: list[Turn] = []
        for pair in found:
            if not isinstance(pair, list) or len(pair) != 2:
                raise LabError(f"history is a list of [question, answer], got {pair!r}")
            made += [Turn("user", plain(pair[0], "history")), Turn("assistant", plain(pair[1], "history"))]
        return tuple(made)

    def _system(self) -> list[Turn]:
        words = self._text("system")
        return [Turn("system", words)] if words.strip() else []

    def _given(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if name in self.value]

    def _one_of(self, names: tuple[str, ...]) -> str:
        given = self._given(names)
        if len(given) != 1:
            found = ", ".join(map(str, self.value)) or "nothing"
            tables = [
                name
                for name, each in self.value.items()
                if isinstance(each, list) and each and isinstance(each[0], dict)
            ]
            if not given and len(self.value) <= MOST_TABLES and tables:
                rows = f"{len(self.value[tables[0]])} objects under {tables[0]!r}"
                raise LabError(f"is no row: it holds {rows}; save such a list alone as the file, it is read as rows")
            raise LabError(
                f"needs exactly one of {' or '.join(names)}; found {found}. It can have messages (or ShareGPT's "
                "conversations, or Alpaca's instruction and output) instead, and data.columns can name other columns"
            )
        return given[0]

    def _cell(self, name: str) -> object:
        """What stands in a column that must be there; None where it is null."""
        if name not in self.whole:
            found = ", ".join(map(str, self.whole)) or "nothing"
            raise LabError(f"has no column {name!r} (data.columns); found {found}")
        return self._take(name)

    def _take(self, name: str) -> object:
        self.used.add(name)
        return self.value.get(name)

    def _text(self, name: str) -> str:
        return plain(self._take(name), name)
