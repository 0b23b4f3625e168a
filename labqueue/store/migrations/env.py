"""Alembic's entry: one transaction for all steps, so that a half-migrated database cannot exist."""

from alembic import context
from sqlalchemy import create_engine, event, text

from labqueue.store.address import url
from labqueue.store.sqlite import SQLITE
from labqueue.store.tables import METADATA, SCHEMA_VERSION

engine = create_engine(url(context.config.attributes["path"]), module=SQLITE)


@event.listens_for(engine, "connect")
def _connected(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # the driver's, not SQLAlchemy's


with engine.connect() as connection:
    connection.execute(text("BEGIN IMMEDIATE"))
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True, transactional_ddl=False)
    context.run_migrations()
    connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
    connection.execute(text("COMMIT"))
engine.dispose()
