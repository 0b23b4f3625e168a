"""Migrations of ``results.db``, through Alembic, after a backup. Imported only when a database is older."""

from __future__ import annotations

from pathlib import Path

from labqueue.store import backup
from labqueue.store.migrations import in_use
from labqueue.store.tables import SCHEMA_VERSION


def upgrade(path: Path, version: int) -> None:
    """Brings a database of an older ``version`` up to date; a failure leaves it as it was.

    Raises:
        LabError: a worker or a run of that version still works with it.
    """
    from alembic import command
    from alembic.config import Config

    in_use.refuse(path)
    backup.take(path, f"v{version}")
    config = Config()
    # The parser of this setting takes a percent sign for the begin of a variable.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["path"] = path
    command.upgrade(config, f"{SCHEMA_VERSION:04d}")
