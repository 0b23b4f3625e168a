"""The command ``labqueue``. Subcommands are imported only when they are called, so that ``--help`` is quick."""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import sys
from typing import Any, NoReturn

import click

from labqueue.domain.text import HANDLER, one_line, printable

COMMANDS = {
    # name: (module, attribute, one line of help: here so that --help imports nothing)
    "submit": ("labqueue.cli.submit", "submit", "Validate specs, record their runs, and wake the worker."),
    "worker": ("labqueue.cli.worker", "worker", "Execute queued runs of one device, one at a time."),
    "loop": ("labqueue.cli.loop", "loop", "Carry out a search, unattended, until its stop rule holds."),
    "generate": ("labqueue.cli.generate", "generate", "Have a kept model of a run go on with prompts."),
    "status": ("labqueue.cli.status", "status", "What runs, what waits, when all will be done."),
    "queue": ("labqueue.cli.status", "queue", "The queue in the order in which it will run."),
    "jobs": ("labqueue.cli.jobs", "jobs", "Submissions of an experiment: when, of what code, and what each claimed."),
    "runs": ("labqueue.cli.runs", "runs", "Runs, newest first."),
    "show": ("labqueue.cli.runs", "show", "One run with everything known of it."),
    "metrics": ("labqueue.cli.runs", "metrics", "One metric's whole series."),
    "logs": ("labqueue.cli.runs", "logs", "What a run printed."),
    "compare": ("labqueue.cli.compare", "compare", "Runs, or experiments, side by side: what differs, then metrics."),
    "report": ("labqueue.cli.report", "report", "Tables, plots and verdicts of one experiment."),
    "cancel": ("labqueue.cli.control", "cancel", "End runs; running ones checkpoint first."),
    "pause": ("labqueue.cli.control", "pause", "Hold runs; running ones checkpoint and give the device back."),
    "resume": ("labqueue.cli.control", "resume", "End a pause."),
    "retry": ("labqueue.cli.control", "retry", "Queue finished runs again under their ids; never a succeeded one."),
    "release": ("labqueue.cli.control", "release", "Free runs from what they wait for."),
    "prioritize": ("labqueue.cli.control", "prioritize", "Change the priority of unfinished runs."),
    "checkpoint": ("labqueue.cli.control", "checkpoint", "Ask a running run to keep the model that it has now."),
    "estimate": ("labqueue.cli.estimate", "estimate", "Predicted GPU memory, of a spec's runs or of one setting."),
    "kinds": ("labqueue.cli.catalogue", "kinds", "Kinds of experiment and their parameters."),
    "models": ("labqueue.cli.catalogue", "models", "Models that specs can name."),
    "corpora": ("labqueue.cli.catalogue", "corpora", "Text and tasks that specs can name."),
    "new": ("labqueue.cli.new", "new", "Write a commented spec to start from."),
    "questions": ("labqueue.cli.questions", "questions", "What is asked, by which experiments, and what the data say."),
    "archive": ("labqueue.cli.archive", "archive", "Take experiments out of the listings; nothing is lost."),
    "restore": ("labqueue.cli.archive", "restore", "Bring archived experiments back."),
    "delete": ("labqueue.cli.archive", "delete", "Delete an archived experiment with all its runs and outputs."),
    "export": ("labqueue.cli.export", "export", "Experiments as an archive file, or for MLflow."),
    "import": ("labqueue.cli.export", "import_", "Runs from another workspace or an exported archive."),
    "gc": ("labqueue.cli.gc", "gc", "Files that can be deleted, why, and what it frees."),
    "doctor": ("labqueue.cli.doctor", "doctor", "Check this machine, and say what to do about each problem."),
}


class _ReaderGone(Exception):
    """Standard output was closed by whoever read it: ``labqueue status | head``."""


class _Lazy(click.Group):
    """A group that imports a command when it is called, and prints its list without importing any."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if not any("--root" in parameter.opts for parameter in command.params):
            # What looks at no workspace takes it all the same: people type it everywhere.
            command.params.append(click.Option(["--root"], metavar="DIR", expose_value=False, help="The workspace."))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Click would end this as a failure with status 1.
            raise _ReaderGone from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from labqueue.domain.errors import LabError, nearest

            raise LabError(f"there is no command {args[0]!r}: {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--root", metavar="DIR", help="The workspace; default LABQUEUE_ROOT, else the current folder.")
@click.version_option(package_name="labqueue")
@click.pass_context
def cli(ctx: click.Context, root: str | None) -> None:
    """An LLM learning lab for one person with one GPU.

    \b
    Start:       labqueue submit jobs/quickstart.yaml --run
    Completion:  eval "$(_LABQUEUE_COMPLETE=bash_source labqueue)"
    """
    ctx.obj = {"root": root}


def main(argv: list[str] | None = None) -> NoReturn:
    """Runs a command line, `--help` where there is none, and exits: 0 done, 1 work failed, 2 the request is wrong,
    3 the workspace was moved under a living process.
    """
    # Importing makes tens of thousands of objects that all stay: collecting among them is a tenth of the start-up.
    gc.set_threshold(50_000, 20, 20)
    words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot write a dash gets a plain one, never a traceback.
            stream.reconfigure(errors=HANDLER)
    try:
        _refuse_half_letters(words)
        code = cli.main(words, prog_name="labqueue", standalone_mode=False)
        _leave(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as error:
        _leave(error.exit_code)
    except click.Abort:
        _leave(1)
    except (_ReaderGone, BrokenPipeError):
        _leave(0)
    except click.ClickException as error:
        _fail(words, error.format_message(), {}, 2)
    except Exception as error:
        from labqueue.domain.errors import LabError

        if not isinstance(error, LabError):
            _fail_for_room(words, error)
            raise
        place = {"file": error.file, "line": error.line, "key": error.key}
        _fail(words, error.message, place, error.exit_status)


def _fail_for_room(words: list[str], error: Exception) -> None:
    """Ends with a sentence where an error means a full disk, which no code can foresee at every write."""
    from pathlib import Path

    from labqueue.system import disk

    here = Path.cwd()
    if disk.is_disk_full(error, here):
        cure = disk.elsewhere(error, here) or "free some space: `labqueue gc` shows what may go"
        _fail(words, f"{error}; {cure}", {}, 2)


def _refuse_half_letters(words: list[str]) -> None:
    """Words that are not in the terminal's encoding come as halves of surrogate pairs, which nothing here can hold."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            from labqueue.domain.errors import LabError

            raise LabError(f"{word!r} on the command line is not text in UTF-8") from None


def _fail(words: list[str], message: str, place: dict[str, Any], code: int) -> NoReturn:
    where = place.get("file") or ""
    if place.get("line") is not None:
        where += f":{place['line']}"
    click.echo(f"labqueue: {one_line(where + ': ' if where else '')}{printable(message)}", err=True)
    if "--json" in words:
        error = {"message": message, "file": None, "line": None, "key": None} | place
        click.echo(json.dumps({"schema": 1, "error": error}))
    _leave(code)


def _leave(code: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads any more; the interpreter's own flush at exit would fail once again, and say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
