"""The settings, read again while everything runs: refused whole, or used by all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import msgspec

from gateway import config as settings
from gateway.backends import scripted
from gateway.config import Config, ConfigError, encoded
from gateway.parent import Told
from gateway.supervisor.plan import ServePlan, Services
from gateway.supervisor.progress import Progress
from gateway.supervisor.workers import Worker, Workers


class Reloading:
    """What the workers serve with, and how it becomes something else."""

    def __init__(self, plan: ServePlan, progress: Progress) -> None:
        self._config = plan.config
        self._read: Callable[[], Config] | None = plan.reload
        self._progress = progress
        self._turn = asyncio.Lock()
        self._running: tuple[Workers, Services] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def started(self, workers: Workers, services: Services) -> None:
        """Everything runs: from now on it can be changed."""
        self._running = workers, services

    def asked(self, worker: Worker, number: int) -> None:
        """A worker wants it; it is told what came of it."""
        self._spawn(self._answer(worker, number))

    def signalled(self) -> None:
        """Somebody at the terminal wants it; the log says what came of it."""
        self._spawn(self._tell())

    async def reload(self) -> tuple[str, ...]:
        """Read the settings, and have all workers use them; what has changed.

        Raises `ConfigError`, and then nothing has.
        """
        async with self._turn:
            if self._read is None or self._running is None:
                raise ConfigError("The settings can be read again once everything runs. Nothing was changed.")
            workers, services = self._running
            config = self._read()
            check_scripts(config)
            names = tuple(settings.changed(self._config, config))
            if names:
                await workers.use(encoded(services.wired(config)))
                self._config = config
            return names

    async def _tell(self) -> None:
        try:
            names = await self.reload()
        except ConfigError as error:
            self._progress.notice(f"The settings were read again and refused: {error}")
        else:
            self._progress.notice(f"The settings were read again; changed: {', '.join(names) or 'nothing'}.")

    async def _answer(self, worker: Worker, number: int) -> None:
        try:
            told = Told(asked=number, changed=await self.reload())
        except ConfigError as error:
            told = Told(asked=number, refused=str(error))
        await worker.tell(msgspec.json.encode(told) + b"\n")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def check_scripts(config: Config) -> None:
    """Raise `ConfigError` for a script that the workers could not use."""
    for backend in config.backends:
        if backend.kind == "scripted":
            scripted.read(backend.script)
