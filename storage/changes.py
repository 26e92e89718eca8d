"""What others change in the database, heard at once: every gateway listens on one channel of Postgres."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

CHANNEL: Final = "askonce"
EVERYTHING: Final = "*"
"""Told after every connection: what happened while there was none is not known."""
_RETRY_S: Final = 1.0
_PROBE_S: Final = 5
_LOG = logging.getLogger("askonce")
_FAULTS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

OnChange = Callable[[str], Awaitable[None]]


class Changes:
    """A connection that listens, made again whenever it is lost. `on_change` is given what was said.

    When `on_change` fails the connection is given up as well, so that what it could not do is done after the next one.
    """

    def __init__(self, url: str, on_change: OnChange) -> None:
        self._url = url
        self._on_change = on_change
        self._said: asyncio.Queue[str] = asyncio.Queue()
        self.connected = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="changes")

    async def aclose(self) -> None:
        """Stop listening."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except _FAULTS as error:
                if self.connected.is_set():
                    _LOG.warning("Changes in the database are not heard until it is back (%s)", error)
            self.connected.clear()
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._url, timeout=_PROBE_S, command_timeout=_PROBE_S)
        try:
            await connection.add_listener(CHANNEL, self._heard)
            self._said.put_nowait(EVERYTHING)
            self.connected.set()
            while True:
                await self._next(connection)
        finally:
            connection.terminate()

    async def _next(self, connection: asyncpg.Connection) -> None:
        """Pass on what is said; when nothing is, make sure that the server is still there."""
        try:
            async with asyncio.timeout(_PROBE_S):
                said = await self._said.get()
        except TimeoutError:
            await connection.execute("select 1")
            return
        await self._on_change(said)

    def _heard(self, connection: Any, pid: int, channel: str, said: object) -> None:
        del connection, pid, channel
        self._said.put_nowait(str(said))
