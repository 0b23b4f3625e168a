"""What is allocated at the moment when most is: sizes and the lines of code that asked for them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

LIBRARIES = ("transformers", "trl", "peft", "bitsandbytes", "unsloth", "unsloth_zoo", "accelerate", "labqueue", "torch")
SHOWN = 60


def at_peak() -> dict[str, Any]:
    """Replays the allocator's history (``torch.cuda.memory._record_memory_history`` must be on).

    Returns the most bytes that were allocated at once (of what was allocated since the history began), and who held
    them: groups of ``[MiB, count, where]``, largest first.
    """
    import torch

    (events, *_) = torch.cuda.memory._snapshot()["device_traces"]
    now = most = 0
    at = -1
    for number, event in enumerate(events):
        if event["action"] == "alloc":
            now += event["size"]
        elif event["action"] == "free_completed":
            now -= event["size"]
        if now > most:
            most, at = now, number
    live: dict[int, dict[str, Any]] = {}
    for event in events[: at + 1]:
        if event["action"] == "alloc":
            live[event["addr"]] = event
        elif event["action"] == "free_completed":
            live.pop(event["addr"], None)
    groups: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for event in live.values():
        group = groups[f"{event['size'] / 2**20:.2f} MiB each · {_where(event.get('frames', ()))}"]
        group[0] += event["size"] / 2**20
        group[1] += 1
    listed = sorted(([round(mib, 2), int(count), where] for where, (mib, count) in groups.items()), reverse=True)
    return {"most_mib": most / 2**20, "events": len(events), "held": listed[:SHOWN]}


def _where(frames: Any) -> str:
    told = []
    for frame in frames:
        parts = frame["filename"].split("/")
        library = next((name for name in LIBRARIES if name in parts), None)
        if library is None or (library == "torch" and "optim" not in parts and "utils" not in parts):
            continue
        told.append(f"{library}/{parts[-1]}:{frame['line']} {frame['name']}")
        if len(told) == 4:
            break
    return " < ".join(told) or "unknown"
