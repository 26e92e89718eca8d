"""A prepared database comes in; statements that try to get out of their tenant's rows are run there, and what holds not
comes out.

All of it is one transaction that is rolled back: two tenants that nobody else ever sees, their rows with words in them
that nobody can guess, and each statement as one of the two would run it, in a savepoint of its own.
"""

import contextlib
import secrets
import tomllib
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final, Literal

import asyncpg
import msgspec

from storage import sql
from storage.errors import brief
from storage.tenant_sql import fuzz
from storage.tenant_sql.connection import TenantConnection
from storage.tenant_sql.faults import SqlFault
from storage.tenant_sql.statements import Limits, fetched

_LIMITS: Final = Limits(rows=2000, bytes=2**22, seconds=2.0)
_TIMEOUTS_MS: Final = (250, 5000)
"""Of a statement, and of the same again when that was not enough."""
_CALLS: Final = 150
_SEED: Final = 7
"""Of calls of functions: the same at each start, so that a server that passed once passes again."""
_REFUSED: Final = frozenset({"sql_not_allowed", "sql_syntax", "sql_params"})


class Attack(msgspec.Struct, frozen=True):
    """One statement, and what must come of it."""

    sql: str
    """`@own@` and `@other@` stand for the two tenants' names, `@secret@` for what is in all rows of the other,
    `@key@` for the key of its answer, `@self@` for the own role, `@role@` and `@group@` for other ones, `@shared@` for
    a namespace that only the other is in.
    """
    expect: Literal["denied", "quiet", "harmless", "own"]
    """`denied`: refused; `quiet`: done, and nothing of the other is in what comes; `harmless`: one of both; `own`:
    done, and what is this tenant's own is in what comes.
    """


class _Group(msgspec.Struct, frozen=True):
    about: str
    expect: Literal["denied", "quiet", "harmless", "own"]
    statements: list[str]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two tenants: the words in the rows of each, and what is known of the other."""

    names: dict[str, str]
    own: str
    secret: str
    """A word that is in all rows of the other's."""

    def filled(self, text: str) -> str:
        """An attack on this pair."""
        for name, value in (self.names | {"secret": self.secret}).items():
            text = text.replace(f"@{name}@", value)
        return text


def attacks() -> list[Attack]:
    """All of them, in the order of the file."""
    groups = msgspec.convert(tomllib.loads(source().decode())["group"], list[_Group])
    return [Attack(statement, group.expect) for group in groups for statement in group.statements]


def source() -> bytes:
    """The file they are in."""
    return (resources.files("storage.tenant_sql") / "attacks.toml").read_bytes()


async def run(url: str) -> list[str]:
    """What does not hold: a line each, without any value of a row."""
    try:
        connection = await asyncpg.connect(url, connection_class=TenantConnection, statement_cache_size=0, timeout=10)
        try:
            return await _tested(connection)
        finally:
            connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [f"the test could not be done ({brief(error)})"]


async def _tested(connection: Any) -> list[str]:
    # It sees its own changes alone: others may be writing answers and making views meanwhile.
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    pair = await planted(connection, secrets.token_hex(8))
    failures = [row["problem"] for row in await connection.fetch(sql.query("tenant_sql_audit"), pair.names["self"])]
    every = attacks() + await calls(connection, pair, _CALLS, _SEED)
    before = await connection.fetchrow(sql.query("tenant_sql_traces"))
    await connection.execute("set transaction read only")
    await connection.execute("select set_config('search_path', askonce.tenants_path(), true)")
    await connection.execute(f'set local session authorization "{pair.names["self"]}"')
    failures += [failure for attack in every if (failure := await tried(connection, attack, pair))]
    await connection.execute("set local session authorization default")
    await connection.execute("set local search_path = pg_catalog")
    if before != await connection.fetchrow(sql.query("tenant_sql_traces")):
        failures.append("a statement left something behind")
    await transaction.rollback()
    return failures


async def calls(connection: Any, pair: Pair, count: int, seed: int) -> list[Attack]:
    """Functions that tenants may call, called with anything."""
    functions = await connection.fetch(sql.query("tenant_sql_functions"), pair.names["self"])
    return [Attack(statement, "harmless") for statement in fuzz.statements(functions, count, seed)]


async def planted(connection: Any, mark: str) -> Pair:
    """Two tenants with rows everywhere. They are there as long as the transaction is, or for good without one."""
    own, secret = f"mine{secrets.token_hex(12)}", f"theirs{secrets.token_hex(12)}"
    for name, value in (("mark", mark), ("own", own), ("secret", secret)):
        await connection.execute("select set_config($1, $2, false)", f"askonce.{name}", value)
    await connection.execute((resources.files("storage.tenant_sql") / "canaries.sql").read_text("utf-8"))
    names = dict(await connection.fetchrow(sql.query("tenant_sql_pair"), mark))
    return Pair(names=names, own=own, secret=secret)


async def tried(connection: Any, attack: Attack, pair: Pair) -> str | None:
    """What is wrong with what came of it, as the tenant of this connection, which is in a transaction."""
    problem = ""
    for timeout_ms in _TIMEOUTS_MS:
        problem, code = await _tried(connection, attack, pair, timeout_ms)
        if not problem or code != "sql_timeout":  # else the server has much to do, and nothing is known yet
            break
    return f"{problem}: {attack.sql}" if problem else None


async def _tried(connection: Any, attack: Attack, pair: Pair, timeout_ms: int) -> tuple[str, str]:
    """The problem, if there is one, and the code of the refusal, if it was one."""
    text = pair.filled(attack.sql)
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute(f"set local statement_timeout = {timeout_ms}")
        result = await fetched(connection, text, (), _LIMITS)
    except SqlFault as fault:
        said, code = _everything(fault), fault.code
        if pair.own in str(fault):  # what a client is told
            return "an error quotes a row", code
    else:
        said, code = _shown(result.batches), ""
        said += " ".join(column.name for column in result.columns)
    finally:
        with contextlib.suppress(asyncpg.InterfaceError, asyncpg.PostgresError):
            await savepoint.rollback()
    return _problem(attack, said, code, pair), code


def _problem(attack: Attack, said: str, code: str, pair: Pair) -> str:
    if pair.secret in said:
        return "another tenant's row is told"
    if attack.expect == "denied" and code not in _REFUSED:
        return f"is not refused ({code or 'it gave rows'})"
    if attack.expect in {"quiet", "own"} and code:
        return f"should be done, and is not ({code})"
    if attack.expect == "own" and pair.own not in said:
        return "does not give what is the tenant's own"
    return ""


def _everything(fault: SqlFault) -> str:
    """What a client is told, and what Postgres said, which it is not told."""
    cause = fault.__cause__
    return " ".join(
        [str(fault), str(cause), *(str(value) for value in vars(cause).values())] if cause else [str(fault)]
    )


def _shown(batches: Sequence[Sequence[Any]]) -> str:
    return msgspec.json.encode([[list(row) for row in rows] for rows in batches], enc_hook=str).decode()
