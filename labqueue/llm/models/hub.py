"""The model hub: what is fetched from it before the night, and what to say when it cannot be. No torch, no runs.

Only data are taken: safetensors, JSON, tokenizer files, Parquet and CSV; no code of a repository is ever run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from labqueue.domain.errors import LabError

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

RepoType = Literal["model", "dataset"]

TIMEOUT_S = 10.0
"""A hub that does not answer within this is unreachable. Assumption."""


class Unreachable(LabError):
    """The hub does not answer, or this process may not ask it."""


def info(repo: str, *, kind: RepoType, revision: str | None, cure: str, key: str) -> ModelInfo | DatasetInfo:
    """What the hub says of a repository: ``sha``, ``siblings`` with sizes. One request; the hub must be there for it.

    Raises:
        Unreachable: no answer within ``TIMEOUT_S``; the message ends with ``cure``.
        LabError: there is no such repository or revision, or it wants a licence to be accepted.
    """
    from huggingface_hub import HfApi

    with said(repo, kind, revision, cure, key):
        ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
        return ask(repo, revision=revision, timeout=TIMEOUT_S, files_metadata=True)


def download(repo: str, patterns: list[str], *, kind: RepoType, revision: str | None, cure: str, key: str) -> Path:
    """Brings the files of those names into the hub's cache; returns the snapshot's folder, named by its commit.

    Raises:
        Unreachable: the hub is gone; what has come is kept and need not come again.
        LabError: as ``info``.
    """
    from huggingface_hub import snapshot_download

    with said(repo, kind, revision, cure, key):
        return Path(
            snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=patterns, etag_timeout=TIMEOUT_S)
        )


def here(repo: str, patterns: list[str], revision: str | None = None, *, kind: RepoType = "model") -> Path | None:
    """The folder of a repository's snapshot in the hub's cache, with files of those names; None where there is none, or
    a download did not come to its end. No network. ``revision`` None: what its main branch was when it was fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # Without the patterns it would call incomplete what was never asked for.
        return Path(
            snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=patterns, local_files_only=True)
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


@contextlib.contextmanager
def said(repo: str, kind: RepoType, revision: str | None, cure: str, key: str) -> Iterator[None]:
    """Turns what the hub's client raises into words.

    Raises:
        LabError: in place of the client's errors.
    """
    import httpx
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except hub.GatedRepoError as error:
        raise LabError(
            f"{kind} {repo!r} is gated: accept its licence on {constants.ENDPOINT}/{repo} and set HF_TOKEN", key=key
        ) from error
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.HFValidationError) as error:
        raise LabError(
            f"the hub has no {kind} {repo!r}{at}, or not for you: check the name, or set HF_TOKEN if it is private",
            key=key,
        ) from error
    except (hub.OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:  # the client's own are among these
        offline = isinstance(error, hub.OfflineModeIsEnabled)
        why = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} cannot be reached: {_reason(error)}"
        raise Unreachable(f"{kind} {repo!r}{at} is not on this machine and {why}. {cure}", key=key) from error


def _reason(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) < 200 else text[:200] + " …"
