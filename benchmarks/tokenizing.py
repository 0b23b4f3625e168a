"""Memory and time of making a large file into token files, and of the second start, which finds them in the cache.

    python benchmarks/tokenizing.py [--gib 0.25 1] [--tokenizer byte] [--folder /tmp] [--json]

Writes a text file of each size piece by piece into a temporary folder (documents of 4 kB, some of 1 MB, none twice),
tokenizes it in a process of its own and again in another, and prints the peak of each one's resident memory (VmHWM) and
the seconds that `prepare` took. The tokens need two bytes for each of a byte tokenizer, so 11 GiB need 33 GiB of disk
for a while. Memory above 1 GiB, or a second start above 5 s, is exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GIB = 2**30
MEMORY_GIB, SECOND_S = 1.0, 5.0
SETTLED_S = 4.0
"""A file's hash is remembered once it is older than a tick of its file system (``labqueue.llm.models.pins``)."""


def generate(path: Path, size: int) -> None:
    """Writes text of about ``size`` bytes: the same words again and again, every document with a number of its own."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlcumwfgypb", k=draw.randint(1, 10))) for _ in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]  # Zipf's law
    documents = []
    for length in [700] * 2000 + [180_000] * 4:
        drawn = draw.choices(words, weights, k=length)
        lines = (" ".join(drawn[at : at + 12]) for at in range(0, length, 12))
        documents.append((".\n".join(lines) + ".\n<|endoftext|>\n").encode())
    number = 0
    with path.open("wb") as file:
        while file.tell() < size:
            for document in documents:
                number += 1
                file.write(f"Document {number}\n".encode() + document)


def child(path: str, kind: str) -> None:
    """Prepares the file in this process, and prints what it took."""
    began = time.perf_counter()
    from labqueue.llm.corpora.choice import TokenizerChoice
    from labqueue.llm.corpora.token_files import prepare
    from labqueue.system.files import cache_folder

    imported = time.perf_counter()
    found = prepare(path, TokenizerChoice.parse({"kind": kind}), cache_folder())
    seconds = time.perf_counter() - imported
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "with_imports_s": time.perf_counter() - began,
                "peak_gib": int(peak) * 1024 / GIB,
                "tokens": len(found.train) + len(found.validation),
            }
        )
    )


def measure(gib: float, kind: str, folder: str | None) -> dict[str, object]:
    """Both starts with a file of that size."""
    with tempfile.TemporaryDirectory(prefix="labqueue-tokenizing-", dir=folder) as made:
        path = Path(made) / "generated.txt"
        generate(path, int(gib * GIB))
        time.sleep(SETTLED_S)
        told = os.environ | {"LABQUEUE_CACHE": str(Path(made) / "cache")}
        starts = []
        for _ in range(2):
            command = [sys.executable, __file__, "--child", str(path), "--tokenizer", kind]
            done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(done.stderr)
            starts.append(json.loads(done.stdout))
        size = path.stat().st_size / GIB
    return {"gib": size, "tokenizer": kind, "first": starts[0], "second": starts[1]}


def main() -> int:
    """Measures every size; exit status 1 where one needs too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--tokenizer", default="byte", choices=["byte", "character", "bpe"])
    parser.add_argument("--folder", help="where the files are written; by default where temporary files go")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.tokenizer)
        return 0
    rows = [measure(gib, given.tokenizer, given.folder) for gib in given.gib]
    good = True
    for row in rows:
        first, second = row["first"], row["second"]
        assert isinstance(first, dict)
        assert isinstance(second, dict)
        good = good and max(first["peak_gib"], second["peak_gib"]) <= MEMORY_GIB and second["seconds"] <= SECOND_S
        if not given.json:
            print(
                f"{row['gib']:.2f} GiB, {row['tokenizer']}: {first['tokens']:,} tokens in {first['seconds']:.1f} s, "
                f"peak {first['peak_gib']:.2f} GiB; again in {second['seconds']:.2f} s "
                f"({second['with_imports_s']:.1f} s with imports), peak {second['peak_gib']:.2f} GiB"
            )
    if given.json:
        print(json.dumps({"schema": 1, "rows": rows, "within": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
