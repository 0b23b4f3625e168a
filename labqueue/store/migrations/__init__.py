"""Migrations of ``results.db``, through Alembic, after a backup. Imported only when a database is older."""

from __future__ import annotations

import datetime
from pathlib import Path

from labqueue.store.db import SQLITE
from labqueue.store.tables import SCHEMA_VERSION

BACKUPS = Path("outputs") / "backups"


def backup(path: Path, word: str) -> Path:
    """Copies a database while others may use it (SQLite's online backup), and returns the copy's path."""
    folder = path.parent / BACKUPS
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    target = folder / f"{path.stem}-{word}-{stamp}.db"
    aside = target.with_suffix(".partial")
    source, copy = SQLITE.connect(str(path)), SQLITE.connect(str(aside))
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()
    aside.rename(target)
    return target


def upgrade(path: Path, version: int) -> None:
    """Brings a database of an older ``version`` up to date; a failure leaves it as it was."""
    from alembic import command
    from alembic.config import Config

    backup(path, f"v{version}")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["path"] = path
    command.upgrade(config, f"{SCHEMA_VERSION:04d}")
