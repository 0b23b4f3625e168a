"""Opening ``results.db``: which SQLite, which pragmas, which version. Knows no table's meaning."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import DiskFull, LabError, Locked, Unavailable, WorkFailed
from labqueue.settings import Place
from labqueue.store.address import uri, url, writable
from labqueue.store.sqlite import BUSY_MS, SQLITE, library
from labqueue.store.tables import METADATA, SCHEMA_VERSION

READ_ONLY = "the folder or the file is only there to be read"


@dataclass(frozen=True)
class Database:
    """An open ``results.db``. ``write`` and ``read`` are its transactions."""

    place: Place
    engine: Engine

    @property
    def path(self) -> Path:
        """Where the file was when it was opened."""
        return self.place.path

    @property
    def writable(self) -> bool:
        """Whether anything can be written. What has gone from its path is no longer there to be asked: who has it open
        may finish with it (``Place.check`` says that it has gone)."""
        return not self.path.exists() or writable(self.path)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: the lock is taken at once, so that nothing read in it can change under it."""
        if not self.writable:  # said at once, also where nothing would have changed
            raise Unavailable(_cannot_write(self.path), file=str(self.path))
        with self._translated(), self.engine.connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))
            try:
                yield connection
            except BaseException:
                connection.execute(text("ROLLBACK"))
                raise
            connection.execute(text("COMMIT"))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent snapshot, whatever is written meanwhile."""
        with self._translated(), self.engine.connect() as connection:
            connection.execute(text("BEGIN"))
            try:
                yield connection
            finally:
                connection.execute(text("ROLLBACK"))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            self.place.check()
            raise _explained(self.path, error) from error

    def close(self) -> None:
        """Closes every connection of this process."""
        self.engine.dispose()


def _cannot_write(path: Path) -> str:
    return f"cannot write {path}: {READ_ONLY}. Choose a writable workspace with --root."


def create_or_migrate(path: Path) -> Database:
    """Opens the database for work: makes it when it is missing, migrates it (after a backup) when it is older.

    Raises:
        LabError: the workspace cannot be written, the file is not a database, or a newer version made it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with path.open("ab"):
                pass
    except OSError as error:
        raise LabError(
            f"cannot write {path}: {error.strerror}. Choose a writable workspace with --root.", file=str(path)
        ) from error
    if not writable(path):
        raise LabError(_cannot_write(path), file=str(path))
    database = _opened(path)
    version = _version(database)
    if version == SCHEMA_VERSION:
        return database
    if version == 0 and _create(database):
        return database
    from labqueue.store.migrations import upgrade

    upgrade(path, version)
    return database


_shared: dict[tuple[str, int], Database] = {}


def shared(path: Path) -> Database:
    """As ``create_or_migrate``, but one per process and file: its connections and compiled statements are kept."""
    found = _shared.get((str(path), path.stat().st_ino)) if path.exists() else None
    if found is None:
        found = create_or_migrate(path)
        _shared[str(path), path.stat().st_ino] = found
    return found


def open_existing(path: Path) -> Database | None:
    """Opens the database to look at it, also where nothing can be written; None when there is none yet.

    Raises:
        LabError: the file is not a database, or its version is not this program's.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    database = _opened(path)
    version = _version(database)
    if version == 0 and _has_no_table(database):  # whoever began it was stopped, by a full disk, say
        database.close()
        return None
    if version < SCHEMA_VERSION:
        cure = "Run `labqueue submit` or `labqueue worker` once: they back it up and bring it up to date."
        if not writable(path):
            cure = f"Here {READ_ONLY}: copy the workspace to where it can be written, and bring it up to date there."
        words = f"it has schema version {version}, older than this program's {SCHEMA_VERSION}. {cure}"
        raise LabError(words, file=str(path))
    return database


def _opened(path: Path) -> Database:
    place = Place.of(path)
    return Database(place, _engine(place))


def _engine(place: Place) -> Engine:
    path = place.path
    _check_whole(path)
    engine = create_engine(
        url(path),
        module=SQLITE,
        connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False},
        json_serializer=canonical,
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # A later connection must not be to another file, in which ids of this one mean other rows.
        place.check()
        # The driver's own implicit BEGIN would make every first SELECT a deferred transaction.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA temp_store = MEMORY")  # the folder for temporary files may be full
        mode = "WAL" if library()[2] else "DELETE"
        if writable(path) and cursor.execute("PRAGMA journal_mode").fetchone()[0].upper() != mode:
            cursor.execute(f"PRAGMA journal_mode = {mode}")
        # FULL: a commit that was reported is on the disk, also after a power cut.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA journal_size_limit = 67108864")
        cursor.close()

    return engine


def _version(database: Database) -> int:
    try:
        with database.engine.connect() as connection:
            version = int(connection.execute(text("PRAGMA user_version")).scalar_one())
            if version:
                connection.execute(text("SELECT 1 FROM runs LIMIT 1"))
    except DatabaseError as error:
        explained = _explained(database.path, error)
        if isinstance(explained, LabError):
            # Nothing has begun yet, so this is a wrong request.
            raise LabError(explained.message, file=explained.file) from error
        raise
    if version > SCHEMA_VERSION:
        raise LabError(
            f"it has schema version {version}; this program knows up to {SCHEMA_VERSION}. "
            "It was made by a newer labqueue: update this one, or choose another workspace with --root.",
            file=str(database.path),
        )
    return version


def _create(database: Database) -> bool:
    """Makes all tables in one transaction; False when there are some already (another process was first, say)."""
    with database.write() as connection:
        if connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one():
            return int(connection.execute(text("PRAGMA user_version")).scalar_one()) == SCHEMA_VERSION
        METADATA.create_all(connection)
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(
            text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": f"{SCHEMA_VERSION:04d}"}
        )
        connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
    return True


def _has_no_table(database: Database) -> bool:
    with database.read() as connection:
        return not connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one()


def _check_whole(path: Path) -> None:
    """Refuses a file that is no database, or shorter than its own header says (a broken copy, a full disk).

    Header: sqlite.org/fileformat.html, section 1.3: page size at offset 16, size in pages at 28, big-endian.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise LabError(f"{path} is not a SQLite database. {_cure(path)}", file=str(path))
    (page,) = struct.unpack(">H", header[16:18])
    (pages,) = struct.unpack(">I", header[28:32])
    size = 65536 if page == 1 else page
    if path.stat().st_size < pages * size and not _recovered(path):
        raise LabError(
            f"{path} is truncated: {path.stat().st_size:,} bytes, its header says {pages * size:,}. {_cure(path)}",
            file=str(path),
        )


def _recovered(path: Path) -> bool:
    """Whether SQLite finds the missing pages in the log: a checkpoint grows the file page by page, its header first."""
    if not any(Path(f"{path}{end}").exists() for end in ("-wal", "-journal")):
        return False
    try:
        with contextlib.closing(SQLITE.connect(uri(path, "rw"), uri=True, timeout=BUSY_MS / 1000)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except SQLITE.DatabaseError:
        return False


def _cure(path: Path) -> str:
    from labqueue.store.backup import cure

    return cure(path)


def _explained(path: Path, error: DatabaseError) -> LabError | DatabaseError:
    cause = str(error.orig)
    if "locked" in cause:
        return Locked(
            f"{path} has been locked by another process for {BUSY_MS // 1000} s. "
            "Find it with `fuser` or `lsof` on that file, end it, and run the command again.",
            file=str(path),
        )
    if "not a database" in cause or "malformed" in cause:
        return WorkFailed(f"{path} is corrupt ({cause}). {_cure(path)}", file=str(path))
    if isinstance(error, OperationalError) and ("readonly" in cause or "unable to open" in cause):
        return Unavailable(f"cannot write {path} ({cause}). Choose a writable workspace with --root.", file=str(path))
    if "disk is full" in cause:
        return DiskFull(f"cannot write {path} ({cause}). Free some space: `labqueue gc` shows what may go.")
    if isinstance(error, OperationalError) and "I/O error" in cause:
        return Unavailable(f"cannot write {path} ({cause}). The disk may be failing, full or gone.", file=str(path))
    return error
