"""``labqueue doctor``: is this machine fit, and if not, what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from labqueue.cli.common import dump, json_option, root_option, settings
from labqueue.cli.render import echo
from labqueue.settings import Settings

NEEDED = ("torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "accelerate", "huey", "sqlalchemy")
FREE_GIB = 10
"""What a night of small runs writes, with its checkpoints. Assumption."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination: ``ok``, ``warn`` (works, but) or ``bad`` (will not work)."""

    what: str
    state: str
    found: str
    cure: str = ""


@click.command()
@root_option
@json_option
@click.option("--notify", is_flag=True, help="Also send a test message to where notifications go.")
@click.pass_context
def doctor(ctx: click.Context, own_root: str | None, as_json: bool, notify: bool) -> None:
    """Check Python, SQLite, GPU, driver, disk, memory and packages; exit 1 when something will not work."""
    findings = [
        *_python(),
        _sqlite(),
        *_workspace(settings(own_root).root),
        _memory(),
        _processor(),
        *_packages(),
        *_gpu(),
        _notifications(settings(own_root), test=notify),
        _sleep(),
    ]
    bad = any(finding.state == "bad" for finding in findings)
    if as_json:
        dump({"schema": 1, "ok": not bad, "findings": [asdict(finding) for finding in findings]})
    else:
        colours = {"ok": "green", "warn": "yellow", "bad": "red"}
        for finding in findings:
            click.secho(f"{finding.state:<5}", fg=colours[finding.state], nl=False)
            echo(f"{finding.what:<22}{finding.found}")
            if finding.cure:
                echo(f"     → {finding.cure}")
    ctx.exit(1 if bad else 0)


def _python() -> list[Finding]:
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return [
        Finding("Python", "ok" if good else "bad", version, "" if good else "use Python 3.11, 3.12 or 3.13"),
        Finding("system", "ok" if sys.platform == "linux" else "bad", platform.platform(),
                "" if sys.platform == "linux" else "the lab runs on Linux (on Windows: WSL 2)"),
    ]  # fmt: skip


def _sqlite() -> Finding:
    from labqueue.store.sqlite import SAFE_WAL, library

    module, version, safe = library()
    needed = ".".join(map(str, SAFE_WAL))
    cure = "" if safe else f"older than {needed}, so WAL is off and pages may wait for writers: pip install pysqlite3"
    mode = "WAL" if safe else "DELETE journal"
    return Finding("SQLite", "ok" if safe else "warn", f"{version} through {module}, {mode}", cure)


def _workspace(root: Path) -> list[Finding]:
    findings = []
    folder = next(path for path in (root, *root.parents) if path.exists())
    writable = os.access(folder, os.W_OK)
    cure = "" if writable else "choose another with --root or LABQUEUE_ROOT"
    findings.append(Finding("workspace", "ok" if writable else "bad", str(root), cure))
    free_gib = shutil.disk_usage(folder).free / 1024**3
    cure = "" if free_gib >= FREE_GIB else "`labqueue gc` says what may go" if free_gib else ""
    findings.append(Finding("disk", "ok" if free_gib >= FREE_GIB else "warn", f"{free_gib:.1f} GiB free", cure))
    from labqueue.domain.errors import LabError
    from labqueue.store.db import open_existing

    database = Settings(root).database
    try:
        db = open_existing(database)
        found = "none yet: the first submission makes it" if db is None else str(database)
        findings.append(Finding("results.db", "ok", found))
    except LabError as error:
        findings.append(Finding("results.db", "bad", str(database), error.message))
    return findings


def _memory() -> Finding:
    from labqueue.llm import processor

    gib = processor.memory_gib()
    cure = "" if gib >= 8 else "models above some 500 million parameters will not load"
    return Finding("memory", "ok" if gib >= 8 else "warn", f"{gib:.1f} GiB, {os.cpu_count()} cores", cure)


def _processor() -> Finding:
    """What runs on the CPU compute in, and how fast both types are here."""
    from labqueue.domain.errors import LabError
    from labqueue.llm import processor

    try:
        chosen, found, cores = processor.cpu_dtype(), processor.speeds(), processor.cores()
    except LabError as error:
        return Finding("processor", "bad", platform.machine(), str(error))
    threads = os.environ.get("OMP_NUM_THREADS")
    used = f"{cores} core{'s' * (cores != 1)}" + (f", OMP_NUM_THREADS {threads}" if threads else "")
    speeds = f"bfloat16 {found.bfloat16:,.0f}, float32 {found.float32:,.0f} GFLOP/s a core"
    return Finding("processor", "ok", f"computes in {chosen} ({speeds}); {used} for a run")


def _notifications(chosen: Settings, *, test: bool) -> Finding:
    """Whether anybody is told in the morning. Targets may hold passwords, so none is printed."""
    from labqueue.domain.errors import LabError
    from labqueue.worker import notifications

    try:
        urls = chosen.notify
    except LabError as error:
        return Finding("notifications", "bad", "none", str(error))
    if not urls:
        cure = 'set LABQUEUE_NOTIFY, or notify = ["ntfy://TOPIC"] in labqueue.toml (any of Apprise\'s URLs)'
        return Finding("notifications", "bad" if test else "ok", "no target is set", cure)
    unknown = notifications.invalid(urls)
    if unknown:
        return Finding("notifications", "bad", f"{len(urls)} targets", f"Apprise does not know {', '.join(unknown)}")
    found = f"{len(urls)} target{'s' if len(urls) > 1 else ''}"
    if not test:
        return Finding("notifications", "ok", f"{found} (`labqueue doctor --notify` sends a test)")
    message = notifications.Message("info", "labqueue: test", f"labqueue doctor sends this from {chosen.root}.")
    problem = notifications.send(urls, message)
    if problem:
        return Finding("notifications", "bad", f"{found}, the test message was not taken", problem)
    return Finding("notifications", "ok", f"{found}, test message sent")


def _sleep() -> Finding:
    from labqueue.worker import sleep_inhibitor

    problem = sleep_inhibitor.problem()
    if problem is None:
        return Finding("sleep", "ok", "the machine stays awake while a run computes")
    return Finding(
        "sleep", "warn", "the machine may suspend during a run", f"{problem}: switch suspending off yourself"
    )


def _packages() -> list[Finding]:
    found, missing = [], []
    for name in NEEDED:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    findings = [Finding("packages", "ok", ", ".join(found))]
    if missing:
        findings.append(Finding("packages", "bad", f"missing: {', '.join(missing)}", "uv sync"))
    return findings


def _gpu() -> list[Finding]:
    from labqueue.system.cards import gpus

    cards = gpus()
    if not cards:
        driver = Path("/proc/driver/nvidia/version").exists()
        cure = (
            "a driver is loaded but shows no card: check CUDA_VISIBLE_DEVICES and nvidia-smi"
            if driver
            else "runs use the CPU; for a card install NVIDIA's driver (580 or newer for CUDA 13)"
        )
        return [Finding("GPU", "warn", "none", cure)]
    # Only here: torch takes seconds to import, and only it knows which architectures its kernels were built for.
    from labqueue.llm.memory import device

    findings = []
    for card in cards:
        words = f"{card.name}, {card.total_gib:.1f} GiB ({card.free_gib:.1f} free), driver {card.driver}, {card.uuid}"
        problem = device.unsupported(card.index)
        cure = f"{problem}: install a torch built for it (CUDA 12.8 or newer for sm_120)" if problem else ""
        findings.append(Finding(f"cuda:{card.index}", "bad" if problem else "ok", words, cure))
    try:
        version = importlib.metadata.version("unsloth")
        findings.append(Finding("unsloth", "ok", version))
    except importlib.metadata.PackageNotFoundError:
        findings.append(Finding("unsloth", "warn", "not installed", "faster on a GPU: uv sync --extra gpu"))
    return findings
