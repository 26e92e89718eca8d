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
from storage.embedded.standby import Needs, standby
from storage.embedded.watchdog import Patience, watch
from storage.errors import AskonceError, EmbeddedError

ROLES: Final = "askonce_"
"""What the names of the roles begin with that tenants' statements run as."""
_AGAIN_S: Final = 10.0
_NONE: Final = "There is no embedded Postgres to make a standby of."


class Standing:
    """The standby of one serve."""

    def __init__(self, folder: DataFolder, needs: Needs, patience: Patience, progress: Progress) -> None:
        self._folder = folder
        self._needs = needs
        self._patience = patience
        self._progress = progress
        self._primary: EmbeddedPostgres | None = None
        self._running: asyncio.Task[None] | None = None
        self._address: asyncio.Future[str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def started(self, primary: EmbeddedPostgres) -> None:
        """From now on there is something to make it of. One that programs connect to by themselves is made at once."""
        self._primary = primary
        if self._needs.port:
            self._spawn(self._kept())

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
            needs=self._needs,
            notify=self._progress.notice,
        )
        try:
            async with serving as server:
                self._progress.notice(f"standby: ready on {server.socket_dir}{_at(self._needs.port)}")
                address.set_result(server.dsn)
                await watch(server, ROLES, self._patience, self._progress.notice)
        except AskonceError as error:
            self._progress.notice(f"The standby does not run: {error}")
            address.set_exception(error)
        finally:
            if not address.done():
                address.cancel()

    async def _kept(self) -> None:
        """Have it run, also when it could not once; only returns by cancellation."""
        while True:
            with suppress(AskonceError):
                await self.address()
                if self._running:
                    await asyncio.wait([self._running])
            await asyncio.sleep(_AGAIN_S)

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


def _at(port: int) -> str:
    return f" and 127.0.0.1:{port}, for tenants" if port else ""
