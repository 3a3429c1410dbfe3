"""Tests of the tables, the engine and the migrations, on SQLite files and a real PostgreSQL."""
