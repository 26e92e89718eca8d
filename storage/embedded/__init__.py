"""Postgres and Redis as our own child processes, their data in one private folder."""
