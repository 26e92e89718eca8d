"""A worker command and a listening socket come in, worker processes that are kept alive go out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec

from storage.embedded import leftover
from storage.embedded.privileges import before_exec
from storage.errors import AskonceError

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_STEADY_AFTER_S = 30.0
_FLUSH_S = 6.0
"""Once its requests are done, or given up after `drain_s`, a worker takes up to 5 s to write out its last answers."""

_USE_S = 10.0
"""How long a worker may take to use other settings; it does nothing for it but what takes no time."""

Notify = Callable[[str], None]
Ask = Callable[["Worker", str, int], None]
"""Called when a worker wants something: `reload` or `standby`, with the number of its question."""


class WorkerFailed(AskonceError):
    """A worker ended before it was ready."""


class WorkerCommand(msgspec.Struct, frozen=True, kw_only=True):
    """How to start each worker, and how long its requests may take to finish when it stops."""

    argv: tuple[str, ...]
    listener_fd: int
    run_dir: Path
    drain_s: float


class Worker:
    """One worker process and its successors."""

    def __init__(self, command: WorkerCommand, number: int, notify: Notify, ask: Ask) -> None:
        self.line = b""
        """The settings it serves with."""
        self._using: dict[int, asyncio.Event] = {}
        self._ask = ask
        self.ready = asyncio.Event()
        self._command = command
        self._record_path = command.run_dir / f"worker-{number}.pid"
        self._name = f"Worker {number}"
        self._notify = notify
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        """Start the process; it imports its modules and waits for its line."""
        record, die_with_parent = leftover.recorder(self._record_path), before_exec(signal.SIGTERM, None)

        def in_child() -> None:
            record()
            die_with_parent()

        self._process = await asyncio.create_subprocess_exec(
            *self._command.argv,
            "--fd",
            str(self._command.listener_fd),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._command.listener_fd,),
            process_group=0,  # Ctrl-C reaches the parent only, which lets requests finish.
            preexec_fn=in_child,
        )
        return self._process

    async def serve(self, process: asyncio.subprocess.Process) -> None:
        """Tell `process`, and each successor, where the servers are; only returns by an error or cancellation.

        Raises:
            WorkerFailed: the first process ended before it was ready; its own messages are on stderr.
        """
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            started_s = loop.time()
            status = await self._watch(process)
            if not self.ready.is_set():
                raise WorkerFailed(f"{self._name} ended with status {status} before it was ready.")
            if loop.time() - started_s > _STEADY_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            self._notify(f"{self._name} ended with status {status}; starting it again in {pause_s:.1f} s.")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            process = await self.start()

    async def stop(self, forced: asyncio.Event) -> None:
        """Let open requests finish, for `drain_s` seconds at most and not at all once `forced` is set.

        Then it has `_FLUSH_S` more to write out its last answers.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        ending, forcing = asyncio.create_task(process.wait()), asyncio.create_task(forced.wait())
        longest_s = self._command.drain_s + _FLUSH_S
        await asyncio.wait({ending, forcing}, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
        forcing.cancel()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await ending
        self._record_path.unlink(missing_ok=True)

    async def use(self, serial: int, line: bytes) -> None:
        """Have this process use other settings, and each successor. Returns when it does, or has ended."""
        self.line = line
        process = self._process
        if process is None or process.returncode is not None or not self.ready.is_set():
            return  # the next one starts with them
        using = self._using[serial] = asyncio.Event()
        told = b'{"serial":%d,"config":%b}\n' % (serial, line)
        ending = asyncio.create_task(process.wait())
        having = asyncio.create_task(using.wait())
        await self.tell(told)
        await asyncio.wait({ending, having}, timeout=_USE_S, return_when=asyncio.FIRST_COMPLETED)
        for task in (ending, having):
            task.cancel()
        del self._using[serial]

    async def tell(self, line: bytes) -> None:
        """Say one line to the process there is now."""
        if self._process and self._process.stdin:
            with suppress(ConnectionError):  # It has ended; its successor has what it needs.
                self._process.stdin.write(line)
                await self._process.stdin.drain()

    async def _watch(self, process: asyncio.subprocess.Process) -> int:
        await self.tell(self.line + b"\n")
        while process.stdout and (said := await process.stdout.readline()):
            self._heard(said)
        return await process.wait()

    def _heard(self, said: bytes) -> None:
        match said.split():
            case [b"ready"]:
                self.ready.set()
            case [b"using", number] if int(number) in self._using:
                self._using[int(number)].set()
            case [b"reload" | b"standby" as wish, number]:
                self._ask(self, wish.decode(), int(number))
            case _:
                self._notify(said.decode(errors="replace").rstrip())


class Workers:
    """All workers of one serve."""

    def __init__(self, command: WorkerCommand, count: int, notify: Notify, ask: Ask) -> None:
        self._workers = [Worker(command, number, notify, ask) for number in range(1, count + 1)]
        self._serial = 0
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Start all processes; none serves before `serve`."""
        self._processes = [await worker.start() for worker in self._workers]

    async def use(self, line: bytes) -> None:
        """Have all of them use other settings. Returns when they do."""
        self._serial += 1
        await asyncio.gather(*(worker.use(self._serial, line) for worker in self._workers))

    async def serve(self, line: bytes, all_ready: Callable[[], None]) -> None:
        """Let them serve with `line`, call `all_ready` when they do; only returns by an error or cancellation.

        Raises:
            WorkerFailed: one never became ready.
        """
        with first_error():
            async with asyncio.TaskGroup() as group:
                for worker, process in zip(self._workers, self._processes, strict=True):
                    worker.line = line
                    group.create_task(worker.serve(process))
                for worker in self._workers:
                    await worker.ready.wait()
                all_ready()

    async def stop(self, forced: asyncio.Event) -> None:
        """Stop all of them at the same time."""
        await asyncio.gather(*(worker.stop(forced) for worker in self._workers))


@contextmanager
def first_error() -> Generator[None]:
    """Of a task group's errors, the first: the others are its consequences."""
    try:
        yield
    except ExceptionGroup as several:
        raise several.exceptions[0] from several


@asynccontextmanager
async def running_workers(
    command: WorkerCommand, count: int, *, notify: Notify, ask: Ask, forced: asyncio.Event
) -> AsyncGenerator[Workers]:
    """`count` started workers; at the end of the block they finish their requests, unless `forced` is set."""
    workers = Workers(command, count, notify, ask)
    try:
        await workers.start()
        yield workers
    finally:
        await workers.stop(forced)


async def end_leftovers(run_dir: Path) -> None:
    """Wait for workers that a killed parent left: they may hold the port, though the kernel told them to stop."""
    for record in _records(run_dir):
        await leftover.ended(record, signal.SIGTERM, grace_s=2.0)


def _records(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("worker-*.pid"))
