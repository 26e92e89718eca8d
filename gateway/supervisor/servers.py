"""A plan and a data folder come in; Postgres, Redis and llama.cpp run, and where they are goes out."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from gateway.backends.llamacpp_child import LlamaOptions, llamacpp
from gateway.models.source import ModelFile, resolve
from gateway.supervisor.plan import Prepare, ServePlan, Services
from gateway.supervisor.progress import Progress
from gateway.supervisor.workers import first_error
from storage.embedded.folder import DataFolder
from storage.embedded.postgres import postgres
from storage.embedded.redis import redis


class Servers:
    """What a plan needs besides workers; servers that it names by address are left alone."""

    def __init__(self, plan: ServePlan, folder: DataFolder, prepare: Prepare, progress: Progress) -> None:
        self._plan = plan
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
        model, llamacpp_socket = served.result() or (None, None)
        return Services(
            host=self._plan.host,
            database_url=database.result(),
            redis_url=cache.result(),
            llamacpp_socket=llamacpp_socket,
            model_name=model.name if model else None,
            model_digest=model.digest if model else None,
        )

    async def _database(self, stack: AsyncExitStack) -> str:
        if (url := self._plan.database_url) is None:
            connections = self._plan.workers * self._plan.database_connections
            running = postgres(self._folder, connections=connections, notify=self._progress.notice)
            server = await stack.enter_async_context(running)
            url = server.dsn
            self._progress.step("postgres", f"ready on {server.socket_dir}")
        await self._prepare(url)
        self._progress.step("schema", "ready")
        return url

    async def _cache(self, stack: AsyncExitStack) -> str:
        if self._plan.redis_url is not None:
            return self._plan.redis_url
        server = redis(self._folder, max_bytes=self._plan.redis_max_bytes, notify=self._progress.notice)
        url = await stack.enter_async_context(server)
        self._progress.step("redis", f"ready on {url}")
        return url

    async def _model(self, stack: AsyncExitStack) -> tuple[ModelFile, str] | None:
        plan = self._plan
        if plan.model is None:
            return None
        model = await resolve(
            plan.model,
            models_dir=self._folder.models,
            hub_endpoint=plan.hub_endpoint,
            hub_token=plan.hub_token,
            progress=self._progress.downloading,
        )
        if model.notice:
            self._progress.notice(model.notice)
        self._progress.step("model", f"{model.name} ({model.path})")
        options = LlamaOptions(
            slots=plan.llamacpp_slots, context_tokens=plan.llamacpp_context_tokens, threads=plan.llamacpp_threads
        )
        server = llamacpp(self._folder, model.path, model.name, options=options, notify=self._progress.notice)
        llamacpp_socket = await stack.enter_async_context(server)
        self._progress.step("llama.cpp", f"ready on {llamacpp_socket}")
        return model, str(llamacpp_socket)
