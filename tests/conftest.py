"""What many tests share: a real Postgres and a real Redis for the run, and a gateway of this process."""

import contextlib
import gc
import itertools
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import msgspec
import pytest
import pytest_asyncio
import redis.asyncio

from storage import migrate
from storage.embedded import folder
from storage.embedded import postgres as embedded_postgres
from storage.embedded import redis as embedded_redis
from tests.acceptance.in_thread import Gateway
from tests.acceptance.serving import Served, short_folder

pytest_plugins = ["tests.engines.fixtures"]

# Two cores shared with servers: time says nothing about a property, only about the neighbours.
hypothesis.settings.register_profile("askonce", deadline=None, print_blob=True)
hypothesis.settings.load_profile("askonce")

# A shell that runs this in its background has Ctrl-C ignored, and whom we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_TEMPLATE = "migrated"
_numbers = itertools.count()


class Servers(msgspec.Struct, frozen=True):
    """The servers of this run. `redis_process` and `postgres_process` are there to be frozen."""

    postgres_dsn: str
    postgres_process: int
    redis_url: str
    redis_process: int

    def database(self, name: str) -> str:
        """The DSN of one database."""
        return self.postgres_dsn.replace("/askonce?", f"/{name}?")


class _Record(msgspec.Struct):
    pid: int


@contextlib.asynccontextmanager
async def run_servers() -> AsyncIterator[Servers]:
    """Start both servers on a folder of their own."""
    root = Path(tempfile.mkdtemp(prefix="ao-", dir="/tmp"))
    try:
        with folder.claimed(root / "data") as data:
            async with embedded_postgres.postgres(data) as postgres, embedded_redis.redis(data) as redis_url:
                pid = msgspec.json.decode((data.run / "redis.pid").read_bytes(), type=_Record).pid
                yield Servers(postgres.dsn, postgres.pid, redis_url, pid)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers() -> AsyncIterator[Servers]:
    """A Postgres with a migrated template database, and a Redis."""
    async with run_servers() as running:
        await _statement(running.postgres_dsn, f"create database {_TEMPLATE}")
        await migrate.migrate(running.database(_TEMPLATE))
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_database_url(servers: Servers) -> AsyncIterator[str]:
    """A migrated database for tests that leave nothing in it."""
    async with _database(servers, f"template {_TEMPLATE}") as url:
        yield url


@pytest.fixture
async def database_url(servers: Servers) -> AsyncIterator[str]:
    """A migrated database of this test's own."""
    async with _database(servers, f"template {_TEMPLATE}") as url:
        yield url


@pytest.fixture
async def empty_database_url(servers: Servers) -> AsyncIterator[str]:
    """A database with nothing in it, of this test's own."""
    # template1 is not empty once tenants' SQL was made ready: what is made of it takes rights from everybody.
    async with _database(servers, "template template0") as url:
        yield url


@pytest.fixture
async def redis_url(servers: Servers) -> str:
    """The Redis, with nothing in it."""
    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await client.flushall()
    return servers.redis_url


@pytest.fixture
def gateway(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Make gateways of this process, served over HTTP by threads: `gateway(script, max_body_bytes=…)`."""
    with contextlib.ExitStack() as stack:

        def make(script: str = "", **settings: object) -> Gateway:
            file = tmp_path / f"script-{next(_numbers)}.toml"
            file.write_text(script or "[[line]]\n")
            tiers = {"database_url": database_url, "redis_url": redis_url}
            return stack.enter_context(Gateway.serving(file, tiers | settings))

        yield make


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """One `askonce serve --model bundled` on a folder of its own, for the tests that only talk to it."""
    folder = short_folder()
    server = Served(folder, "--model", "bundled")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ASKONCE_")]:
        monkeypatch.delenv(name)


@contextlib.asynccontextmanager
async def _database(servers: Servers, options: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    await _statement(servers.postgres_dsn, f"create database {name} {options}")
    try:
        yield servers.database(name)
    finally:
        await _statement(servers.postgres_dsn, f"drop database {name} with (force)")


async def _statement(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def langextract_client() -> Iterator[None]:
    """LangExtract's model never closes its client: that is taken away here, and not in the middle of another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
