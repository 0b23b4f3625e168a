"""Stored attention maps: what is read is what was written, to the precision that the codec promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labqueue.domain.artifacts import attention_maps as maps
from labqueue.domain.errors import LabError


def causal(heads: int, size: int, *, seed: int = 0, peak: float = 6.0) -> Any:
    """Softmax of random scores below the diagonal, float64 throughout: [head, query, key]."""
    scores = np.random.default_rng(seed).normal(size=(heads, size, size)) * peak
    scores = np.where(np.tri(size, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def stored(path: Path, layers: dict[int, Any], **changes: Any) -> Path:
    size = next(iter(layers.values())).shape[-1]
    about = {"implementation": "eager", "model": "planted", **changes}
    maps.write_maps(path, layers.items(), [f"t{n}" for n in range(size)], **about)
    return path


@pytest.mark.parametrize("deflated", [True, False])
@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 100])
def test_a_head_is_read_as_half_precision_keeps_it(tmp_path: Path, size: int, deflated: bool) -> None:
    layers = {3: causal(2, size), 7: causal(2, size, seed=1)}
    path = stored(tmp_path / "m", layers, deflated=deflated)
    header = maps.read_header(path)
    assert (header.layers, header.heads_per_layer, len(header.tokens)) == ((3, 7), 2, size)
    assert (header.model, header.implementation) == ("planted", "eager")
    for layer, weights in layers.items():
        for head in range(2):
            np.testing.assert_array_equal(maps.read_head(path, layer, head), weights[head].astype(np.float16))


def test_only_the_bytes_of_one_head_and_the_header_are_read(tmp_path: Path) -> None:
    path = stored(tmp_path / "m", {0: causal(3, 20), 1: causal(3, 20, seed=1)})
    header = maps.read_header(path)
    wanted = maps.read_head(path, 1, 2)
    begin, length = header.heads[1][2]
    body = bytearray(path.read_bytes())
    first, end = header.heads[0][0][0], sum(header.atlas)
    for at in range(first, end):
        if not begin <= at < begin + length:
            body[at] = 0xFF
    path.write_bytes(body)
    np.testing.assert_array_equal(maps.read_head(path, 1, 2), wanted)
    with pytest.raises(LabError, match=r"head 0\.0 of .* is damaged.*make it again"):
        maps.read_head(path, 0, 0)


@pytest.mark.parametrize("size", [1, 5, 32, 40, 512])
def test_the_atlas_shows_the_largest_weight_of_each_field(tmp_path: Path, size: int) -> None:
    weights = causal(2, size)
    atlas = maps.read_atlas(stored(tmp_path / "m", {0: weights}))
    assert atlas.shape == (1, 2, 32, 32)
    for row in range(32):
        for column in range(32):
            rows = slice(row * size // 32, max((row + 1) * size // 32, row * size // 32 + 1))
            columns = slice(column * size // 32, max((column + 1) * size // 32, column * size // 32 + 1))
            largest = weights[:, rows, columns].max(axis=(1, 2))
            assert atlas[0, :, row, column] == pytest.approx(np.rint(255 * np.sqrt(largest)))


def entropy(weights: Any) -> Any:
    whole = weights.astype(np.float64)
    whole = whole / whole.sum(-1, keepdims=True)
    return -(whole * np.log(np.where(whole > 0, whole, 1))).sum(-1)


@pytest.mark.parametrize("peak", [1.0, 2.0, 4.0])
def test_the_square_root_keeps_a_rows_entropy_and_linear_steps_do_not(peak: float) -> None:
    weights = causal(4, 400, peak=peak)[:, 100:]
    linear = np.rint(255 * weights) / 255
    root = maps.expanded(maps.companded(weights))
    assert np.abs(entropy(root) - entropy(weights)).mean() < 0.01
    assert np.abs(entropy(linear) - entropy(weights)).mean() > 0.05


def test_half_of_a_step_is_the_most_that_the_square_root_is_off() -> None:
    weights = np.linspace(0, 1, 100_001, dtype=np.float32)
    off = np.abs(np.sqrt(maps.expanded(maps.companded(weights))) - np.sqrt(weights))
    assert off.max() <= 0.5 / 255 + 1e-6


def changed(what: str) -> Any:
    weights = causal(2, 8)
    if what == "nan":
        weights[1, 3, 2] = np.nan
    if what == "negative":
        weights[1, 3, 2] = -0.1
    if what == "ahead":
        weights[1, 3, 5] = 1e-4
    if what == "sink":
        weights[1, 3] *= 0.7
    return weights


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", r"head 4\.1 are not all finite"),
        ("negative", r"head 4\.1 are not all finite and 0 or more"),
        ("ahead", r"head 4\.1 looks ahead"),
        ("sink", r"head 4\.1 is 0\.300 off a sum of 1"),
    ],
)
def test_what_is_no_causal_attention_is_refused_and_leaves_no_file(tmp_path: Path, what: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        stored(tmp_path / "m", {0: causal(2, 8), 4: changed(what)})
    assert list(tmp_path.iterdir()) == []


def test_layers_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"layer 1 has shape \(3, 8, 8\), not \(2, 8, 8\)"):
        stored(tmp_path / "m", {0: causal(2, 8), 1: causal(3, 8)})
    about = {"implementation": "eager", "model": "m"}
    with pytest.raises(LabError, match="layer 0 is stored already"):
        maps.write_maps(tmp_path / "m", [(0, causal(1, 2)), (0, causal(1, 2))], ["a", "b"], **about)
    with pytest.raises(LabError, match="no layer was stored"):
        maps.write_maps(tmp_path / "m", [], ["a"], **about)
    with pytest.raises(LabError, match="without tokens"):
        maps.write_maps(tmp_path / "m", [], [], **about)


@pytest.mark.parametrize(
    ("layer", "head", "words"),
    [(2, 0, "layer 2 is not in .*: it has 0, 1"), (0, 2, "head 2 .*0 to 1"), (0, -1, "head -1")],
)
def test_a_head_that_is_not_kept_is_named(tmp_path: Path, layer: int, head: int, words: str) -> None:
    path = stored(tmp_path / "m", {0: causal(2, 4), 1: causal(2, 4)})
    with pytest.raises(LabError, match=words):
        maps.read_head(path, layer, head)


def test_a_file_that_was_cut_or_is_another_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "m", {0: causal(2, 9)})
    body = path.read_bytes()
    for cut in (0, 10, 24, 100, len(body) - 1):
        path.write_bytes(body[:cut])
        with pytest.raises(LabError, match=r"no file of attention maps|was cut"):
            maps.read_header(path)
    path.write_bytes(b"PK" + body[2:])
    with pytest.raises(LabError, match="does not begin with LABMAPS1"):
        maps.read_header(path)
    with pytest.raises(LabError, match="missing"):
        maps.read_header(tmp_path / "none")


PROGRAM = """
import sys, tracemalloc
from pathlib import Path
import numpy as np
from labqueue.domain.artifacts import attention_maps as maps
layers, size = int(sys.argv[1]), 256
def blocks():
    for layer in range(layers):
        rows = np.tri(size, dtype=np.float32) / np.arange(1, size + 1, dtype=np.float32)[:, None]
        yield layer, np.repeat(rows[None], 8, axis=0)
tracemalloc.start()
about = {"implementation": "eager", "model": "m"}
maps.write_maps(Path(sys.argv[2]), blocks(), ["t"] * size, **about)
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_stays_at_a_layers_block_however_many_there_are(tmp_path: Path) -> None:
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, str(layers), str(tmp_path / "m")],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for layers in (2, 24)
    ]
    block = 8 * 256 * 256 * 4
    assert peaks[1] - peaks[0] < block / 2, peaks
