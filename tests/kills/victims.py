"""What is killed, and how it comes back: models, Redis and Postgres on their data, gateways and their workers."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec
import psutil

from storage.errors import EmbeddedError
from tests.acceptance.serving import ROOT, Served

COMES_BACK_S = 60.0
_POLL_S = 0.02


class _Record(msgspec.Struct):
    pid: int


class Model:
    """The model `name`, served by one process after the other on the same port."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Serve."""
        fd = self._listening.fileno()
        words = [sys.executable, "-S", "-E", "-m", "tests.kills.model", str(fd)]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, pass_fds=[fd], stdout=pipe)
        assert self._process.stdout
        assert await self._process.stdout.readline() == b"up\n"

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._process
        _kill(self._process)
        await self._process.wait()

    def close(self) -> None:
        """Let go of the port."""
        self._listening.close()


class Store:
    """Redis or Postgres, whose data outlives it. `run` starts it and gives its address."""

    def __init__(self, run: Callable[[], AbstractAsyncContextManager[str]], record: Path) -> None:
        self.url = ""
        self._run = run
        self._record = record
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Start, as often as it takes: a Postgres waits for what is left of the one before."""
        async with asyncio.timeout(COMES_BACK_S):
            while True:
                try:
                    self.url = await self._running.enter_async_context(self._run())
                except EmbeddedError:
                    await asyncio.sleep(_POLL_S)
                else:
                    return

    async def kill(self, *, whole: bool) -> None:
        """SIGKILL, to its first process or to all of them."""
        first = psutil.Process(msgspec.json.decode(self._record.read_bytes(), type=_Record).pid)
        for process in [first, *(first.children() if whole else ())]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        async with asyncio.timeout(COMES_BACK_S):
            while psutil.pid_exists(first.pid):  # noqa: ASYNC110 -- until its parent, this process, has noticed
                await asyncio.sleep(_POLL_S)
        await self._running.aclose()

    async def stop(self) -> None:
        """In order."""
        await self._running.aclose()


class Replica:
    """One `askonce serve` without servers of its own."""

    def __init__(self, name: str, folder: Path, env: dict[str, str]) -> None:
        self.name = name
        self._served = Served(folder, env=env)

    @property
    def url(self) -> str:
        """Where it listens; each start has a port of its own."""
        return self._served.url

    async def start(self) -> None:
        """Start, and wait until it answers."""
        await asyncio.to_thread(self._served.start)

    async def kill(self) -> None:
        """SIGKILL to the parent, and start again."""
        await asyncio.to_thread(self._served.kill)
        await self.start()

    async def kill_worker(self, session: aiohttp.ClientSession) -> None:
        """SIGKILL to the process that answers, and wait until another does."""
        children = psutil.Process(self._served.pid).children()
        (worker,) = (child for child in children if "gateway.worker" in child.cmdline())
        worker.kill()
        async with asyncio.timeout(COMES_BACK_S):
            while not await self._answers(session):  # noqa: ASYNC110 -- another process has to
                await asyncio.sleep(_POLL_S)

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        return await asyncio.to_thread(self._served.stop)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/healthz") as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False


class Doomed:
    """A client with a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def asking(cls, url: str, body: bytes) -> "Doomed":
        """One that asks the gateway at `url`."""
        host, port = url.removeprefix("http://").split(":")
        words = [sys.executable, "-S", "-E", "-m", "tests.kills.client", host, port, os.fsdecode(body)]
        pipe = asyncio.subprocess.PIPE
        devnull = asyncio.subprocess.DEVNULL
        return cls(await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=pipe, stderr=devnull))

    async def heard(self, lines: int) -> bool:
        """Wait until it has printed so many lines; False when it ends before."""
        assert self._process.stdout
        for _ in range(lines):
            if not await self._process.stdout.readline():
                return False
        return True

    async def kill(self) -> bool:
        """SIGKILL; whether there was still somebody to kill."""
        killed = self._process.returncode is None and _kill(self._process)
        await self._process.wait()
        return killed


def _kill(process: asyncio.subprocess.Process) -> bool:
    """SIGKILL; False when it has ended by itself.

    asyncio's own way would look for the exit status first, and so take it away from asyncio's own watcher.
    """
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
