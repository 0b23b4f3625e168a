"""What looking at attention costs beside a plain forward pass of the same implementation, in time and in memory.

    python -m benchmarks.attention [--model smollm2-135m-instruct] [--tokens 512] [--pairs 10] [--chunk 128] [--json]

Turns of plain eager attention, of observing every layer, and of keeping all weights in memory, on one thread; ratios of
processor time within a turn, their mean with a 95 % interval. Peaks of resident memory: each of a process of its own.
Bars: observing at most 1.10, keeping at most 1.35, memory at most that of a plain pass and one chunk.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

Pass = Callable[[], None]


def passes(name: str, tokens: int, chunk: int | None) -> dict[str, Pass]:
    """The model loaded, and what is timed of it."""
    import torch

    from labqueue.llm.interp.attention_tap import observed
    from labqueue.llm.load import load_model

    torch.set_num_threads(1)
    model = load_model(name, quantization="none", device="cpu", dtype="float32", backend="hf", attention="eager").model
    ids = torch.randint(3, model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(0))

    def plain() -> None:
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)

    def observing() -> None:
        with torch.no_grad(), observed(model, [lambda _seen: None], chunk=chunk):
            model(input_ids=ids, use_cache=False)

    def keeping() -> None:
        held = []
        with torch.no_grad(), observed(model, [lambda seen: held.append(seen.weights.half())], chunk=chunk):
            model(input_ids=ids, use_cache=False)

    return {"plain": plain, "observing": observing, "keeping": keeping}


def ratios(made: dict[str, Pass], pairs: int) -> dict[str, dict[str, float]]:
    """Processor time of each beside the plain pass of its turn."""
    for each in made.values():
        each()
    found: dict[str, list[float]] = {name: [] for name in made if name != "plain"}
    for turn in range(pairs):
        spent = {}
        names = list(made) if turn % 2 else list(made)[::-1]
        for name in names:
            begin = time.process_time()
            made[name]()
            spent[name] = time.process_time() - begin
        for name, values in found.items():
            values.append(spent[name] / spent["plain"])
    from scipy import stats

    told = {}
    for name, values in found.items():
        mean = statistics.fmean(values)
        half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        told[name] = {"ratio": mean, "low": mean - half, "high": mean + half, "pairs": len(values)}
    return told


def _peak(name: str, tokens: int, chunk: int | None, what: str, answers: Any) -> None:
    made = passes(name, tokens, chunk)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made[what]()
    answers.put((before / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def peaks(name: str, tokens: int, chunk: int | None) -> dict[str, float]:
    """MiB of resident memory at most, each of a fresh process: after loading, and of one pass of each way."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for what in ("plain", "observing", "keeping"):
        answers = context.Queue()
        process = context.Process(target=_peak, args=(name, tokens, chunk, what, answers))
        process.start()
        found["loaded"], found[what] = answers.get(timeout=600)
        process.join()
    return found


def main() -> int:
    """Measures and prints; 1 where a bar is missed by more than its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--chunk", type=int, help="queries at a time, for all but the plain pass")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    memory = peaks(given.model, given.tokens, given.chunk)
    times = ratios(passes(given.model, given.tokens, given.chunk), given.pairs)
    found = {"model": given.model, "tokens": given.tokens, "chunk": given.chunk, "time": times, "memory_mib": memory}
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        for name, each in times.items():
            print(f"{name}: {each['ratio']:.3f} ({each['low']:.3f} to {each['high']:.3f}) of a plain pass")
        print(", ".join(f"{name} {value:.0f} MiB" for name, value in memory.items()))
    return int(times["observing"]["low"] > 1.10 or times["keeping"]["low"] > 1.35)


if __name__ == "__main__":
    raise SystemExit(main())
