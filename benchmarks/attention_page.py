"""Measures the page of attention maps: its size, how long it takes to open and to switch heads, in Chromium.

    python -m benchmarks.attention_page    # 12 x 12 heads of 512 tokens: SmolLM2's, on the text of a concept

The bars: 14 MB, 500 ms until all is painted, 100 ms from one head to another.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from labqueue.domain.artifacts import attention_maps
from labqueue.llm.interp.page.attention_page import attention_page
from tests import chromium

TEXT = Path(__file__).resolve().parent.parent / "docs" / "concepts" / "attention.md"
TOKENS, LAYERS, HEADS, SWITCHES, OPENINGS = 512, 12, 12, 30, 5


def maps(folder: Path) -> Path:
    """The first 144 heads of SmolLM2, laid out as 12 x 12."""
    import numpy as np

    from labqueue.llm.interp.stored_maps import store_maps
    from labqueue.llm.models.load import load_model

    loaded = load_model("smollm2-135m-instruct", backend="hf", quantization="none", device="cpu", dtype="float32")
    text = str(loaded.tokenizer.decode(loaded.tokenizer(TEXT.read_text())["input_ids"][:TOKENS]))
    whole, chosen = folder / "whole", folder / "chosen"
    store_maps(loaded.model, loaded.tokenizer, text, whole, name=loaded.name)
    header = attention_maps.read_header(whole)

    def heads() -> Iterator[attention_maps.Float]:
        for layer in header.layers:
            for head in range(header.heads_per_layer):
                yield attention_maps.read_head(whole, layer, head, header=header)

    found = heads()
    blocks = ((layer, np.stack(list(islice(found, HEADS)))) for layer in range(LAYERS))
    attention_maps.write_maps(chosen, blocks, header.tokens, implementation=header.implementation, model=header.model)
    return chosen


def main() -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory() as folder, chromium.opened() as browser:
        path = Path(folder) / "page.html"
        path.write_text(attention_page(maps(Path(folder))))
        print(f"{LAYERS} x {HEADS} heads, {TOKENS} tokens: {path.stat().st_size / 1e6:.1f} MB")
        opened, switched = [], []
        for _ in range(OPENINGS):
            browser.open(path, "document.documentElement.dataset.openedMs")
            opened.append(float(browser.evaluate("document.documentElement.dataset.openedMs")))
        for number in range(SWITCHES):
            browser.evaluate(f"choose({number % LAYERS}, {number * 5 % HEADS})")
            switched.append(float(browser.evaluate("document.documentElement.dataset.switchMs")))
        for what, values in (("opened", opened), ("switched", switched)):
            print(f"{what}: median {statistics.median(values):.0f} ms, {min(values):.0f} to {max(values):.0f}")


if __name__ == "__main__":
    main()
