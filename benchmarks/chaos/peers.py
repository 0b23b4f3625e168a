"""The same power cut for others: five tasks, SIGKILL to the worker and all it has started, a restart; who is done?

Each peer is set up as its documentation recommends for durability. One that is not here is left out, with its cure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from benchmarks.chaos import peer_tasks
from benchmarks.chaos.peer import TASKS, Peer, call, needed, spawn
from benchmarks.chaos.slurm import slurm
from benchmarks.chaos.tracing import Missing
from benchmarks.chaos.workspace import Workspace, lines, until

STRIKE_AT = 14
"""Lines in the side-effect file when it strikes: task 1 is done, task 2 in its middle."""


def lab(folder: Path) -> Peer:
    """This lab, by the same script."""
    witness = folder / "witness.txt"
    workspace = Workspace(folder, {"CHAOS_WITNESS": str(witness)})

    def start() -> None:
        workspace.start("worker", "--device", "cpu")

    def submit() -> None:
        workspace.submit(
            "peers", seeds=TASKS, steps=peer_tasks.STEPS, step_s=peer_tasks.STEP_S, checkpoint_every=2, attempts=3
        )

    return Peer("labqueue", "this tree", start, submit, workspace.kill_all, witness)


def huey(folder: Path) -> Peer:
    """Huey alone, as its guide has it: SqliteHuey, one worker process, two retries."""
    import huey as package

    witness = folder / "witness.txt"
    words = {"CHAOS_HUEY": str(folder / "huey.db"), "CHAOS_PEER_WITNESS": str(witness), "PYTHONPATH": str(_here())}

    def start() -> None:
        command = [sys.executable, "-m", "huey.bin.huey_consumer", "peer_tasks.huey", "-k", "process", "-w", "1"]
        spawn(command, folder, **words)

    def submit() -> None:
        enqueue = f"import peer_tasks\nfor n in range(1, {TASKS + 1}): peer_tasks.huey_count(n)"
        call([sys.executable, "-c", enqueue], folder, **words)

    return Peer("Huey (SqliteHuey)", package.__version__, start, submit, lambda: None, witness)


def rq(folder: Path) -> Peer:
    """RQ with Redis that syncs every write; RQ itself is installed into a throwaway environment."""
    server = needed("redis-server", "redis-server")
    python = folder / "venv" / "bin" / "python"
    venv.create(folder / "venv", with_pip=True)
    try:
        call([str(python), "-m", "pip", "install", "--quiet", "rq"], folder)
    except subprocess.CalledProcessError as error:
        raise Missing(f"pip cannot install rq here: {error.stderr.strip()[-200:]}") from error
    version = call([str(python), "-c", "import importlib.metadata as m; print(m.version('rq'))"], folder)
    redis_version = call([server, "--version"], folder).split("v=")[1].split(" ")[0]
    witness = folder / "witness.txt"
    socket = folder / "redis.sock"
    words = {"CHAOS_PEER_WITNESS": str(witness), "PYTHONPATH": str(_here())}
    redis = spawn(
        [server, "--port", "0", "--unixsocket", str(socket), "--appendonly", "yes", "--appendfsync", "always"], folder
    )
    until(socket.exists)
    url = f"unix://{socket}"

    def start() -> None:
        command = [str(python), "-m", "rq.cli", "worker", "--url", url, "--with-scheduler"]
        spawn(command, folder, **words)

    def submit() -> None:
        enqueue = (
            "import redis, rq, peer_tasks\n"
            f"queue = rq.Queue(connection=redis.Redis.from_url({url!r}))\n"
            f"for n in range(1, {TASKS + 1}): queue.enqueue(peer_tasks.count, n, retry=rq.Retry(max=2))"
        )
        call([str(python), "-c", enqueue], folder, **words)

    return Peer("RQ", f"{version}, Redis {redis_version}", start, submit, redis.terminate, witness)


def task_spooler(folder: Path) -> Peer:
    """task-spooler: its server holds the queue, and is started by the first command."""
    tsp = needed("tsp", "task-spooler")
    witness = folder / "witness.txt"
    words = {"CHAOS_PEER_WITNESS": str(witness), "TS_SOCKET": str(folder / "tsp.sock"), "TMPDIR": str(folder)}
    version = call([tsp, "-V"], folder, **words).splitlines()[0].split("v")[-1].split(" ")[0]

    def start() -> None:
        call([tsp], folder, **words)

    def submit() -> None:
        for number in range(1, TASKS + 1):
            call([tsp, sys.executable, str(_here() / "peer_tasks.py"), str(number)], folder, **words)

    return Peer("task-spooler", version, start, submit, lambda: None, witness)


def _here() -> Path:
    return Path(__file__).parent


def measure(peer: Peer) -> dict[str, Any]:
    """Five tasks, one strike in the middle of the second, a restart, patience; then the side-effect file is read."""
    try:
        peer.start()
        peer.submit()
        until(lambda: lines(peer.witness) >= STRIKE_AT, 90)
        peer.strike()
        before = lines(peer.witness)
        time.sleep(0.5)
        restarted = time.monotonic()
        peer.start()
        after_s = None
        seen, moved = before, time.monotonic()
        while time.monotonic() - moved < peer.patience_s and not _all_ended(peer.witness):
            time.sleep(0.02)
            now = lines(peer.witness)
            if now > seen:
                after_s = after_s if after_s is not None else time.monotonic() - restarted
                seen, moved = now, time.monotonic()
        return {"version": peer.version, **tally(peer.witness, before), "idle after the restart, s": _round(after_s)}
    finally:
        peer.strike()
        peer.stop()


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _executions(witness: Path) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = {str(n): {} for n in _numbers(witness)}
    for line in witness.read_text().splitlines():
        number, execution, step = line.split(" ")[:3]
        found[number].setdefault(execution, []).append(int(step))
    return found


def _numbers(witness: Path) -> list[int]:
    # The lab counts its runs from 1, as the tasks are counted.
    return sorted({int(line.split(" ")[0]) for line in witness.read_text().splitlines()} | set(range(1, TASKS + 1)))


def _all_ended(witness: Path) -> bool:
    return all(any(steps[-1] == peer_tasks.STEPS for steps in runs.values()) for runs in _executions(witness).values())


def tally(witness: Path, before: int) -> dict[str, Any]:
    """How many tasks ended exactly once, how many more often or never, and whether the struck one went on or anew."""
    executions = _executions(witness)
    ends = {n: sum(steps[-1] == peer_tasks.STEPS for steps in runs.values()) for n, runs in executions.items()}
    struck = list(executions[witness.read_text().splitlines()[before - 1].split(" ")[0]].values())
    return {
        "ended exactly once": sum(count == 1 for count in ends.values()),
        "never ended": sum(count == 0 for count in ends.values()),
        "ended more than once": sum(count > 1 for count in ends.values()),
        "the struck task": (
            "never ran again" if len(struck) == 1 else
            "went on in its middle" if struck[1][0] > 1 else "began anew"
        ),
    }  # fmt: skip


def run() -> tuple[dict[str, Any], list[str]]:
    """Figures by peer. Only the lab's own loss is a broken law."""
    figures: dict[str, Any] = {}
    for make in (lab, huey, rq, task_spooler, slurm):
        with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder:
            try:
                peer = make(Path(folder))
                figures[peer.name] = measure(peer)
            except Missing as error:
                figures[make.__name__] = f"LEFT OUT: {error}"
            except (OSError, TimeoutError, subprocess.SubprocessError) as error:
                said = (Path(folder) / "said.log").read_text()[-300:] if (Path(folder) / "said.log").exists() else ""
                figures[make.__name__] = f"LEFT OUT: {type(error).__name__}: {error} {said}"
    ours = figures["labqueue"]
    good = isinstance(ours, dict) and ours["ended exactly once"] == TASKS
    return figures, [] if good else [f"the lab did not bring {TASKS} of {TASKS} to their end: {ours}"]
