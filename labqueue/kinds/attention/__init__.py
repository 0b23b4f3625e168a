"""Looks where heads attend: what each does, what silencing some costs, and which of them fine-tuning moved."""

from __future__ import annotations

from labqueue.domain import kind
from labqueue.domain.kind import Recorder
from labqueue.kinds import _host, _inside, _pins
from labqueue.kinds.attention.params import ARTIFACTS, METRICS, Params

__all__ = ["ARTIFACTS", "COMPUTED_IN", "METRICS", "Params", "assets", "check", "imports", "pinned", "resolved", "run"]

COMPUTED_IN = "dtype"


def run(params: Params, rec: Recorder) -> None:
    """Scores heads, or compares those of a base and two adapters.

    Raises:
        UserError: a model or an adapter that is not there, has changed, or whose attention cannot be seen; texts that
            are too long or too short; adapters that attend alike.
        Stopped: asked to stop; nothing is kept, a resume begins again.
    """
    from labqueue.domain.errors import LabError
    from labqueue.kinds.attention import heads, moved

    try:
        if params.moved is None:
            heads.score(params, rec)
        else:
            moved.compare(params, params.moved, rec)
    except LabError as error:
        raise kind.UserError(str(error)) from error


def resolved(params: Params, device: str) -> Params:
    """As ``_inside.resolved``."""
    return _inside.resolved(params, device)


def imports(device: str) -> tuple[str, ...]:
    """As ``_host.imports``."""
    return _host.imports(device)


def check(params: Params, device: str) -> None:
    """As ``_inside.check``, of the rival as well.

    Raises:
        LabError: it could not begin.
    """
    _inside.check(params, device, _corpora(params))
    if params.moved is not None:
        _inside.check(params.model_copy(update={"adapter": params.moved.rival}), device, [])


def assets(params: Params) -> list[str]:
    """As ``_inside.assets``, and the data that the adapters were trained on."""
    data = params.moved.data.assets if params.moved is not None else []
    return [*_inside.assets(params, _corpora(params)), *data]


def pinned(params: Params) -> Params:
    """As ``_inside.pinned``, with the content of the rival and of the data."""
    found, moved = _inside.pinned(params), params.moved
    if moved is None:
        return found
    pin = _pins.folder(moved.rival, moved.rival_pin, "moved.rival")
    return found.model_copy(
        update={"moved": moved.model_copy(update={"rival_pin": pin, "data": moved.data.pinned()})},
    )


def _corpora(params: Params) -> list[str]:
    return [] if params.texts else [params.corpus]
