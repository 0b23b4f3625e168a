"""Text of others on its way to a terminal, a page or a figure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.text import one_line, printable, safe_json, settled

ANY = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY)
def test_what_is_printed_is_well_formed_xml_and_utf8(text: str) -> None:
    shown = printable(text)
    shown.encode()
    element = ET.Element("text")
    element.text = shown
    assert (ET.fromstring(ET.tostring(element, encoding="unicode")).text or "") == shown


@given(ANY)
def test_a_row_stays_a_row(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1


@given(st.dictionaries(ANY, ANY))
def test_a_json_document_means_the_same_once_it_is_safe(value: dict[str, str]) -> None:
    document = safe_json(json.dumps(value, ensure_ascii=False))
    document.encode()
    assert json.loads(document) == value


def test_colours_go_and_other_escapes_are_written_out() -> None:
    assert printable("\x1b[1;31mred\x1b[0m \x1b]0;title\x07 \x9b2J\u202eabc") == (
        "red \\x1b]0;title\\x07 \\x9b2J\\u202eabc"
    )


def test_of_a_progress_bar_the_last_state_is_left() -> None:
    assert settled("start\r\n10 %\r50 %\r100 %\nend\r") == "start\n100 %\nend"
