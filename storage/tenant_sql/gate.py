"""A tenant and a statement come in; its rows go out, read by that tenant's own role, and a bounded number at a time."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from storage import sql
from storage.errors import AskonceError, brief
from storage.tenant_sql.connection import TenantConnection
from storage.tenant_sql.faults import SqlFault, fault_of
from storage.tenant_sql.preparing import edition
from storage.tenant_sql.statements import Limits, Result, fetched

_CONNECT_S: Final = 5
_WAIT_S: Final = 1.0
_IN_LINE: Final = 32
"""Statements of a tenant that may wait for a place."""
_CLOSE_S: Final = 5.0
_SLACK_S: Final = 2.0
_SLACK_BYTES: Final = 2**20
_TRIES: Final = 20
_PAUSE_S: Final = 0.1
_LOST: Final = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError)


Where = Callable[[], Awaitable[str]]
"""Raises `AskonceError` while there is no such server."""


class Database(Protocol):
    """The gateway's own connections."""

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """One row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """One value."""
        ...


class Gate:
    """Lets tenants' statements in. Each has a session of its own, opened for it and closed behind it."""

    def __init__(self, database: Database, where: Where, limits: Limits, *, at_once: int = 4, each: int = 2) -> None:
        """`where` gives the address of the server that statements run on, which may follow `database` a moment behind.
        `at_once` of them at the same time, `each` of them of one tenant.
        """
        self._database = database
        self._where = where
        self._url = ""
        # Rows of a fetch are measured when they are here; one that is far too large is not to come here as a whole.
        self._limits = msgspec.structs.replace(limits, bytes_read=2 * limits.bytes + _SLACK_BYTES)
        self._places = asyncio.Semaphore(at_once)
        self._each = each
        self._of: Counter[str] = Counter()
        """Statements that have a place, or wait for one."""
        self._own: dict[str, asyncio.Semaphore] = {}
        self._edition = edition()
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self, tenant: str, text: str, params: Sequence[Any] = ()) -> Result:
        """The rows of one statement. Raises `SqlFault`. When it is cancelled, Postgres stops, too."""
        if "\0" in text:
            raise SqlFault("sql_syntax", "The statement holds NUL, which Postgres does not know.")
        place = await self._taken(tenant)
        try:
            async with self._session(tenant, place) as connection:
                return await self._read(connection, text, params)
        finally:
            place.left()

    async def entry(self, tenant: str) -> tuple[str, str]:
        """The role and the password that a tenant logs in with. Raises `SqlFault` while nobody may."""
        try:
            found = await self._database.fetchrow(sql.query("tenant_sql_entry"), tenant, self._edition)
            if found["refused"]:
                message = f"SQL is not available here: {found['refused']}."
                raise SqlFault("sql_unavailable", message)
            role = found["role"] or await self._database.fetchval(sql.query("tenant_sql_admit"), tenant)
        except (TimeoutError, asyncpg.PostgresError, *_LOST) as error:
            state = fault_of(error).sqlstate if isinstance(error, asyncpg.PostgresError) else brief(error)
            message = f"The database cannot say now whether you may ask it ({state}); try again soon."
            raise SqlFault("sql_unavailable", message) from error
        if role is None:
            message = f"SQL is not available here: there is no tenant '{tenant}'."
            raise SqlFault("sql_unavailable", message)
        return role, found["password"]

    async def aclose(self) -> None:
        """Wait until no session is open."""
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _read(self, connection: Any, text: str, params: Sequence[Any]) -> Result:
        try:
            async with asyncio.timeout(self._limits.seconds):
                await connection.execute("BEGIN READ ONLY")  # with one connection for one statement, its end is the end
                return await fetched(connection, text, params, self._limits)
        except TimeoutError as error:
            raise SqlFault("sql_timeout") from error
        except _LOST as error:
            raise SqlFault("sql_unavailable") from error

    async def _taken(self, tenant: str) -> "_Place":
        """A place, of the tenant's own and of all: its last statement's may be free in a moment."""
        if self._of[tenant] >= self._each + _IN_LINE:
            raise SqlFault("sql_busy")
        own = self._own.setdefault(tenant, asyncio.Semaphore(self._each))
        self._of[tenant] += 1
        try:
            async with asyncio.timeout(_WAIT_S):
                await own.acquire()
                try:
                    await self._places.acquire()
                except BaseException:
                    own.release()
                    raise
        except BaseException as error:
            self._forget(tenant)
            if isinstance(error, TimeoutError):
                raise SqlFault("sql_busy") from error
            raise
        return _Place(self, tenant)

    def _forget(self, tenant: str) -> None:
        self._of[tenant] -= 1
        if not self._of[tenant]:
            del self._of[tenant], self._own[tenant]

    def free(self, tenant: str) -> None:
        """Give a place back."""
        self._places.release()
        self._own[tenant].release()
        self._forget(tenant)

    @asynccontextmanager
    async def _session(self, tenant: str, place: "_Place") -> AsyncGenerator[Any]:
        connection = await self._connected(*await self.entry(tenant))
        try:
            yield connection
        finally:
            # The place is taken until Postgres has stopped: who leaves early cannot have more done than who waits.
            task = asyncio.create_task(_closed(connection, place))
            place.kept = True
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _connected(self, role: str, password: str) -> Any:
        """A session of a role. One that was just made, or a server that was just killed, is there in a moment."""
        tries = 0
        while True:
            try:
                self._url = self._url or await self._where()
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncpg.connect(
                        self._url,
                        user=role,
                        password=password,
                        connection_class=TenantConnection,
                        statement_cache_size=0,
                        server_settings=self._settings(),
                    )
            except asyncpg.TooManyConnectionsError as error:
                raise SqlFault("sql_busy") from error
            except AskonceError as error:
                raise SqlFault("sql_unavailable", f"The database cannot be asked now: {error}") from error
            except (TimeoutError, asyncpg.PostgresError, *_LOST) as error:
                self._url = ""
                if (tries := tries + 1) > _TRIES or isinstance(error, TimeoutError):
                    raise SqlFault("sql_unavailable", "The database cannot be reached; try again soon.") from error
                await asyncio.sleep(_PAUSE_S)

    def _settings(self) -> dict[str, str]:
        total_ms = round(1000 * self._limits.seconds)
        return {
            "application_name": "askonce sql",
            "statement_timeout": str(total_ms),
            "transaction_timeout": str(total_ms + round(1000 * _SLACK_S)),
        }


class _Place:
    """One statement's, until its session is closed."""

    def __init__(self, gate: Gate, tenant: str) -> None:
        self.kept = False
        """Whoever closes the session gives it back."""
        self._gate = gate
        self._tenant = tenant

    def left(self) -> None:
        """Give it back, unless the session is still to be closed."""
        if not self.kept:
            self._gate.free(self._tenant)

    def closed(self) -> None:
        """Give it back."""
        self._gate.free(self._tenant)


async def _closed(connection: Any, place: _Place) -> None:
    try:
        with contextlib.suppress(TimeoutError, asyncpg.PostgresError, *_LOST):
            await connection.close(timeout=_CLOSE_S)  # waits until what was cancelled is over
    finally:
        connection.terminate()
        place.closed()
