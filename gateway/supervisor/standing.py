"""A running embedded Postgres comes in, its standby is started when a worker first wants it: most never do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Final

import msgspec

from gateway.parent import Told
from gateway.supervisor.progress import Progress
from gateway.supervisor.workers import Worker
from storage.embedded.folder import DataFolder
from storage.embedded.postgres import EmbeddedPostgres
from storage.embedded.standby import standby
from storage.embedded.watchdog import watch
from storage.errors import AskonceError, EmbeddedError

ROLES: Final = "askonce_"
"""What the names of the roles begin with that tenants' statements run as."""
_MEMORY_MAX_BYTES: Final = 3 * 2**29
"""Of each process: its share of what all have, and what one statement may take."""
_NONE: Final = "There is no embedded Postgres to make a standby of."


class Standing:
    """The standby of one serve. `longest_s`: what still runs then is killed."""

    def __init__(self, folder: DataFolder, connections: int, longest_s: float, progress: Progress) -> None:
        self._folder = folder
        self._connections = connections
        self._longest_s = longest_s
        self._progress = progress
        self._primary: EmbeddedPostgres | None = None
        self._running: asyncio.Task[None] | None = None
        self._address: asyncio.Future[str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def started(self, primary: EmbeddedPostgres) -> None:
        """From now on there is something to make it of."""
        self._primary = primary

    def asked(self, worker: Worker, number: int) -> None:
        """A worker wants it; it is told where it is, or why it is not."""
        self._spawn(self._answer(worker, number))

    async def address(self) -> str:
        """Its URL, once it runs. Raises `EmbeddedError`; the next who asks has it tried again."""
        if self._primary is None:
            raise EmbeddedError(_NONE)
        if self._address is None or (self._running and self._running.done()):
            self._address = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._primary, self._address))
        return await asyncio.shield(self._address)

    async def aclose(self) -> None:
        """Stop it."""
        for task in (*self._tasks, *([self._running] if self._running else [])):
            task.cancel()
            with suppress(asyncio.CancelledError, AskonceError):
                await task

    async def _run(self, primary: EmbeddedPostgres, address: asyncio.Future[str]) -> None:
        serving = standby(
            self._folder,
            primary,
            connections=self._connections,
            memory_max_bytes=_MEMORY_MAX_BYTES,
            notify=self._progress.notice,
        )
        try:
            async with serving as server:
                self._progress.notice(f"standby: ready on {server.socket_dir}")
                address.set_result(server.dsn)
                await watch(server, ROLES, self._longest_s, self._progress.notice)
        except AskonceError as error:
            self._progress.notice(f"The standby does not run: {error}")
            address.set_exception(error)
        finally:
            if not address.done():
                address.cancel()

    async def _answer(self, worker: Worker, number: int) -> None:
        try:
            told = Told(asked=number, address=await self.address())
        except (AskonceError, asyncio.CancelledError) as error:
            told = Told(asked=number, refused=str(error) or "askonce is stopping.")
        await worker.tell(msgspec.json.encode(told) + b"\n")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
