"""A real gateway with everything real around it: started, stopped, killed, its tiers emptied and looked into."""

import asyncio
import contextlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import redis.asyncio

from gateway.bench import processes
from gateway.bench.differential.plan import BRIEF_S, MEMBERS, MODELS, NAMESPACE, TENANTS
from gateway.bench.processes import BenchError
from storage import entry
from storage.embedded import clients
from storage.keys import KeyStore, Wanted
from storage.redis import PREFIX

START_S: Final = 120.0
ADMIN: Final = "differential-admin-key"
_AGAIN_S: Final = 0.02
_READY: Final = b"askonce is ready"
"""What it prints when all workers serve."""
# Deadlines so long that a busy machine does not make misses of hits: how fast tiers are is measured elsewhere.
_SETTINGS: Final = """\
workers = {workers}
admin_key = "{admin}"
redis_max_bytes = 2147483648
redis_deadline_s = 10.0
database_deadline_s = 20.0

[[policies]]
tenant = "brief"
ttl_s = {brief_s}

[[policies]]
tenant = "strict"
keep_sampled = false
"""
_BACKEND: Final = """
[[backends]]
kind = "{kind}"
model = "{model}"
url = "http://{address}"
tools = "native"
"""
_KINDS: Final = {"alpha": "openai", "beta": "openai", "gamma": "vllm"}


Said = tuple[int, dict[str, str], bytes]
"""Status, headers and content of a reply."""
_HELD: Final = 100


class Kept(msgspec.Struct, frozen=True):
    """What a tier holds under a key."""

    origin_id: str
    epoch: int


class Site:
    """One data folder and the gateway on it. `command` starts it, before its options."""

    def __init__(self, folder: Path, oracle: str, workers: int, command: Sequence[str]) -> None:
        self.keys: dict[str, list[str]] = {}
        """Two of each tenant's."""
        self.workers = workers
        self._port = processes.free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._folder = folder
        self._command = command
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        backends = "".join(_BACKEND.format(kind=_KINDS[model], model=model, address=oracle) for model in MODELS)
        settings = _SETTINGS.format(workers=workers, admin=ADMIN, brief_s=BRIEF_S)
        (folder / "askonce.toml").write_text(settings + backends, "utf-8")

    @property
    def data(self) -> Path:
        """The data folder."""
        return self._folder / "data"

    async def start(self) -> None:
        """Start it, and wait until it answers. Raises `BenchError`."""
        settings = str(self._folder / "askonce.toml")
        options = ("serve", "--port", str(self._port), "--data-dir", str(self.data), "--config", settings)
        log_path = self._folder / "askonce.log"
        log = self._stack.enter_context(log_path.open("wb"))
        running = processes.running((*self._command, *options), cwd=self._folder, log=log)
        process = self._process = self._stack.enter_context(running)
        end = time.monotonic() + START_S
        while _READY not in log_path.read_bytes():
            if process.poll() is not None or time.monotonic() > end:
                raise BenchError(f"askonce did not start. Its output: {log_path.read_text(errors='replace')[-2000:]}")
            await asyncio.sleep(_AGAIN_S)
        if not self.keys:
            await self._make_keys()

    async def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        await asyncio.to_thread(self._stack.close)

    async def kill(self) -> None:
        """SIGKILL to the parent, and wait until nothing of it is left."""
        if self._process is None:
            return
        family = processes.descendants(self._process.pid)
        self._process.kill()
        await self.stop()
        end = time.monotonic() + START_S
        while any(_alive(pid) for pid in family) and time.monotonic() < end:  # noqa: ASYNC110 -- they are no children
            await asyncio.sleep(_AGAIN_S)

    def kill_worker(self, number: int) -> None:
        """SIGKILL to one of the workers."""
        pids = self.worker_pids()
        if pids:
            with suppress(ProcessLookupError):
                os.kill(pids[number % len(pids)], signal.SIGKILL)

    def worker_pids(self) -> list[int]:
        """Its workers: those of its children that were given a socket to serve."""
        children = processes.descendants(self._process.pid) if self._process else []
        return sorted(pid for pid in children if "--fd" in processes.command_of(pid))

    async def flush_redis(self) -> None:
        """Have Redis forget everything."""
        async with self._redis() as client:
            await client.flushall()

    async def truncate(self) -> None:
        """Have Postgres forget every answer."""
        async with self._database() as connection:
            await connection.execute("truncate askonce.completions cascade")

    async def kept(self, keys: Collection[bytes]) -> tuple[dict[bytes, Kept], dict[bytes, Kept]]:
        """What Redis and what Postgres have under `keys`."""
        ordered = list(keys)
        in_redis: dict[bytes, Kept] = {}
        async with self._redis() as client:
            values: Any = await client.mget([PREFIX + key for key in ordered]) if ordered else []
        for key, value in zip(ordered, values, strict=True):
            if value is not None:
                found = entry.opened(value)
                in_redis[key] = Kept(found.origin_id, found.epoch)
        async with self._database() as connection:
            query = "select key, origin_id, epoch from askonce.completions where key = any($1::bytea[])"
            rows = await connection.fetch(query, ordered)
        return in_redis, {row["key"]: Kept(row["origin_id"], row["epoch"]) for row in rows}

    def ask_any(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Said:
        """What whichever worker takes it replies."""
        connection = http.client.HTTPConnection(self.address, timeout=START_S)
        with contextlib.closing(connection):
            return _asked(connection, method, path, body, headers)

    def ask_each(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> list[Said]:
        """The reply of each worker. Raises `BenchError`."""
        replies: dict[int, Said] = {}
        opened: list[http.client.HTTPConnection] = []
        end = time.monotonic() + START_S
        try:
            while time.monotonic() < end:
                connection = http.client.HTTPConnection(self.address, timeout=START_S)
                opened.append(connection)
                with suppress(OSError, http.client.HTTPException):
                    said = _asked(connection, method, path, body, headers)
                    worker = _owner(self._port, connection.sock.getsockname()[1], pids := self.worker_pids())
                    if worker is not None:
                        replies[worker] = said
                    if len(pids) == self.workers and replies.keys() >= set(pids):
                        return [replies[pid] for pid in pids]
                if len(opened) > _HELD:  # those who have answered are held on to, so that others take the next
                    opened.pop(0).close()
                time.sleep(_AGAIN_S)  # one that was killed takes a while to come back
        finally:
            for connection in opened:
                connection.close()
        raise BenchError("Not every worker answers.")

    async def _make_keys(self) -> None:
        async with self._database() as connection:
            store = KeyStore(connection)
            for tenant in TENANTS:
                wanted = Wanted(tenant=tenant, scopes=("ask", "cache"))
                self.keys[tenant] = [await store.create(wanted) for _ in range(2)]
            await store.create_namespace(NAMESPACE)
            for tenant in MEMBERS:
                await store.join(NAMESPACE, tenant)

    @asynccontextmanager
    async def _database(self) -> AsyncGenerator[asyncpg.Connection]:
        async with clients.opened("", self.data.resolve()) as url:
            connection = await asyncpg.connect(url, timeout=20)
            try:
                yield connection
            finally:
                await connection.close(timeout=5)

    @asynccontextmanager
    async def _redis(self) -> AsyncGenerator[Any]:
        async with redis.asyncio.Redis(unix_socket_path=str(self.data / "run" / "redis.sock")) as client:
            yield client


def _asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: dict[str, str]
) -> Said:
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()


def _owner(port: int, client_port: int, pids: Collection[int]) -> int | None:
    """Which of `pids` has accepted the connection from `client_port` to `port`."""
    local, remote = f"0100007F:{port:04X}", f"0100007F:{client_port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    inodes = {f"socket:[{row[9]}]" for row in rows if (row[1], row[2]) == (local, remote)}
    for pid in pids:
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) in inodes:  # noqa: PTH115 -- it is no path
                        return pid
    return None


def _alive(pid: int) -> bool:
    return bool(processes.command_of(pid))
