"""A real standby of a real Postgres: it follows, it is read only, and what goes wrong there hurts nobody else."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from storage.embedded.folder import DataFolder, claimed
from storage.embedded.postgres import EmbeddedPostgres, postgres
from storage.embedded.standby import SLOT, Needs, standby
from storage.embedded.watchdog import Patience, watch
from tests.acceptance.serving import short_folder

ENDLESS = "select position('b' || repeat('a', 20000) in repeat('a', 20000000))"
"""It takes a minute, and heeds neither a timeout nor a request to end."""


@pytest.fixture
def folder():
    """An empty data folder."""
    with claimed(short_folder()) as one:
        yield one


@asynccontextmanager
async def connected(server: EmbeddedPostgres, user: str = "askonce") -> AsyncGenerator[asyncpg.Connection]:
    """A connection, until the block ends."""
    connection = await asyncpg.connect(host=str(server.socket_dir), port=server.port, user=user, database="askonce")
    try:
        yield connection
    finally:
        connection.terminate()


async def until_seen(server: EmbeddedPostgres, number: int) -> None:
    """Wait until the standby has a row."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with connected(server) as one:
                    if await one.fetchval("select count(*) from said where number = $1", number):
                        return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass
            await asyncio.sleep(0.05)


async def said(server: EmbeddedPostgres, number: int) -> None:
    """Write a row."""
    async with connected(server) as one:
        await one.execute("create table if not exists said (number integer)")
        await one.execute("insert into said values ($1)", number)


async def test_it_follows_and_takes_nothing(folder: DataFolder) -> None:
    """What is written is there in a moment; and nothing can be written there."""
    async with postgres(folder) as primary, standby(folder, primary) as copy:
        await said(primary, 1)
        await until_seen(copy, 1)
        async with connected(copy) as one:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await one.execute("insert into said values (2)")


async def test_it_is_there_again_after_a_restart_and_after_a_kill(folder: DataFolder) -> None:
    """Without a new copy: what it has not read was kept for it."""
    async with postgres(folder) as primary, standby(folder, primary) as copy:
        await said(primary, 1)
        await until_seen(copy, 1)
    made = _inode(folder)
    async with postgres(folder) as primary:
        await said(primary, 2)
        async with standby(folder, primary) as copy:
            await until_seen(copy, 2)
            os.kill(copy.pid, signal.SIGKILL)
            await said(primary, 3)
            await until_seen(copy, 3)
    assert _inode(folder) == made


async def test_one_that_cannot_follow_is_copied_again(folder: DataFolder) -> None:
    """Nothing is kept for it any more, or it is of another cluster."""
    async with postgres(folder) as primary:
        async with standby(folder, primary):
            pass
        made = _inode(folder)
        async with connected(primary) as one:
            await one.execute("select pg_drop_replication_slot($1)", SLOT)
        await said(primary, 1)
        async with standby(folder, primary) as copy:
            await until_seen(copy, 1)
        assert _inode(folder) != made


async def test_what_cannot_be_ended_is_killed_and_the_primary_goes_on(folder: DataFolder) -> None:
    """Meanwhile and afterwards the primary answers, by the same connection; the standby is back by itself."""
    told: list[str] = []
    async with postgres(folder) as primary, standby(folder, primary) as copy:
        await said(primary, 1)
        async with connected(primary) as serving:
            await serving.execute("create role t_one login")
            await until_seen(copy, 1)
            watching = asyncio.create_task(watch(copy, "t_", Patience(ask_s=0.5, kill_s=1.0), told.append))
            async with connected(copy, "t_one") as tenant:
                endless = asyncio.create_task(tenant.execute(ENDLESS))
                while not endless.done():
                    assert await serving.fetchval("select 1") == 1
                    await asyncio.sleep(0.05)
                with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
                    await endless
            assert await serving.fetchval("select 1") == 1
            await said(primary, 2)
            await until_seen(copy, 2)
            watching.cancel()
    assert len(told) == 1


async def test_who_needs_too_much_memory_is_told_so(folder: DataFolder) -> None:
    """The statement fails, and nothing else."""
    async with (
        postgres(folder) as primary,
        standby(folder, primary, needs=Needs(memory_max_bytes=600 * 2**20)) as copy,
        connected(copy) as one,
    ):
        with pytest.raises(asyncpg.OutOfMemoryError):
            await one.fetchval("select length(json_agg(repeat('x', 1000))::text) from generate_series(1, 2000000)")
        assert await one.fetchval("select 1") == 1


def _inode(folder: DataFolder) -> int:
    return Path(folder.postgres / "standby").stat().st_ino
