"""A recipe's classes -> views for people, one each, with a typed column for every attribute.

No file can hold these: their names and columns follow from the recipe, so this is the one place where SQL is made.
"""

import contextlib
import hashlib
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Final

import asyncpg

from storage import sql
from storage.errors import StorageError, brief
from storage.migrate import LOCK
from storage.rows import storable
from storage.view_names import fitting, view_name

MADE: Final = "Made by askonce: "
"""What the comments of these views begin with."""
_LOCK_WAIT: Final = "5s"
_FIXED: Final = (
    ("run_id", "x.run_id"),
    ("tenant", "r.tenant"),
    ("document_id", "r.document_id"),
    ("edition", "r.edition"),
    ("text", "x.text"),
    ("quote", "x.quote"),
    ("verbatim", "x.verbatim"),
    ("start_pos", "x.start_pos"),
    ("end_pos", "x.end_pos"),
    ("alignment", "x.alignment"),
    ("key", "encode(c.key, 'hex')"),
    ("model", "c.model"),
    ("created_at", "r.created_at"),
)
_SYSTEM: Final = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
"""Postgres has columns of these names in everything."""
_OF: Final = {"string": "text_of", "integer": "integer_of", "number": "number_of", "boolean": "boolean_of"}
"""Functions that give an attribute's value in the type of its column, or null."""


async def ensure(pool: asyncpg.Pool, name: str, classes: Mapping[str, dict[str, Any]]) -> None:
    """Have a view for each class of the recipe `name`, whose attributes are what these JSON Schemas say, be there as
    `api.<recipe>_<class>`. What is as it should be is not touched; of one whose columns changed, grants are lost,
    except those of tenants.

    Raises `StorageError` when something else has the name of a view, something depends on a column that goes, or the
    database cannot do it now.
    """
    faults: list[StorageError] = []
    for label, schema in classes.items():
        view = view_name(name, label)
        mark = f"{MADE}records of the class '{label}' that the recipe '{name}' found. "
        query = f"with (security_invoker = true) as\n{_select(name, label, schema)}"
        try:
            with _told(view):
                async with pool.acquire() as connection:
                    await _ensure(connection, view, storable(mark), query)
        except StorageError as fault:  # the views of other classes are there all the same
            faults.append(fault)
    if faults:
        raise faults[0]


async def _ensure(connection: Any, view: str, mark: str, query: str) -> None:
    """`mark` is what the comment of this view begins with; what the view was made of follows."""
    comment = mark + hashlib.sha256(query.encode()).hexdigest()[:16]
    if await _found(connection, view, mark) == comment:
        return
    async with connection.transaction():
        await connection.execute("select set_config('lock_timeout', $1, true)", _LOCK_WAIT)
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        if await _found(connection, view, mark) != comment:  # another may have done it meanwhile
            await _replace(connection, f"api.{_identifier(view)}", query)
            await _run(connection, f"comment on view api.{_identifier(view)} is {_literal(comment)}")
            await connection.execute(sql.query("tenant_sql_view"), view)


async def _found(connection: Any, view: str, mark: str) -> str | None:
    """The comment of the view; None when there is none. Raises `StorageError` when it is another's."""
    found = await connection.fetchrow(sql.query("extraction_view"), view)
    if found is None:
        return None
    if found["kind"] != "v" or not found["comment"].startswith(mark):
        message = (
            f"There is something else called api.{view}, so there is no view of these records: rename it, or the"
            " recipe or its class."
        )
        raise StorageError(message)
    return found["comment"]


async def _replace(connection: Any, view: str, query: str) -> None:
    with contextlib.suppress(asyncpg.InvalidTableDefinitionError):
        async with connection.transaction():
            await _run(connection, f"create or replace view {view} {query}")
            return
    await _run(connection, f"drop view {view}")  # its columns are others now
    await _run(connection, f"create view {view} {query}")


async def _run(connection: Any, statement: str) -> None:
    await connection.fetch(statement)  # unlike `execute`, this takes one statement only


@contextlib.contextmanager
def _told(view: str) -> Generator[None]:
    """Whatever goes wrong becomes one sentence."""
    try:
        yield
    except asyncpg.DependentObjectsStillExistError as error:
        message = f"The columns of api.{view} have changed, but something else is made of them: drop that first."
        raise StorageError(message) from error
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        message = f"The view api.{view} cannot be made ({brief(error)})."
        raise StorageError(message) from error


def _select(recipe: str, label: str, schema: Mapping[str, Any]) -> str:
    attributes: Mapping[str, Any] = schema.get("properties", {})
    names = _columns(attributes)
    columns = [f"{value} as {name}" for name, value in _FIXED]
    columns += [f"{_value(name, attributes[name])} as {_identifier(names[name])}" for name in attributes]
    return (
        f"select {', '.join(columns)}\n"
        "from askonce.extractions x\n"
        "join askonce.extraction_runs r on r.id = x.run_id\n"
        "join askonce.chunk_calls c"
        " on c.run_id = x.run_id and c.chunk = x.chunk and c.pass = x.pass and c.attempt = x.attempt\n"
        # What requests bring along may be called the same, and is not of this recipe.
        "where x.kept and r.options @> '{\"saved\": true}'"
        f" and r.recipe = {_literal(recipe)} and x.class = {_literal(label)}"
    )


def _value(name: str, schema: Any) -> str:
    value = f"x.attributes -> {_literal(name)}"
    function = _OF.get(_type(schema) or "")
    return f"askonce.{function}({value})" if function else f"nullif({value}, 'null')"


def _type(schema: Any) -> str | None:
    """The one type that its values have unless they are null; None when there are several, or it is not known."""
    types = _types(schema) - {"null"}
    return types.pop() if len(types) == 1 else None


def _types(schema: Any) -> set[str | None]:
    if not isinstance(schema, Mapping):
        return {None}
    if "anyOf" in schema:
        return {one for inner in schema["anyOf"] for one in _types(inner)}
    if "type" in schema:
        return set(schema["type"]) if isinstance(schema["type"], list) else {schema["type"]}
    return {_type_of(value) for value in schema.get("enum", [schema["const"]] if "const" in schema else [])} or {None}


def _type_of(value: Any) -> str | None:
    if value is None:
        return "null"
    return "string" if isinstance(value, str) else None


def _columns(attributes: Iterable[str]) -> dict[str, str]:
    """Each attribute's column: its name, if that can be one and is free. Those that have their own name have it first,
    so that `text`, which is taken, does not take `text_` from another.
    """
    taken = {*(name for name, _ in _FIXED), *_SYSTEM}
    wanted = sorted(attributes, key=lambda name: (name in taken or fitting(name) != name, name))
    columns: dict[str, str] = {}
    for attribute in wanted:
        column = fitting(attribute)
        while column in taken:
            column = fitting(f"{column}_")
        taken.add(column)
        columns[attribute] = column
    return columns


def _identifier(name: str) -> str:
    """As `format('%I')` has it."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    """As `format('%L')` has it."""
    quoted = "'" + storable(text).replace("\\", "\\\\").replace("'", "''") + "'"
    return f" E{quoted}" if "\\" in quoted else quoted
