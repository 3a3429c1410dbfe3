"""Alembic's entry: runs migrations on the connection that `db.engine` hands over.

It opens no connection and begins no transaction of its own: whoever calls holds the lock, and all
migrations take effect together or not at all.
"""

from alembic import context

from db.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table only by making it anew
)
context.run_migrations()
