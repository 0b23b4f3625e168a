"""The page of attention maps: what it shows is what is stored, in a real browser, without a request to anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labqueue.domain.artifacts import attention_maps
from labqueue.domain.errors import LabError
from labqueue.llm.interp.page.attention_page import HeadScore, attention_page
from tests import chromium
from tests.domain.test_attention_maps import causal, stored

READY = "document.documentElement.dataset.openedMs"


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Browser]:
    with chromium.opened() as found:
        yield found


def shown(browser: chromium.Browser, where: Path, page: str) -> chromium.Browser:
    path = where / "page.html"
    path.write_text(page)
    browser.errors.clear()
    browser.open(path, READY)
    assert browser.errors == []
    assert browser.asked == [path.as_uri()], "nothing but the page itself is asked for"
    return browser


def test_a_page_names_no_address_and_forbids_every_request(tmp_path: Path) -> None:
    page = attention_page(stored(tmp_path / "m", {0: causal(2, 40)}))
    assert "default-src 'none'" in page
    assert "://" not in page
    assert not re.search(r"""\b(src|href)\s*=""", page)


def test_what_a_browser_inflates_is_what_is_stored(browser: chromium.Browser, tmp_path: Path) -> None:
    path = stored(tmp_path / "m", {2: causal(3, 50), 9: causal(3, 50, seed=1)})
    shown(browser, tmp_path, attention_page(path))
    for at, layer in enumerate((2, 9)):
        for head in range(3):
            browser.evaluate(f"choose({at}, {head})")
            assert browser.evaluate("document.documentElement.dataset.head") == f"{layer}.{head}"
            wanted = attention_maps.companded(attention_maps.read_head(path, layer, head))
            assert browser.evaluate("Array.from(shown)") == wanted[np.tri(50, dtype=bool)].tolist()


def test_the_difference_is_of_the_weights_and_keeps_its_sign(browser: chromium.Browser, tmp_path: Path) -> None:
    base, other = causal(1, 30), causal(1, 30, seed=4)
    page = attention_page(stored(tmp_path / "a", {0: base}), adapter=stored(tmp_path / "b", {0: other}))
    shown(browser, tmp_path, page)
    browser.evaluate("document.querySelector('input[value=difference]').click()")
    browser.until("state.variant === 'difference' && shown.some((code) => code < 0)")
    found = np.array(browser.evaluate("Array.from(shown, signed)"))
    change = (other - base)[0][np.tri(30, dtype=bool)]
    assert np.abs(found - change).max() < 0.02
    query, key = np.unravel_index(np.argmin((other - base)[0]), (30, 30))
    browser.evaluate(f"point({query}, {key})")
    assert f"looks at “t{key}” ({key}) less with the adapter" in browser.evaluate("part('said').textContent")


def test_the_keyboard_reaches_every_head_and_field(browser: chromium.Browser, tmp_path: Path) -> None:
    shown(browser, tmp_path, attention_page(stored(tmp_path / "m", {0: causal(2, 20), 1: causal(2, 20)})))
    browser.evaluate("part('atlas').focus()")
    browser.press("ArrowDown")
    browser.press("ArrowRight")
    browser.until("document.documentElement.dataset.head === '1.1'")
    browser.press("ArrowRight")
    browser.evaluate("part('head').focus()")
    browser.press("ArrowUp")
    browser.press("ArrowRight")
    assert browser.evaluate("[state.query, state.key]") == [18, 1]
    said = browser.evaluate("part('said').textContent")
    assert said.startswith("“t18” (18) gives"), said
    assert said.endswith("to “t1” (1)"), said


def test_scores_stand_beside_their_null_and_what_was_not_measured_is_no_zero(
    browser: chromium.Browser, tmp_path: Path
) -> None:
    scores = [
        HeadScore("induction", [[0.9, 0.1]], [[0.02, 0.03]], "weight on what followed"),
        HeadScore("ablation", [[None, 0.5]], None, "loss added"),
    ]
    shown(browser, tmp_path, attention_page(stored(tmp_path / "m", {0: causal(2, 6)}), scores=scores))
    cells = "Array.from(document.querySelectorAll('#scores td'), (cell) => cell.textContent)"
    assert browser.evaluate(cells) == [
        *("induction", "0.900", "0.020", "weight on what followed"),
        *("ablation", "not measured", "—", "loss added"),
    ]


def test_what_a_token_says_is_text(browser: chromium.Browser, tmp_path: Path) -> None:
    bad = [
        "</script><img src=x onerror=boom()>",
        "<!--<script>",
        "&amp;",
        "{data}",
        "{script}",
        '"',
        "你₁",
        "\n",
        " ",
        "👩",
    ]
    path = tmp_path / "m"
    about: Any = {"implementation": "eager", "model": "<b>m</b>"}
    attention_maps.write_maps(path, [(0, causal(1, len(bad)))], bad, **about)
    shown(browser, tmp_path, attention_page(path))
    assert browser.evaluate("tokens") == bad
    assert browser.evaluate("document.querySelectorAll('img, b').length") == 0
    assert browser.evaluate("document.querySelector('h1').textContent") == "Attention of <b>m</b>"


@pytest.mark.parametrize("size", [1, 2, 1024])
def test_one_token_and_a_thousand_are_shown(browser: chromium.Browser, tmp_path: Path, size: int) -> None:
    shown(browser, tmp_path, attention_page(stored(tmp_path / "m", {0: causal(1, size)})))
    assert browser.evaluate("[part('said').textContent !== '', spans.length]") == [True, size]


def test_a_page_of_a_usual_model_is_small_and_quick(browser: chromium.Browser, tmp_path: Path) -> None:
    # Half of the peaks of random scores at this spread, and as many bytes as real heads; the bars are ten times those
    # of benchmarks/interp/attention_page.py, since other work shares the computer.
    path = stored(tmp_path / "m", {0: causal(12, 512, peak=2.0)})
    page = attention_page(path)
    shown(browser, tmp_path, page)
    assert len(page) * 12 < 20e6
    assert float(browser.evaluate(READY)) < 15_000
    browser.evaluate("choose(0, 7)")
    assert float(browser.evaluate("document.documentElement.dataset.switchMs")) < 15_000


def test_maps_of_another_text_and_scores_of_another_shape_are_refused(tmp_path: Path) -> None:
    base = stored(tmp_path / "a", {0: causal(2, 8)})
    for other, words in (
        (stored(tmp_path / "b", {0: causal(2, 9)}), "other tokens"),
        (stored(tmp_path / "c", {1: causal(2, 8)}), "other layers"),
        (stored(tmp_path / "d", {0: causal(3, 8)}), "other heads per layer"),
        (stored(tmp_path / "e", {0: causal(2, 8)}, implementation="sdpa"), "other implementation"),
    ):
        with pytest.raises(LabError, match=words):
            attention_page(base, adapter=other)
    with pytest.raises(LabError, match="score 'x' is not of 1 layers of 2 heads"):
        attention_page(base, scores=[HeadScore("x", [[0.0]])])
