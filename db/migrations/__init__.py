"""Alembic migrations, run by `db.engine`; applied ones are never edited."""
