"""``labqueue generate``: submits a run of kind ``generate``, waits for it, and prints its text as it comes."""

from __future__ import annotations

import contextlib
import math
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from labqueue.cli.common import PRIORITY, at_root, dump, json_option, open_database, root_option, settings
from labqueue.cli.render import echo
from labqueue.domain.errors import DeviceInUse, LabError, nearest
from labqueue.domain.spec import references

if TYPE_CHECKING:
    from labqueue.domain.views import RunView
    from labqueue.settings import Settings
    from labqueue.store.db import Database
    from labqueue.submission.plan import Plan

LOOK_S = 0.2
"""Between looks at the results store; the run's process writes its text there every quarter of a second."""

LOOK_FOR_WORKERS_S = 2.0
"""Between looks whether a worker is there: one that died holds its lease for a while."""

END_S = 5.0
"""How long an own worker may take to end by itself once its run has finished. Assumption: it needs a second."""

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
    params = _model(chosen, db, source, _artifact(source, artifact))
    params |= {"prompts": list(prompts), "max_new_tokens": max_new_tokens, **how}
    request = plan.Request(profile=profile, priority=priority)
    planned, made, reused = _submitted(chosen, source, params, seed, request)
    if not as_json and reused:
        echo(f"run {made} has done this already", err=True)
    executor = _Executor(chosen, db, made, planned.job.device)
    try:
        view = _followed(db, made, executor, _Printed(quiet=as_json))
    except KeyboardInterrupt:
        _cancel(db, made)
        raise
    finally:
        executor.close()
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


def _model(chosen: Settings, db: Database, source: RunView, path: str) -> dict[str, Any]:
    """The parameters that name a model: a whole one, or an adapter with what its run trained it on.

    Raises:
        LabError: its files are gone, or cannot be read; the run that the base came from is not in this workspace.
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
    named = references.of("model", base)
    if named is not None and isinstance(named.seed, str):
        base = {references.KEY: {**base[references.KEY], "seed": _seed(db, source, named)}}
    quantization = about.get("quantization", theirs.get("quantization", "4bit"))
    return {"model": base, "adapter": path, "quantization": quantization, "beside_base": False}


def _seed(db: Database, source: RunView, named: references.Reference) -> int:
    """The seed of the run that the base was taken from. Of ``next``: as it was then, for seeds may have come since.

    Raises:
        LabError: that run is not in this workspace.
    """
    from labqueue.store.runs import inputs

    if named.seed == "same":
        return source.seed
    seed = inputs.seed_taken(db, source.id, f"params.{named.key}")
    if seed is None:
        words = f"the base of run {source.id} is of a run of {named.experiment!r} that is not in this workspace"
        raise LabError(f"{words}: `labqueue import` it", key="model")
    return seed


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


class _Executor:
    """Who executes the run: a worker that is there, or else one of this command's own, which ends with the run."""

    def __init__(self, chosen: Settings, db: Database, run: int, device: str) -> None:
        self._db, self._run, self._device = db, run, device
        words = ["worker", "--drain", "--for", str(run), "--device", "cpu" if device == "cpu" else "auto"]
        self._command = [sys.executable, "-m", "labqueue", *words, "--root", str(chosen.root)]
        self._own: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._looked = -math.inf

    def look(self, reason: str) -> None:
        """Starts a worker where there is none. ``reason`` is why the run waits.

        Raises:
            LabError: an own worker has ended, and the run waits on: for what only a person can give.
        """
        if self._own is not None:
            status = self._own.poll()
            if status is None:
                return
            self.close()
            # Another one was quicker, or the run is no longer in the queue: then it is looked at again.
            if status != DeviceInUse.exit_status and _read(self._db, self._run).state == "queued":
                words = reason or "".join(self._said).strip() or "its worker ended"
                cure = f"`labqueue cancel {self._run}` drops it"
                raise LabError(f"run {self._run} is queued and nobody executes it now: {words}. {cure}")
        elif time.monotonic() - self._looked >= LOOK_FOR_WORKERS_S:
            self._looked = time.monotonic()
            if not self._others():
                self._start()

    def close(self) -> None:
        """Waits for the end of an own worker; what it still computes goes back into the queue with a checkpoint."""
        if self._own is None:
            return
        try:
            self._own.wait(END_S)
        except subprocess.TimeoutExpired:
            self._own.send_signal(signal.SIGTERM)
            self._own.wait()
        if self._reader is not None:
            self._reader.join(END_S)
        self._own = None

    def _start(self) -> None:
        # In a session of its own: Ctrl-C is for this command, which cancels the run first.
        how: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True, "errors": "replace", "start_new_session": True}
        self._own = subprocess.Popen(self._command, **how)
        self._said.clear()
        # Read all the while: a worker whose pipe is full stands still.
        self._reader = threading.Thread(target=self._said.extend, args=(self._own.stderr,), daemon=True)
        self._reader.start()

    def _others(self) -> bool:
        """Whether a worker of the run's device is there: its lease holds, or its process lives, if only stopped."""
        from labqueue.store.queries import read
        from labqueue.system import processes

        def lives(*identity: Any) -> bool | None:
            return processes.lives(processes.Identity(*identity), self._db.place, wait_s=0)

        known = [each for each in read.workers(self._db, lives) if each.device.partition(":")[0] == self._device]
        return any(each.alive or each.frozen for each in known)


def _followed(db: Database, run: int, executor: _Executor, printed: _Printed) -> RunView:
    """The run once it has finished; its text is printed meanwhile.

    Raises:
        LabError: as ``_Executor.look``.
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
        executor.look(reason)
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


def _cancel(db: Database, run: int) -> None:
    """Cancels the run; one that computes stops first, and an own worker ends with it."""
    from labqueue.store.runs import control

    with contextlib.suppress(LabError):  # it has finished meanwhile
        control.cancel(db, str(run))
        echo(f"\nrun {run} is cancelled", err=True)
