"""``labqueue generate``: submits a run of kind ``generate``, waits for it, and prints its text as it comes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labqueue.cli.common import PRIORITY, at_root, dump, json_option, open_database, root_option, settings
from labqueue.cli.render import echo
from labqueue.domain.errors import LabError, nearest
from labqueue.domain.spec.references import is_reference

if TYPE_CHECKING:
    from labqueue.domain.views import RunView
    from labqueue.settings import Settings
    from labqueue.store.db import Database
    from labqueue.submission.plan import Plan

LOOK_S = 0.2
"""Between looks at the results store; the run's process writes its text there every quarter of a second."""

LAST_LINES = 20
"""What is kept of an own worker's words, for when it cannot go on."""

FINAL = "final"
"""The artifact that is asked where none is named and the run has several models."""


@click.command()
@click.argument("run", type=click.IntRange(min=1), metavar="RUN")
@click.option("--artifact", metavar="NAME", help="Which of its models; default final, or the only one.")
@click.option("--prompt", "prompts", multiple=True, required=True, metavar="TEXT", help="A text to go on with.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Another, another text.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, 100),
    default=0.8,
    show_default=True,
    help="0: the likeliest token each time.",
)
@click.option("--top-k", type=click.IntRange(min=1), help="Draw from the k likeliest tokens only.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Draw from the fewest that hold so much probability.",
)
@click.option("--max-new-tokens", type=click.IntRange(1, 4096), default=200, show_default=True, help="At most.")
@click.option("--profile", help="cpu or gpu; default gpu when a GPU is there.")
@click.option("--priority", type=PRIORITY, default=1000, show_default=True, help="Higher starts earlier: you wait.")
@root_option
@json_option
@click.pass_context
def generate(
    ctx: click.Context,
    run: int,
    artifact: str | None,
    prompts: Sequence[str],
    seed: int,
    temperature: float,
    top_k: int | None,
    top_p: float,
    max_new_tokens: int,
    profile: str | None,
    priority: int,
    own_root: str | None,
    as_json: bool,
) -> None:
    """Have a kept model of a run go on with prompts: text as it comes, the same for the same seed.

    It is a run of its own, which waits for the device like any other; a worker is started where none works. Ctrl-C
    cancels it.
    """
    from labqueue.submission import plan

    chosen = settings(own_root)
    db = open_database(own_root)
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p} if temperature > 0 else {}
    if not how and (top_k is not None or top_p < 1):
        raise LabError("--top-k and --top-p choose what is drawn from, and --temperature 0 draws nothing", key="top_k")
    source = _read(db, run)
    params = _model(chosen, source, _artifact(source, artifact))
    params |= {"prompts": list(prompts), "max_new_tokens": max_new_tokens, **how}
    request = plan.Request(profile=profile, priority=priority)
    planned, made, reused = _submitted(chosen, source, params, seed, request)
    if not as_json and reused:
        echo(f"run {made} has done this already", err=True)
    worker = None if reused else _worker(chosen, db, made, planned.job.device)
    try:
        printed = _Printed(quiet=as_json)
        view = _followed(db, made, worker, printed)
    except KeyboardInterrupt:
        _cancel(db, made, worker)
        raise
    finally:
        if worker is not None:
            worker.close()
    document = {name: getattr(view, name) for name in ("experiment", "outcome", "reason", "seed", "samples")}
    if as_json:
        dump({"schema": 1, "run": view.id, "reused": reused, **document})
    elif view.outcome != "succeeded":
        echo(f"run {view.id} {view.outcome}" + (f": {view.reason}" if view.reason else ""), err=True)
    ctx.exit(0 if view.outcome == "succeeded" else 1)


def _read(db: Database, run: int) -> RunView:
    from labqueue.store.queries import read

    return read.run(db, run)


def _artifact(source: RunView, named: str | None) -> str:
    """The path of the model that is meant.

    Raises:
        LabError: the run has none of that name, none at all, or several of which none is named; with those there are.
    """
    models = {each.name: each.path for each in source.artifacts if each.type == "model"}
    if named is None:
        named = FINAL if FINAL in models else next(iter(models)) if len(models) == 1 else None
    if named in models:
        return models[named]
    if not models:
        what = "has kept no model yet" if source.state != "finished" else "has left no model"
        ask = f"; `labqueue checkpoint {source.id}` asks for one" if source.state == "running" else ""
        raise LabError(f"run {source.id} ({source.experiment}, kind {source.kind}) {what}{ask}", key="artifact")
    listed = ", ".join(models)
    if named is None:
        raise LabError(f"run {source.id} has several models: name one with --artifact: {listed}", key="artifact")
    words = f"run {source.id} has no model {named!r}: {nearest(named, models)}; it has {listed}"
    raise LabError(words, key="artifact")


def _model(chosen: Settings, source: RunView, path: str) -> dict[str, Any]:
    """The parameters that name a model: a whole one, or an adapter with what its run trained it on.

    Raises:
        LabError: its files are gone, or cannot be read.
    """
    from labqueue.llm.models import adapter_folder, catalogue

    folder = chosen.root / path
    if not folder.is_dir():
        raise LabError(f"the model {path} of run {source.id} is not in this workspace: its files are gone", file=path)
    if not (folder / adapter_folder.CONFIG).is_file():
        with at_root(chosen.root):
            return {"model": path, "quantization": "4bit" if catalogue.form(path) else "none"}
    about, theirs = adapter_folder.about(folder), source.params
    base: Any = theirs.get("model", about.get("base", {}).get("name"))
    if is_reference(base) and base["from_run"].get("seed") == "same":
        base = {"from_run": {**base["from_run"], "seed": source.seed}}
    quantization = about.get("quantization", theirs.get("quantization", "4bit"))
    return {"model": base, "adapter": path, "quantization": quantization, "beside_base": False}


def _submitted(
    chosen: Settings, source: RunView, params: Mapping[str, Any], seed: int, request: Any
) -> tuple[Plan, int, bool]:
    """Records the run, unless one like it has succeeded: its plan, its id, and whether it had."""
    from labqueue.submission import plan, specfile, submit

    spec = {
        # Of one experiment per model's experiment, so that listings stay short.
        "name": f"generate_{source.experiment}"[:64],
        "kind": "generate",
        "track": "generate",
        "methodology": f"asked on the command line of run {source.id} of {source.experiment}",
        "params": dict(params),
        "seeds": [seed],
    }
    with at_root(chosen.root):
        plans = [plan.plan(specfile.Source(plan.COMMAND_LINE, spec, {}), request)]
        submit.refuse_what_cannot_fit(chosen, plans)
        plans = submit.prepare(plans, lambda words: echo(words, err=True))
        (answer,) = submit.submit(chosen, plans, request)
    return plans[0], answer.runs[0], bool(answer.reused)


class _OwnWorker:
    """A worker that ends once the run has finished, where no other is there to execute it."""

    def __init__(self, root: Path, run: int, device: str) -> None:
        # In a group of its own: Ctrl-C is for this command, which cancels the run first.
        words = ["worker", "--drain", "--for", str(run), "--device", device, "--root", str(root)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "labqueue", *words],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        # Read all the while: a worker whose pipe is full stands still.
        self._reader = threading.Thread(target=self._said.extend, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def last_words(self) -> str:
        self._reader.join(1.0)
        return "".join(self._said).strip()

    def close(self) -> None:
        """Waits for its end; what it still computes goes back into the queue with a checkpoint."""
        if not self.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        self._reader.join(1.0)


def _worker(chosen: Settings, db: Database, run: int, device: str) -> _OwnWorker | None:
    """A worker for the run; None where one is there already."""
    from labqueue.store.queries import read
    from labqueue.system import processes

    lives = read.status(
        db, lambda *identity: processes.lives(processes.Identity(*identity), db.place, wait_s=0)
    ).workers
    if any(worker.alive and worker.device.partition(":")[0] == device for worker in lives):
        return None
    return _OwnWorker(chosen.root, run, "cpu" if device == "cpu" else "auto")


def _followed(db: Database, run: int, worker: _OwnWorker | None, printed: _Printed) -> RunView:
    """The run once it has finished; its text is printed meanwhile.

    Raises:
        LabError: it waits for what only a person can give, and nobody is there to execute it.
    """
    waits = ""
    for view in _views(db, run):
        printed.show(view)
        if view.state == "finished":
            return view
        reason = view.waiting.text if view.state == "queued" and view.waiting else ""
        if reason and reason != waits:
            printed.tell(f"run {run} waits: {reason}")
            waits = reason
        if worker is not None and worker.ended and _read(db, run).state == "queued":
            words = reason or worker.last_words or "its worker ended"
            raise LabError(f"run {run} is queued and nobody executes it now: {words}. `labqueue cancel {run}` drops it")
    raise AssertionError("a run is looked at until it has finished")


def _views(db: Database, run: int) -> Iterator[RunView]:
    while True:
        yield _read(db, run)
        time.sleep(LOOK_S)


class _Printed:
    """What of a run's text stands on the terminal already."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._current: int | None = None
        self._shown: dict[int, str] = {}

    def tell(self, words: str) -> None:
        """A line beside the text."""
        if not self._quiet:
            echo(words, err=True)

    def show(self, view: RunView) -> None:
        """Prints what has been written since: each prompt, and what follows it."""
        if self._quiet:
            return
        for sample in view.samples:
            known = self._shown.get(sample.number)
            if known is None:
                if self._current is not None:
                    echo("\n")
                echo(sample.prompt, nl=False)
                self._current, known = sample.number, ""
            # An attempt that begins again writes the same text once more, from its first letter.
            if len(sample.text) > len(known):
                echo(sample.text[len(known) :], nl=False)
                self._shown[sample.number] = sample.text
            else:
                self._shown.setdefault(sample.number, known)
        sys.stdout.flush()
        if view.state == "finished" and self._current is not None:
            echo("")


def _cancel(db: Database, run: int, worker: _OwnWorker | None) -> None:
    """Cancels the run; one that computes stops first, and a worker of one's own ends with it."""
    from labqueue.store.runs import control

    with contextlib.suppress(LabError):  # it has finished meanwhile
        control.cancel(db, str(run))
        echo(f"\nrun {run} is cancelled", err=True)
    if worker is not None:
        worker.close()
