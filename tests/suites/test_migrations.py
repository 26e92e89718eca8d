"""The schema of a real database: made once, the same for everyone, and never silently another."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from storage import migrate
from storage.errors import MigrationError
from storage.migrate import Step, UnreachableError

LATER = Step(2, "0002_more.sql", "create table askonce.more (id integer)")


async def tables(url: str) -> set[str]:
    """The names of what is in our schemas."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select table_schema || '.' || table_name as name from information_schema.tables"
        " where table_schema in ('askonce', 'api')"
    )
    await connection.close()
    return {row["name"] for row in rows}


async def test_an_empty_database_is_filled_once(empty_database_url: str) -> None:
    """And the second time there is nothing to do."""
    states = await migrate.status(empty_database_url)
    assert [state.applied_at for state in states] == [None] * len(states)
    assert await tables(empty_database_url) == set()
    assert await migrate.migrate(empty_database_url) == migrate.steps()
    assert {"askonce.completions", "askonce.migrations", "api.completions"} <= await tables(empty_database_url)
    assert await migrate.migrate(empty_database_url) == []
    assert all(state.applied_at for state in await migrate.status(empty_database_url))


async def test_many_at_once_are_one_after_the_other(empty_database_url: str) -> None:
    """Each replica may migrate at its start: one does it, the others find it done."""
    done = await asyncio.gather(*(migrate.migrate(empty_database_url) for _ in range(5)))
    assert sorted(map(len, done)) == [0, 0, 0, 0, len(migrate.steps())]


async def test_a_stuck_migration_of_another_is_named(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever; once it is gone, all is as ever."""
    monkeypatch.setattr(migrate, "_LOCK_WAIT", "200ms")
    other = await asyncpg.connect(empty_database_url)
    await other.execute("select pg_advisory_lock($1)", migrate.LOCK)
    with pytest.raises(
        MigrationError, match=r"Another askonce .* for more than 200ms: wait for it, or end its session"
    ):
        await migrate.migrate(empty_database_url)
    await other.close()
    assert await migrate.migrate(empty_database_url) == migrate.steps()


async def test_a_later_step_is_added(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is missing is applied."""
    ours = migrate.steps()
    later = Step(len(ours) + 1, "0002_more.sql", LATER.text)
    monkeypatch.setattr(migrate, "steps", lambda: [*ours, later])
    assert [state.applied_at is None for state in await migrate.status(database_url)] == [False] * len(ours) + [True]
    assert await migrate.migrate(database_url) == [later]
    assert "askonce.more" in await tables(database_url)


async def test_a_step_that_fails_leaves_nothing_behind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is applied whole or not at all, and can be applied again once it is mended."""
    ours = migrate.steps()
    broken = Step(len(ours) + 1, "0002_more.sql", LATER.text + "; select 1 / 0")
    monkeypatch.setattr(migrate, "steps", lambda: [*ours, broken])
    with pytest.raises(MigrationError, match=r"0002_more\.sql.*division by zero"):
        await migrate.migrate(database_url)
    assert "askonce.more" not in await tables(database_url)
    mended = Step(len(ours) + 1, "0002_more.sql", LATER.text)
    monkeypatch.setattr(migrate, "steps", lambda: [*ours, mended])
    assert await migrate.migrate(database_url) == [mended]


async def test_a_changed_step_is_noticed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was applied is not what the file says now."""
    first, *rest = migrate.steps()
    monkeypatch.setattr(migrate, "steps", lambda: [Step(first.number, first.name, first.text + " "), *rest])
    with pytest.raises(MigrationError, match=f"{first.name} has changed since it was applied; add a new one instead"):
        await migrate.migrate(database_url)


async def test_a_database_ahead_of_us_is_left_alone(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older askonce says that it is older."""
    ours = migrate.steps()
    later = Step(9999, "9999_future.sql", LATER.text)
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "steps", lambda: [*ours, later])
        await migrate.migrate(database_url)
    with pytest.raises(MigrationError, match="has migration 9999, which this version does not know; use a newer"):
        await migrate.migrate(database_url)


async def test_views_are_applied_again(database_url: str) -> None:
    """A view that somebody dropped is back."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop view api.completions")
    await connection.close()
    assert await migrate.migrate(database_url) == []
    assert "api.completions" in await tables(database_url)


@pytest.mark.parametrize("call", [migrate.migrate, migrate.status])
async def test_a_database_that_cannot_be_reached_is_named(call: Any) -> None:
    """In one sentence, without a traceback."""
    for url in ("postgresql://u@127.0.0.1:9/x", "postgresql://u@/x?host=/nonexistent"):
        with pytest.raises(UnreachableError, match="cannot be reached"):
            await call(url)


async def test_a_database_that_does_not_exist_is_named(database_url: str) -> None:
    """The server's own sentence says which."""
    with pytest.raises(UnreachableError, match='database "nowhere" does not exist'):
        await migrate.migrate(re.sub(r"/test_\d+", "/nowhere", database_url))


@pytest.fixture
async def powerless_url(database_url: str) -> AsyncIterator[str]:
    """A migrated database, as a user who may do nothing there."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("create role powerless login")
    yield database_url.replace("//askonce@", "//powerless@")
    await connection.execute("drop role powerless")
    await connection.close()


@pytest.mark.parametrize("call", [migrate.migrate, migrate.status])
async def test_a_user_without_rights_is_told(powerless_url: str, call: Any) -> None:
    """In one sentence that says what to do."""
    with pytest.raises(
        MigrationError, match=r"permission denied for schema askonce\): run 'askonce migrate' as a user"
    ):
        await call(powerless_url)


async def test_a_user_who_may_make_no_schema_is_told(powerless_url: str, database_url: str) -> None:
    """In an empty database it is the first step that fails."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop schema askonce cascade; drop schema api cascade")
    await connection.close()
    with pytest.raises(MigrationError, match=r"table of migrations cannot be applied .*permission denied .*grant"):
        await migrate.migrate(powerless_url)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("57P01", UnreachableError), ("08006", UnreachableError), ("55000", MigrationError), ("42501", MigrationError)],
)
async def test_whatever_postgres_says_is_one_sentence(
    database_url: str, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[Exception]
) -> None:
    """Also of the lock; a connection that was lost is tried again by those who wait for the database."""

    async def refused(connection: object) -> None:
        del connection
        raise asyncpg.PostgresError.new({"C": code, "M": "so it is"})

    monkeypatch.setattr(migrate, "_lock", refused)
    with pytest.raises(kind, match="so it is"):
        await migrate.migrate(database_url)


@pytest.mark.parametrize("fault", [ConnectionResetError, asyncpg.InterfaceError, asyncpg.InternalClientError])
@pytest.mark.parametrize("place", [(migrate, "_lock"), (asyncpg, "connect")], ids=["after", "while"])
async def test_a_database_that_dies_while_or_after_it_is_connected_cannot_be_reached(
    database_url: str, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], fault: type[Exception]
) -> None:
    """Whatever asyncpg says when the server is killed at that moment; it will be tried again."""

    async def dying(*_: object, **__: object) -> None:
        raise fault("so it is")

    with monkeypatch.context() as patch:
        patch.setattr(*place, dying)
        with pytest.raises(UnreachableError, match="so it is"):
            await migrate.migrate(database_url)


def test_steps_are_numbered_without_gaps() -> None:
    """From 1, in order, named after what they do."""
    assert [step.number for step in migrate.steps()] == list(range(1, len(migrate.steps()) + 1))
    folder = Path(__file__).parents[2] / "migrations"
    assert {step.name for step in migrate.steps()} == {file.name for file in folder.glob("*.sql")}


async def test_vectors_wait_for_pgvector(empty_database_url: str) -> None:
    """Whoever may not add it has everything else without them; once somebody has added it, they come, however late."""
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute("create role modest login")
        name = await connection.fetchval("select current_database()")
        await connection.execute(f"grant create on database {name} to modest")
        url = empty_database_url.replace("//askonce@", "//modest@")
        done = await migrate.migrate(url)
        assert {step.requires for step in done} == {""}
        assert await connection.fetchval("select to_regclass('askonce.embeddings')") is None
        await connection.execute("create extension vector schema public")
        late = await migrate.migrate(url)
        assert {step.requires for step in late} == {"vector"}
        assert await connection.fetchval("select count(*) from api.embeddings") == 0
    finally:
        await connection.execute("drop owned by modest cascade; drop role modest")
        await connection.close()
