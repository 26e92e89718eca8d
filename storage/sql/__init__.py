"""The questions asked of Postgres, one file each."""

from functools import cache
from importlib import resources


@cache
def query(name: str) -> str:
    """The text of `storage/sql/<name>.sql`."""
    return (resources.files(__name__) / f"{name}.sql").read_text("utf-8")
