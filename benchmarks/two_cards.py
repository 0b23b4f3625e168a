"""One card each, on a machine with two GPUs: what two workers in one workspace do to each other. No hub, no network.

    python benchmarks/two_cards.py FOLDER --output RESULTS [--limit-s 285]   exit 1 when a law is broken
    python benchmarks/two_cards.py FOLDER --output RESULTS --dry             made-up cards and drills: the script itself

Everything goes through ``labqueue submit`` and ``labqueue worker``, each run capped as on a 16 GB card; memory is
NVML's, by UUID. RESULTS/two_cards.json is written after each part, and holds what is known when time runs out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CAP_GIB = 14.5
"""What a 16 GB card leaves to one process."""
STEPS, BATCH, ACCUMULATION = 20, 4, 2
BACK_GIB = 0.1
"""How near to its baseline device memory must come back, GiB: the driver's own bookkeeping moves by less."""
FIRST_LOSS, LOSS = 0.002, 0.05
"""Nats by which the loss of the first step, and of any step, may differ between two cards: sums in another order, in
bfloat16, and what grows of it. Rows differ in length and loss, so other rows in a step show at once."""
SAMPLE_S = 0.1
LEAST_S = 45.0
"""With less time than this no part is begun."""

MAKE = """
import json, sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
from labqueue.llm.models import tiny
words = tiny.tokenizer()
config = LlamaConfig(
    vocab_size=len(words), hidden_size=1024, intermediate_size=2816, num_hidden_layers=8, num_attention_heads=16,
    num_key_value_heads=4, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    tie_word_embeddings=True,
)
torch.manual_seed(0)
LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[1])
words.save_pretrained(sys.argv[1])
count = torch.cuda.device_count()
print(json.dumps([f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in range(count)]))
"""
"""Writes a random model of some 90 million parameters; says how CUDA numbers the cards."""


class TooLate(RuntimeError):
    """The time that was given is over."""


class Clock:
    """How much of the given time is left; every wait ends with it."""

    def __init__(self, limit_s: float) -> None:
        self._end_s = time.monotonic() + limit_s

    def left_s(self, most_s: float = 1e9) -> float:
        """Seconds that are left, at most ``most_s``."""
        left_s = min(most_s, self.rest_s)
        if left_s <= 0:
            raise TooLate("the given time is over")
        return left_s

    @property
    def rest_s(self) -> float:
        """Seconds that are left; 0 or less once time is over."""
        return self._end_s - time.monotonic()

    def until(self, true: Callable[[], Any], most_s: float, what: str) -> Any:
        """Waits for a condition and returns its value."""
        end_s = time.monotonic() + self.left_s(most_s)
        while not (value := true()):
            if time.monotonic() > end_s:
                raise TooLate(f"not within {most_s:.0f} s: {what}")
            time.sleep(0.05)
        return value


class Lab:
    """A workspace with a folder of its own for what is temporary, and the commands that a user gives in it."""

    def __init__(self, folder: Path, name: str, clock: Clock, machine: dict[str, str]) -> None:
        self.root, self._clock = folder / name, clock
        (self.root / "tmp").mkdir(parents=True)
        paths = [machine.get("PYTHONPATH"), str(ROOT), os.environ.get("PYTHONPATH")]
        self._env = os.environ | machine | {"TMPDIR": str(self.root / "tmp")}
        self._env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        # The machine's own place for locks is part of what is tried.
        self._env.pop("LABQUEUE_LOCKS", None)
        self._env.pop("LABQUEUE_ROOT", None)
        self._env["LABQUEUE_CACHE"] = str(folder / "cache")
        self._workers: list[subprocess.Popen[bytes]] = []

    def command(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "labqueue", *words, "--root", str(self.root)],
            env=self._env | env, cwd=self.root, capture_output=True, text=True, timeout=self._clock.left_s(90),
            check=False,
        )  # fmt: skip

    def answer(self, *words: str) -> Any:
        """What a command prints with ``--json``."""
        done = self.command(*words, "--json")
        if done.returncode:
            raise RuntimeError(f"labqueue {' '.join(words)}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout)

    def submit(self, spec: dict[str, Any]) -> list[int]:
        """Records the runs of a spec; returns their ids."""
        path = self.root / f"{spec['name']}.yaml"
        path.write_text(json.dumps(spec))
        return [int(run) for run in self.answer("submit", str(path), "--profile", "gpu", "--no-preflight")["runs"]]

    def worker(self, *words: str, **env: str) -> subprocess.Popen[bytes]:
        """A worker that drains the queue, in a session of its own; what it says goes to a file."""
        said = self.root / f"worker-{len(self._workers)}.txt"
        with said.open("wb") as file:
            worker = subprocess.Popen(
                [sys.executable, "-m", "labqueue", "worker", "--drain", "--root", str(self.root), *words],
                env=self._env | env, cwd=self.root, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._workers.append(worker)
        return worker

    def said(self, number: int) -> str:
        """What a worker has said so far."""
        return (self.root / f"worker-{number}.txt").read_text(errors="replace")

    def end(self) -> None:
        """Ends every worker and all that it started."""
        family = []
        for worker in self._workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
            if worker.poll() is None:
                worker.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(alive, timeout=5)

    def views(self, runs: list[int]) -> list[dict[str, Any]]:
        """The runs as ``show --json`` has them."""
        return [self.answer("show", str(run)) for run in runs]

    def series(self, run: int, metric: str) -> list[float]:
        """A metric's values by step."""
        return [value for _, value in self.answer("metrics", str(run), metric)]


class Watch(threading.Thread):
    """What NVML says of each card, sampled: the most memory in use, and who was there with how much."""

    def __init__(self, cards: list[str]) -> None:
        super().__init__(name="watch", daemon=True)
        self.peak_gib = dict.fromkeys(cards, 0.0)
        self.seen: dict[str, dict[int, float]] = {card: defaultdict(float) for card in cards}
        self.samples = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Samples until it is over."""
        import pynvml

        from labqueue.system import cards

        pynvml.nvmlInit()
        while not self._over.wait(SAMPLE_S):
            for name in self.peak_gib:
                found = cards.card(name)
                if found is not None:
                    self.peak_gib[name] = max(self.peak_gib[name], found.total_gib - found.free_gib)
                with contextlib.suppress(Exception):
                    handle = pynvml.nvmlDeviceGetHandleByUUID(name)
                    for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                        used_gib = (process.usedGpuMemory or 0) / 2**30
                        self.seen[name][process.pid] = max(self.seen[name][process.pid], used_gib)
            self.samples += 1

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(5)


class Trial:
    """The parts, what they found, and whether each law held: True, False, or None where it could not be measured."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.dry, self.output = given.dry, given.output.resolve()
        self.folder = given.folder.resolve() / f"two_cards-{os.getpid()}"
        self.folder.mkdir(parents=True)
        self.output.mkdir(parents=True, exist_ok=True)
        self.clock = Clock(given.limit_s)
        self.machine = self._made_up() if self.dry else {}
        self.laws: dict[str, bool | None] = {}
        self.figures: dict[str, Any] = {}
        self.labs: list[Lab] = []
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        from labqueue.system.cards import gpus

        found = gpus()
        self.cards = [card.uuid for card in found]
        self.figures["cards"] = [[card.index, card.uuid, card.name, round(card.total_gib, 2)] for card in found]
        if len(found) < 2:
            raise SystemExit(f"two cards are needed, this machine has {len(found)}; --dry tries the script without")
        self.cards = self.cards[:2]
        self.baseline = self._used_gib()
        self.losses: dict[tuple[str, float, int], list[float]] = {}

    def _made_up(self) -> dict[str, str]:
        from tests import driver

        name = f"GPU-{os.getpid()}-"
        machine = driver.machine(self.folder / "driver", driver.card(f"{name}a"), driver.card(f"{name}b"))
        os.environ["FAKE_CARDS"] = machine["FAKE_CARDS"]
        sys.path.insert(0, machine["PYTHONPATH"])
        return machine

    def _used_gib(self) -> dict[str, float]:
        from labqueue.system import cards

        found = {name: cards.card(name) for name in self.cards}
        return {name: card.total_gib - card.free_gib for name, card in found.items() if card is not None}

    def lab(self, name: str) -> Lab:
        """A new workspace."""
        lab = Lab(self.folder, name, self.clock, self.machine)
        self.labs.append(lab)
        return lab

    def law(self, words: str, held: bool | None) -> None:
        """Records whether a law held, and prints it."""
        self.laws[words] = held
        print({True: "ok     ", False: "BROKEN ", None: "not measured "}[held] + words, flush=True)

    def write(self) -> None:
        """Puts what is known into the output folder."""
        document = {"laws": self.laws, "figures": self.figures}
        (self.output / "two_cards.json").write_text(json.dumps(document, indent=1))

    def spec(self, name: str, backend: str, rates: list[float], seeds: list[int], *, drill: bool) -> dict[str, Any]:
        """A small sweep: of fine-tunings of the small model, or of drills of about as many steps."""
        common = {"name": name, "seeds": seeds}
        if drill:
            params: dict[str, Any] = {"steps": STEPS, "step_s": 0.4}
            return common | {"kind": "drill", "params": params, "sweep": {"grid": {"distance": rates}}}
        params = {
            "model": str(self.folder / "model"), "backend": backend, "steps": STEPS, "batch": BATCH,
            "accumulation": ACCUMULATION, "max_length": 256, "evaluations": 0, "samples": 0,
            "data": {"path": str(self.folder / "rows.jsonl"), "eval_items": 8},
        }  # fmt: skip
        sweep = {"grid": {"learning_rate": rates}}
        return common | {"kind": "finetune", "params": params, "sweep": sweep, "limits": {"memory_gib": CAP_GIB}}

    def prepare(self) -> None:
        """Makes model and rows, and compares the numbers of the cards with CUDA's own."""
        with (self.folder / "rows.jsonl").open("w") as file:
            for number in range(STEPS * BATCH * ACCUMULATION + 8):
                row = {"question": f"{number} plus {number + 1}?", "answer": f"{2 * number + 1} " * (1 + number % 5)}
                file.write(json.dumps(row) + "\n")
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        done = subprocess.run(
            [sys.executable, "-c", MAKE, str(self.folder / "model")],
            env=env, capture_output=True, text=True, timeout=self.clock.left_s(120), check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the model could not be made: {done.stderr[-2000:]}")
        numbered = json.loads(done.stdout.splitlines()[-1])
        self.figures["cuda_numbers"] = numbered
        self.law("CUDA numbers the cards as the lab does", None if self.dry else numbered[:2] == self.cards)
        # Also in the dry mode: what will be asked of a real machine is taken.
        lab = self.lab("planned")
        for backend in ("hf", "unsloth") if importlib.util.find_spec("unsloth") else ("hf",):
            path = lab.root / f"{backend}.yaml"
            path.write_text(json.dumps(self.spec(f"planned_{backend}", backend, [1e-4, 1e-3], [0, 1], drill=False)))
            planned = lab.answer("submit", str(path), "--profile", "gpu", "--no-preflight", "--dry-run")
            self.figures[f"planned_{backend}"] = [run.get("estimated_memory_gib") for run in planned["runs"]]

    def both(self, backend: str, seeds: list[int], patience_s: float) -> None:
        """A sweep on both cards at once, in one workspace; meanwhile others ask for the same cards."""
        lab, other, name = self.lab(f"both_{backend}"), self.lab(f"other_{backend}"), f"both_{backend}"
        runs = lab.submit(self.spec(name, backend, [1e-4, 1e-3], seeds, drill=self.dry))
        begun_s = time.monotonic()
        with Watch(self.cards) as watch:
            workers = [lab.worker("--device", f"cuda:{number}") for number in (0, 1)]
            for number in (0, 1):
                self.clock.until(partial(self._has_begun, lab, number), 60, "a run starts")
            seen = [self._environments(worker) for worker in workers]
            drain = ("worker", "--drain", "--device")
            with ThreadPoolExecutor() as pool:  # while the others compute, so all at once
                asking = [
                    pool.submit(lab.command, *drain, "cuda:0"),
                    pool.submit(other.command, *drain, "cuda:1"),
                    pool.submit(other.command, *drain, "auto", CUDA_VISIBLE_DEVICES=self.cards[1]),
                ]
                refused = [(done.result().returncode, done.result().stderr.strip()) for done in asking]
            codes = [worker.wait(self.clock.left_s(patience_s)) for worker in workers]
        wall_s = time.monotonic() - begun_s
        views = lab.views(runs)
        attempts = [view["attempts"] for view in views]
        on = [sorted({attempt["card"]["uuid"] for attempt in each}) for each in attempts]
        found = {
            "wall_s": round(wall_s, 1),
            "exit_codes": codes,
            "outcomes": [view["outcome"] for view in views],
            "reasons": [view["reason"] for view in views],
            "devices": [[attempt["device"] for attempt in each] for each in attempts],
            "cards": on,
            "peak_memory_gib": [view["peak_memory_gib"] for view in views],
            "context_gib": [view["context_gib"] for view in views],
            "visible_to_children": seen,
            "refused": refused,
            **self._watched(watch),
        }
        self.figures[name] = found
        self.law(f"{backend}: all runs succeed at once on both cards", set(found["outcomes"]) == {"succeeded"})
        self.law(f"{backend}: no run was tried twice", all(len(each) == 1 for each in attempts))
        self.law(f"{backend}: both cards computed at once", self._at_once(attempts))
        visible = [set(each) == {card} for each, card in zip(seen, self.cards, strict=True)]
        self.law(f"{backend}: each child sees its worker's card alone", all(visible))
        asked = {card: f"cuda:{number}" for number, card in enumerate(self.cards)}
        told = [asked[attempt["card"]["uuid"]] == attempt["device"] for each in attempts for attempt in each]
        self.law(f"{backend}: a run tells its device as asked for, and its card", all(told))
        self.law(f"{backend}: no process was on two cards", self._apart(watch))
        held = [code == 2 and "is held by the worker with process id" in words for code, words in refused]
        self.law(
            f"{backend}: a second worker is refused, in this workspace, session or another, by any name", all(held)
        )
        if not self.dry:
            rows = [self._batch(lab, view) for view in views]
            found["micro_batch"] = rows
            self.law(f"{backend}: the micro-batch is as asked", rows == [BATCH] * len(rows))
            caps = [(view["peak_memory_gib"] or 99.0) <= CAP_GIB for view in views]
            self.law(f"{backend}: every run kept to {CAP_GIB} GiB", all(caps))
        for view in views:
            (rate,) = view["varied"].values()
            self.losses[backend, rate, view["seed"]] = lab.series(view["id"], self._metric)
        self._back(backend)

    def preset(self, backend: str) -> None:
        """One worker that is given the second card alone: the reference for the losses, and nothing on the first."""
        lab = self.lab(f"preset_{backend}")
        name = f"both_{backend}"
        runs = lab.submit(self.spec(name, backend, [1e-4], [0], drill=self.dry))
        with Watch(self.cards) as watch:
            worker = lab.worker(CUDA_VISIBLE_DEVICES="1")
            code = worker.wait(self.clock.left_s(120))
        views = lab.views(runs)
        on = [[attempt["device"], attempt["card"]["uuid"]] for view in views for attempt in view["attempts"]]
        first, _ = self.cards
        moved_gib = watch.peak_gib[first] - self.baseline[first]
        # A sweep of one value varies nothing: it is the first rate's.
        one, two = lab.series(runs[0], self._metric), self.losses[backend, 1e-4, 0]
        differences = [abs(a - b) for a, b in zip(one, two, strict=True)]
        self.figures[f"preset_{backend}"] = {
            "exit_code": code, "outcomes": [view["outcome"] for view in views], "on": on,
            "first_card_moved_gib": round(moved_gib, 3), "loss_differences": differences,
            "losses": {f"{name} rate {rate} seed {seed}": found for (name, rate, seed), found in self.losses.items()},
            **self._watched(watch),
        }  # fmt: skip
        self.law(f"{backend}: a preset CUDA_VISIBLE_DEVICES is obeyed", all(o == ["cuda:0", self.cards[1]] for o in on))
        untouched = moved_gib < BACK_GIB and not watch.seen[first]
        self.law(f"{backend}: the hidden card is not touched", None if self.dry else untouched)
        alike = differences[0] < FIRST_LOSS and max(differences) < LOSS
        self.law(f"{backend}: losses are those of a run that one card was visible to", alike)
        self._back(f"preset {backend}")

    @staticmethod
    def _has_begun(lab: Lab, number: int) -> bool:
        return "starts: attempt" in lab.said(number)

    @property
    def _metric(self) -> str:
        return "value" if self.dry else "train_loss"

    def _environments(self, worker: subprocess.Popen[bytes]) -> list[str | None]:
        def look() -> list[str | None]:
            found = []
            for child in psutil.Process(worker.pid).children():
                with contextlib.suppress(psutil.Error):
                    if environ := child.environ():  # of one that is only just starting nothing can be read
                        found.append(environ.get("CUDA_VISIBLE_DEVICES"))
            return found if len(found) == 2 else []

        try:
            # ``until`` answers with whatever ``look`` found, which is the pair wanted here.
            return self.clock.until(look, 20, "one process computes and one waits")  # type: ignore[no-any-return]
        except TooLate:
            return []

    def _watched(self, watch: Watch) -> dict[str, Any]:
        return {
            "samples": watch.samples,
            "baseline_gib": {card: round(gib, 3) for card, gib in self.baseline.items()},
            "peak_used_gib": {card: round(gib, 3) for card, gib in watch.peak_gib.items()},
            "processes_gib": {card: {p: round(gib, 3) for p, gib in seen.items()} for card, seen in watch.seen.items()},
        }

    def _apart(self, watch: Watch) -> bool | None:
        """None where NVML shows no processes, as in some containers."""
        one, two = (set(watch.seen[card]) for card in self.cards)
        return not one & two if one and two else None

    @staticmethod
    def _at_once(attempts: list[list[dict[str, Any]]]) -> bool:
        spans = [(a["card"]["uuid"], a["started_at"], a["finished_at"]) for each in attempts for a in each]
        return any(c != d and s < u and t < e for c, s, e in spans for d, t, u in spans)  # ISO times sort as texts

    def _batch(self, lab: Lab, view: dict[str, Any]) -> int | None:
        """What the trainer held, as the run has recorded it; it fails by itself where the rows of a step differ."""
        for artifact in view["artifacts"]:
            if artifact["name"] == "trainer_config":
                held = json.loads((lab.root / artifact["path"]).read_text())["data"]
                return int(held["per_device_train_batch_size"])
        return None

    def _back(self, part: str) -> None:
        begun_s = time.monotonic()

        def back() -> bool:
            used = self._used_gib()
            return all(used[card] < self.baseline[card] + BACK_GIB for card in self.cards)

        try:
            self.clock.until(back, 30, "memory comes back")
            held = True
        except TooLate:
            held = False
        self.figures[f"memory_back_s after {part}"] = round(time.monotonic() - begun_s, 2) if held else None
        self.law(f"{part}: the memory of both cards comes back", held)

    def all_parts(self, backends: list[str]) -> bool:
        """Every part, as far as time allows; what fails to run is a broken law, and the next part is tried."""
        parts: list[tuple[str, Callable[[], None]]] = [("prepare", self.prepare)]
        for backend in backends:
            seeds = [0, 1] if backend == "hf" else [0]
            parts.append((f"both {backend}", partial(self.both, backend, seeds, 150)))
            parts.append((f"preset {backend}", partial(self.preset, backend)))
        try:
            for name, part in parts:
                begun_s = time.monotonic()
                if self.clock.rest_s < LEAST_S:
                    self.law(f"{name}: there was time for it", None)
                    continue
                try:
                    part()
                except Exception as error:
                    traceback.print_exc()
                    self.figures[f"error in {name}"] = f"{type(error).__name__}: {error}"
                    self.law(f"{name} could be tried", False)
                self.figures[f"seconds for {name}"] = round(time.monotonic() - begun_s, 1)
                for lab in self.labs:
                    lab.end()
                self.write()
        finally:
            for lab in self.labs:
                lab.end()
            for lab in self.labs:
                for number, path in enumerate(sorted(lab.root.glob("worker-*.txt"))):
                    self.figures[f"said {lab.root.name} {number}"] = path.read_text(errors="replace").splitlines()[-40:]
            self.write()
            self._keep_logs()
            for name in self.cards if self.dry else []:
                for path in Path("/run/lock/labqueue").glob(f"{name}.*"):
                    path.unlink()
        return all(held is not False for held in self.laws.values())

    def _keep_logs(self) -> None:
        for lab in self.labs:
            for log in lab.root.glob("outputs/*/*/attempt-*.log"):
                kept = self.output / f"{lab.root.name}-{log.parent.name}-{log.name}"
                kept.write_bytes(log.read_bytes()[-20_000:])


def main() -> None:
    """Runs the parts and prints what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="Folder for two_cards.json and the runs' logs.")
    parser.add_argument("--limit-s", type=float, default=285.0)
    parser.add_argument("--backends", nargs="+", choices=("hf", "unsloth"))
    parser.add_argument("--dry", action="store_true", help="Made-up cards and drills instead of fine-tuning.")
    given = parser.parse_args()
    trial = Trial(given)
    installed = importlib.util.find_spec("unsloth") is not None and not given.dry
    good = trial.all_parts(given.backends or (["hf", "unsloth"] if installed else ["hf"]))
    print(json.dumps({"laws": trial.laws, "figures": trial.figures}, indent=1))
    sys.exit(not good)


if __name__ == "__main__":
    main()
