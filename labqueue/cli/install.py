"""``labqueue worker --install``: the worker as a service of this user."""

from __future__ import annotations

import os

import click
from click.core import ParameterSource

from labqueue.cli.render import echo
from labqueue.domain.errors import LabError
from labqueue.settings import Settings

NOT_KEPT = ("install", "own_root")
"""Parameters of ``labqueue worker`` that are not the service's: the first is this, the second is always written."""


def install(settings: Settings, grace_s: float) -> None:
    """Writes the unit file of the worker that this command line asks for, and says how to enable it.

    Raises:
        LabError: the options make a worker that ends, the device is not there, or the file cannot be written.
    """
    from labqueue.system.devices import choose
    from labqueue.worker import systemd

    ctx = click.get_current_context()
    for name, instead in (("drain", ""), ("until", "; for hours that come back every night use --between")):
        if ctx.params.get(name):
            raise LabError(f"--install makes a worker that stays, and --{name} one that ends: leave one out{instead}")
    if ctx.params.get("until"):
        raise LabError("--install makes a worker that stays, and --until one that ends: use --between instead")
    choose(settings.device)
    wanted = systemd.unit(
        settings.root, _words(ctx), device=settings.device, grace_s=grace_s, environment=dict(os.environ)
    )
    echo(f"{'wrote' if systemd.install(wanted) else 'nothing to change in'} {wanted.path}")
    echo("Enable it, and keep it up when you log out:")
    echo("  systemctl --user daemon-reload")
    echo(f"  systemctl --user enable --now {wanted.name}")
    echo("  loginctl enable-linger")
    echo(f"Then: systemctl --user status {wanted.name}; journalctl --user -u {wanted.name} -f")
    if os.environ.get("LABQUEUE_NOTIFY"):
        echo("LABQUEUE_NOTIFY is not copied, since it may hold passwords: put notify = […] into labqueue.toml")


def _words(ctx: click.Context) -> list[str]:
    """The options of this command line, as they can be given again."""
    words = []
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
        if not isinstance(parameter, click.Option) or name in NOT_KEPT or not given:
            continue
        value = ctx.params[name]
        option = max(parameter.opts, key=len)
        if parameter.is_flag:
            words += [option] if value else []
        else:
            words += [option, str(value)]
    return words
