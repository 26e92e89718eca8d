"""Three gateways that share a Redis and a Postgres, and three models: everything that is killed, in one place."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from storage import migrate
from storage.embedded import folder as folders
from storage.embedded import postgres as embedded_postgres
from storage.embedded import redis as embedded_redis
from storage.embedded.folder import DataFolder
from tests.acceptance.serving import short_folder
from tests.kills.askers import WAIT_S
from tests.kills.victims import Model, Replica, Store

CALM = "calm"
"""The model that is never killed."""
MODELS = (CALM, "frail", "frailer")


class World:
    """All of them, started."""

    def __init__(self, folder: DataFolder) -> None:
        @asynccontextmanager
        async def run_postgres() -> AsyncIterator[str]:
            async with embedded_postgres.postgres(folder) as running:
                yield running.dsn

        self.postgres = Store(run_postgres, folder.run / "postgres.pid")
        self.redis = Store(lambda: embedded_redis.redis(folder), folder.run / "redis.pid")
        self.models = {name: Model(name) for name in MODELS}
        self.replicas: list[Replica] = []
        self.session: aiohttp.ClientSession

    def settings(self) -> dict[str, str]:
        """Of the gateways."""
        backends = [
            {"kind": "openai", "model": model.name, "url": model.url, "model_version": "1"}
            for model in self.models.values()
        ]
        urls = {"ASKONCE_DATABASE_URL": self.postgres.url, "ASKONCE_REDIS_URL": self.redis.url}
        return {**urls, "ASKONCE_BACKENDS": json.dumps(backends)}


@asynccontextmanager
async def world(gateways: int = 3) -> AsyncIterator[World]:
    """A world, and nothing of it left behind."""
    async with AsyncExitStack() as stack:
        root = short_folder()
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        made = World(stack.enter_context(folders.claimed(root / "servers")))
        for store in (made.postgres, made.redis):
            stack.push_async_callback(store.stop)
        await asyncio.gather(made.postgres.start(), made.redis.start())
        await migrate.migrate(made.postgres.url)
        for model in made.models.values():
            stack.callback(model.close)
            await model.start()
            stack.push_async_callback(model.kill)
        env = made.settings()
        made.replicas = [Replica(f"g{n}", root / f"g{n}", env) for n in range(gateways)]
        for replica in made.replicas:
            stack.push_async_callback(replica.stop)
        await asyncio.gather(*(replica.start() for replica in made.replicas))
        # A connection for each request: one that a dead gateway left would fail the request of a living one.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=WAIT_S)
        made.session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
        yield made
