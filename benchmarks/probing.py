"""Whether selectivity's interval is as wide as it says: how often it covers 0 for labels that mean nothing.

    python -m benchmarks.probing [--repetitions 400] [--model smollm2-135m-instruct] [--layer 10] [--json]

Labels are drawn for each word type, as control tasks are, over real activations of tagged words; ``brown_tagged`` must
be on this computer (submit a spec of kind probing once). Bar: 88 to 99 % of the intervals cover 0.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

CLASSES = 10


def main() -> int:
    """Measures and prints; 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--layer", type=int, default=10)
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--words", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    from labqueue.llm.corpora import catalogue
    from labqueue.llm.interp.probes import labelled, probe, states
    from labqueue.llm.load import load_model

    loaded = load_model(given.model, quantization="none", device="cpu", dtype="float32", backend="hf")
    documents = list(catalogue.open_corpus("brown_tagged").documents())
    words = labelled.part_of_speech(
        documents, loaded.tokenizer, count=given.documents, words=given.words, seed=0, limit=None
    )
    x = states.states(loaded.model, loaded.tokenizer, words, [given.layer])[given.layer]
    classes = np.arange(CLASSES)
    begin = time.perf_counter()
    found = []
    for repetition in range(given.repetitions):
        labels = probe.control_labels(words.types, classes, 10_000_000 + repetition)
        read = probe.read(x, labels, words.types, words.groups, seed=repetition, permutations=1, like=classes)
        found.append((read.selectivity, read.half_width))
    selectivity, half_width = np.array(found).T
    covered = float((np.abs(selectivity) <= half_width).mean())
    told = {
        "tokens": len(words),
        "types": int(words.types.max()) + 1,
        "repetitions": given.repetitions,
        "covered": covered,
        "mean_selectivity": float(selectivity.mean()),
        "mean_half_width": float(half_width.mean()),
        "wall_s": time.perf_counter() - begin,
    }
    if given.json:
        print(json.dumps(told, indent=1))
    else:
        print(f"{covered:.1%} of {given.repetitions} intervals cover 0 (bar: 88 to 99 %); {told}")
    return int(not 0.88 <= covered <= 0.99)


if __name__ == "__main__":
    raise SystemExit(main())
