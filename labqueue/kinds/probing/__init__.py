"""Looks into the residual stream: what each layer adds, what the lens reads there, and what a linear probe finds."""

from __future__ import annotations

from labqueue.domain import kind
from labqueue.domain.kind import Recorder
from labqueue.kinds import _host, _inside
from labqueue.kinds.probing.params import ARTIFACTS, METRICS, Params, Residual

__all__ = ["ARTIFACTS", "COMPUTED_IN", "METRICS", "Params", "assets", "check", "imports", "pinned", "resolved", "run"]

COMPUTED_IN = "dtype"


def run(params: Params, rec: Recorder) -> None:
    """Does the study that the parameters ask for.

    Raises:
        UserError: a model or an adapter that is not there, has changed, or whose blocks are not known; texts that are
            too long or too short; labels that no probe can be fitted on.
        Stopped: asked to stop; nothing is kept, a resume begins again.
    """
    from labqueue.domain.errors import LabError
    from labqueue.kinds.probing import labels, stream

    try:
        if isinstance(params.study, Residual):
            stream.look(params, params.study, rec)
        else:
            labels.probe(params, params.study, rec)
    except LabError as error:
        raise kind.UserError(str(error)) from error


def resolved(params: Params, device: str) -> Params:
    """As ``_inside.resolved``."""
    return _inside.resolved(params, device)


def imports(device: str) -> tuple[str, ...]:
    """As ``_host.imports``, and what fits probes."""
    return (*_host.imports(device), "sklearn.linear_model", "scipy.stats")


def check(params: Params, device: str) -> None:
    """As ``_inside.check``."""
    _inside.check(params, device, params.corpora)


def assets(params: Params) -> list[str]:
    """As ``_inside.assets``."""
    return _inside.assets(params, params.corpora)


def pinned(params: Params) -> Params:
    """As ``_inside.pinned``."""
    return _inside.pinned(params)
