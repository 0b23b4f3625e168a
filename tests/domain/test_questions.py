"""The shape of the question log: what is read, and how each slip of the pen is named with its line."""

from __future__ import annotations

import pytest

from labqueue.domain.errors import LabError
from labqueue.domain.questions import Status, parse

WHOLE = """\
# Questions

An introduction, with a list:
- Status: of no question

## Q1: Is it so — ja oder nein?
- Status: answered
- Source: a talk
  in two lines
- Evidence: experiment first, runs 1-3, 7
- Evidence: experiment second, run 9

Why it is asked.

In two paragraphs.

### Sub-questions
- [ ] open
- [x] settled, and
  a second line

### Progress
- 2026-01-31: done

## Q22: Another?
- Status: superseded
- Superseded by: Q1
- Source: me
"""


def test_every_part_of_a_question_is_read() -> None:
    first, second = parse(WHOLE, "Q.md")
    assert (first.id, first.text, first.status) == ("Q1", "Is it so — ja oder nein?", Status.ANSWERED)
    assert first.source == "a talk in two lines"
    assert [(one.experiment, one.runs) for one in first.cited] == [("first", (1, 2, 3, 7)), ("second", (9,))]
    assert first.about == "Why it is asked.\n\nIn two paragraphs."
    assert [(sub.text, sub.settled) for sub in first.sub_questions] == [
        ("open", False),
        ("settled, and a second line", True),
    ]
    assert first.progress == ("2026-01-31: done",)
    assert (second.superseded_by, second.line) == ("Q1", WHOLE.splitlines().index("## Q22: Another?") + 1)
    assert parse("", "Q.md") == parse("# only prose\n\ntext", "Q.md") == []


HEAD = "## Q1: a\n- Status: open\n- Source: me\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("# Q\n\n## Is it?\n", 3, "is no question: write `## Q7"),
        ("## Q0: a\n", 1, "is no question"),
        ("## Q1:\n", 1, "is no question"),
        ("## Q1: a\n- Source: me\n", 1, "has no Status"),
        ("## Q1: a\n- Status: open\n", 1, "has no Source"),
        ("## Q1: a\n- Status: opne\n- Source: me\n", 2, "did you mean 'open'"),
        ("## Q1: a\n- Status: open\n- Sorce: me\n", 3, "did you mean 'Source'"),
        ("## Q1: a\n- Status:\n", 2, "Status of Q1 is empty"),
        ("## Q1: a\n  indented\n", 2, "begin with `- Status"),
        ("## Q1: a\n- Status: open\n- Status: open\n", 3, "'Status' twice"),
        ("## Q1: a\n- Status: answered\n- Source: me\n", 2, "answered and cites nothing"),
        (HEAD + "- Evidence: experiment x, runs 1\n", 2, "open and has evidence"),
        ("## Q1: a\n- Status: superseded\n- Source: me\n", 2, "says by what"),
        (HEAD + "- Superseded by: Q1\n", 2, "exactly when"),
        ("## Q1: a\n- Status: superseded\n- Source: me\n- Superseded by: Q1\n", 1, "name another question"),
        ("## Q1: a\n- Status: superseded\n- Source: me\n- Superseded by: Q9\n", 1, "known: Q1"),
        (HEAD + "\n" + HEAD, 5, "stands twice, first at line 1"),
        (HEAD + "### Progres\n", 4, "did you mean 'Progress'"),
        (HEAD + "### Progress\n- a\n### Progress\n", 6, "twice"),
        (HEAD + "### Progress\nprose\n", 5, "is a list"),
        (HEAD + "### Sub-questions\n- without a box\n", 5, "`- [ ] text`"),
    ],
)
def test_a_slip_is_named_with_its_line_and_its_cure(text: str, line: int, words: str) -> None:
    with pytest.raises(LabError) as caught:
        parse(text, "Q.md")
    assert (caught.value.file, caught.value.line) == ("Q.md", line)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "evidence",
    ["runs 1-6", "experiment A, runs 1", "experiment a, runs", "experiment a, runs 6-1", "experiment a, runs 1,,2",
     "experiment a, runs 1-999999999", "experiment a, runs 1-6 or so"],
)  # fmt: skip
def test_evidence_that_cannot_be_read_is_refused(evidence: str) -> None:
    text = f"## Q1: a\n- Status: answered\n- Source: me\n- Evidence: {evidence}\n"
    with pytest.raises(LabError, match="runs 1-6, 9") as caught:
        parse(text, "Q.md")
    assert caught.value.line == 4
