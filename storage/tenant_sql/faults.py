"""What Postgres says of a tenant's statement -> a sentence that quotes no value of any row.

A message of Postgres may quote the value that it is about, and its DETAIL, HINT and CONTEXT whole rows. What is passed
on is the code, the place in the statement, and those messages that were made before any row was read.
"""

import re
from typing import Final

import asyncpg

from storage.errors import StorageError

_LONGEST: Final = 300
_NOT_ALLOWED: Final = frozenset({"42501", "25006", "0A000"})
_TOO_LARGE: Final = frozenset({"53100", "53200", "53400", "54001", "54011", "54023"})
_SAID: Final = {
    "sql_syntax": "The statement is not one that Postgres understands.",
    "sql_not_allowed": (
        "The statement does what tenants may not: they read the views of the schema 'api', and change nothing."
    ),
    "sql_timeout": "The statement took longer than it may; ask for less, or begin with EXPLAIN to see how it is done.",
    "sql_too_large": "The statement needs more memory or room than it may have; ask for less at once.",
    "sql_busy": "There are too many statements at the same time; try again soon.",
    "sql_unavailable": "The connection to the database was lost; try again.",
}
_BY_CLASS: Final = {
    "21": "A subquery gives more than one row, or another number of columns, where one is wanted.",
    "22": "A value cannot be computed or converted: which row has it is not told, so that nothing of it is.",
    "53": "The database has too much to do; try again soon.",
    "54": "A value, or a row, is more than Postgres can hold.",
}


_DIMENSIONS: Final = re.compile(r"Different (?:half|sparse)?vec(?:tor)? dimensions \d+ and \d+\.$")


class SqlFault(StorageError):
    """A statement that gives no rows, and why."""

    def __init__(
        self, code: str, message: str | None = None, *, sqlstate: str | None = None, position: int | None = None
    ) -> None:
        super().__init__(message or _SAID.get(code, "The statement failed."))
        self.code = code
        """`sql_syntax`, `sql_not_allowed`, `sql_timeout`, `sql_too_large`, `sql_busy`, `sql_unavailable`, `sql_failed`,
        or `sql_params`.
        """
        self.sqlstate = sqlstate
        self.position = position
        """The character of the statement that it is about, from 1."""


def fault_of(error: asyncpg.PostgresError, before: int = 0) -> SqlFault:
    """What a tenant is told of `error`; the statement began after `before` characters."""
    state = str(getattr(error, "sqlstate", None) or "")
    code = _code(state)
    position = _position(error, before)
    # A message about a place in the statement was made of the statement alone.
    said = _message(error) if code in {"sql_syntax", "sql_not_allowed"} and position is not None else None
    if _DIMENSIONS.match(_message(error)):
        said = "Vectors of different lengths cannot be compared: those of one model can (`where current`, or its name)."
    elif state == "42601" and said:
        said += " A statement begins with SELECT, VALUES, TABLE or WITH, or with EXPLAIN without options."
    sentence = said or _SAID.get(code) or _BY_CLASS.get(state[:2], "The statement failed.")
    where = f", at character {position}" if position is not None else ""
    return SqlFault(code, f"{sentence} (SQLSTATE {state}{where})", sqlstate=state, position=position)


def _code(state: str) -> str:
    if state in _NOT_ALLOWED:
        return "sql_not_allowed"
    if state in _TOO_LARGE:
        return "sql_too_large"
    if state in {"57014", "25P04"}:
        return "sql_timeout"
    if state == "53300":
        return "sql_busy"
    if state[:2] in {"08", "57"}:
        return "sql_unavailable"
    return "sql_syntax" if state[:2] in {"42", "26", "34"} else "sql_failed"


def _position(error: asyncpg.PostgresError, before: int) -> int | None:
    text = getattr(error, "position", None)
    if not text or not str(text).isdecimal() or getattr(error, "internal_query", None):
        return None
    place = int(text) - before
    return place if place > 0 else None


def _message(error: asyncpg.PostgresError) -> str:
    said = (str(error.args[0]) if error.args else "").partition("\n")[0][:_LONGEST]
    return f"{said[:1].upper()}{said[1:]}." if said else ""
