"""Settings and a data folder come in; Postgres, Redis and the model's engine run, and where they are goes out."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

from gateway.config import BackendConfig, Config
from gateway.engines import ENGINES, Setting, llamacpp
from gateway.supervisor.plan import Prepare, Services
from gateway.supervisor.progress import Progress
from gateway.supervisor.standing import Standing
from gateway.supervisor.workers import first_error
from storage import redis as redis_tier
from storage.embedded import leftover
from storage.embedded.folder import DataFolder
from storage.embedded.postgres import postgres
from storage.embedded.redis import redis
from storage.embedded.standby import Needs
from storage.embedded.watchdog import Patience

_LEFTOVER_GRACE_S = 30.0
_ASK_S, _KILL_S = 2.0, 5.0
"""How long a statement of a tenant's may go on after it was to end, until it is asked to, and until it is killed."""
_MEMORY_MAX_BYTES = 3 * 2**29
"""Of each process of the standby: its share of what all have, and what one statement may take."""


class Servers:
    """What `config` needs besides workers; servers that it names by address are left alone."""

    def __init__(self, config: Config, folder: DataFolder, prepare: Prepare, progress: Progress) -> None:
        self._config = config
        self._folder = folder
        self._prepare = prepare
        self._progress = progress
        needs = Needs(connections=self._connections, memory_max_bytes=_MEMORY_MAX_BYTES, port=config.sql_port)
        patience = Patience(ask_s=config.sql_timeout_s + _ASK_S, kill_s=config.sql_timeout_s + _KILL_S)
        self.standing = Standing(folder, needs, patience, progress)

    @property
    def _connections(self) -> int:
        return self._config.workers * (self._config.database_connections + self._config.sql_connections)

    async def start(self, stack: AsyncExitStack) -> Services:
        """Start all at the same time: the slowest, usually the model, decides how long it takes.

        `stack` stops them: first the engine, then Redis, then Postgres.

        Raises:
            AskonceError: one of them did not start, or there is no usable model.
        """
        # One stack each: however their starts interleave, the order of stopping is the same.
        stacks = [await stack.enter_async_context(AsyncExitStack()) for _ in range(4)]
        with first_error():
            async with asyncio.TaskGroup() as group:
                database = group.create_task(self._database(stacks[0]))
                cache = group.create_task(self._cache(stacks[1]))
                served = group.create_task(self._model(stacks[2]))
                embedder = group.create_task(self._embedder(stacks[3]))
        return Services(
            database_url=database.result(),
            redis_url=cache.result(),
            engine=served.result(),
            embedder=embedder.result(),
            folder=self._folder.root,
        )

    async def _database(self, stack: AsyncExitStack) -> str:
        url = self._config.database_url
        if not url:
            running = postgres(self._folder, connections=self._connections, notify=self._progress.notice)
            server = await stack.enter_async_context(running)
            stack.push_async_callback(self.standing.aclose)
            self.standing.started(server)
            url = server.dsn
            self._progress.step("postgres", f"ready on {server.socket_dir}")
        prepared = await self._prepare(url)
        self._progress.step("schema", "ready" if prepared else "not prepared: it will be once Postgres is back")
        return url

    async def _cache(self, stack: AsyncExitStack) -> str:
        if url := self._config.redis_url:
            # Nothing is connected: an address that the workers could not use is named here, once.
            await redis_tier.connect(url, self._config.redis_ttl_s).aclose()
            return url
        server = redis(self._folder, max_bytes=self._config.redis_max_bytes, notify=self._progress.notice)
        url = await stack.enter_async_context(server)
        self._progress.step("redis", f"ready on {url}")
        return url

    async def _model(self, stack: AsyncExitStack) -> BackendConfig | None:
        config = self._config
        for name in ENGINES:  # One that another start was asked for, and that outlived its parent, is in the way too.
            await leftover.ended(self._folder.run / f"{name}.pid", signal.SIGTERM, grace_s=_LEFTOVER_GRACE_S)
        if (wanted := config.embedded_model()) is None:
            return None
        setting = Setting(config, self._folder, self._progress)
        return await stack.enter_async_context(ENGINES[config.engine](setting, wanted))

    async def _embedder(self, stack: AsyncExitStack) -> BackendConfig | None:
        """The model that embeds what is kept, where that is none of the others."""
        await leftover.ended(self._folder.run / "embedding.pid", signal.SIGTERM, grace_s=_LEFTOVER_GRACE_S)
        if (wanted := self._config.embedded_embedder()) is None:
            return None
        setting = Setting(self._config, self._folder, self._progress)
        return await stack.enter_async_context(llamacpp.embedding(setting, wanted))
