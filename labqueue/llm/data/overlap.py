"""Finds overlap between rows, so that nothing that is held out is trained on. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from labqueue.llm.data.generated.tasks import Row


def normal(text: str) -> str:
    """What makes two texts the same: their words, whatever the spaces and capitals."""
    return " ".join(text.split()).casefold()


def exchanges(row: Row) -> Iterator[tuple[str, str]]:
    """What is asked and what is answered, of each turn that is learned, as ``normal`` writes them.

    What is asked is what users and tools said since the assistant's turn before. The system's turn does not count: one
    question under three system prompts is one question.
    """
    turns = row.turns or (("user", row.question), ("assistant", row.answer))
    asked: list[str] = []
    for number, (role, content) in enumerate(turns):
        if role != "assistant":
            asked += [content] if role != "system" else []
            continue
        if number not in row.unlearned:
            answer = content if not row.extras else f"{content}\n{row.extras[number]}"
            yield normal("\n".join(asked)) or normal(row.question), normal(answer)
        asked = []


@dataclass
class Asked:
    """Rows, and which others share a question with them.

    Two rows do where they begin with the same question, where one begins with what the other asks later, or where they
    give the same answer to the same question anywhere. A later question alone (``go on``) is another one in another
    conversation.
    """

    first: dict[str, Row] = field(default_factory=dict)
    later: dict[str, Row] = field(default_factory=dict)
    answered: dict[tuple[str, str], Row] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Asked:
        """With these rows."""
        made = cls()
        for row in rows:
            made.add(row)
        return made

    def add(self, row: Row) -> None:
        """One more row."""
        for number, exchange in enumerate(exchanges(row)):
            (self.later if number else self.first).setdefault(exchange[0], row)
            self.answered.setdefault(exchange, row)

    def twin(self, row: Row) -> Row | None:
        """A row that shares a question with this one; None where there is none."""
        for number, exchange in enumerate(exchanges(row)):
            found = self.first.get(exchange[0]) or self.answered.get(exchange)
            found = found or (self.later.get(exchange[0]) if number == 0 else None)
            if found is not None:
                return found
        return None
