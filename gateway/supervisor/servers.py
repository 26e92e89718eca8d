"""Settings and a data folder come in; Postgres, Redis and llama.cpp run, and where they are goes out."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from importlib import metadata

from gateway.backends.llamacpp_child import LlamaOptions, llamacpp
from gateway.config import BackendConfig, Config, ConfigError
from gateway.models.source import resolve
from gateway.supervisor.plan import Prepare, Services
from gateway.supervisor.progress import Progress
from gateway.supervisor.workers import first_error
from storage import redis as redis_tier
from storage.embedded.folder import DataFolder
from storage.embedded.postgres import postgres
from storage.embedded.redis import redis


class Servers:
    """What `config` needs besides workers; servers that it names by address are left alone."""

    def __init__(self, config: Config, folder: DataFolder, prepare: Prepare, progress: Progress) -> None:
        self._config = config
        self._folder = folder
        self._prepare = prepare
        self._progress = progress

    async def start(self, stack: AsyncExitStack) -> Services:
        """Start all at the same time: the slowest, usually the model, decides how long it takes.

        `stack` stops them: first llama.cpp, then Redis, then Postgres.

        Raises:
            AskonceError: one of them did not start, or there is no usable model.
        """
        # One stack each: however their starts interleave, the order of stopping is the same.
        stacks = [await stack.enter_async_context(AsyncExitStack()) for _ in range(3)]
        with first_error():
            async with asyncio.TaskGroup() as group:
                database = group.create_task(self._database(stacks[0]))
                cache = group.create_task(self._cache(stacks[1]))
                served = group.create_task(self._model(stacks[2]))
        return Services(database_url=database.result(), redis_url=cache.result(), llamacpp=served.result())

    async def _database(self, stack: AsyncExitStack) -> str:
        url = self._config.database_url
        if not url:
            connections = self._config.workers * self._config.database_connections
            running = postgres(self._folder, connections=connections, notify=self._progress.notice)
            server = await stack.enter_async_context(running)
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
        if (wanted := config.embedded_model()) is None:
            return None
        model = await resolve(
            wanted,
            models_dir=self._folder.models,
            hub_endpoint=config.hf_endpoint or None,
            hub_token=config.hf_token or None,
            progress=self._progress.downloading,
        )
        if model.notice:
            self._progress.notice(model.notice)
        self._progress.step("model", f"{model.name} ({model.path})")
        if model.name in {backend.served_name for backend in config.backends}:
            message = (
                f"One of `backends` is served as '{model.name}', the name of the embedded model: give it another"
                " `alias`, or set `model` to 'none'."
            )
            raise ConfigError(message)
        options = LlamaOptions(slots=config.slots, context_tokens=config.context_tokens, threads=config.threads)
        server = llamacpp(self._folder, model.path, model.name, options=options, notify=self._progress.notice)
        llamacpp_socket = await stack.enter_async_context(server)
        self._progress.step("llama.cpp", f"ready on {llamacpp_socket}")
        return BackendConfig(
            kind="llamacpp",
            kv_unified=True,
            model=model.name,
            url=f"unix:{llamacpp_socket}",
            engine_version=metadata.version("xllamacpp"),
            model_version=model.digest,
        )
