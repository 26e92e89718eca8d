"""A plan comes in; its servers and workers are started together, watched, and stopped in order."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from typing import TYPE_CHECKING

from gateway.config import encoded
from gateway.supervisor.plan import Prepare, ServePlan
from gateway.supervisor.progress import Progress
from gateway.supervisor.reloading import Reloading, check_scripts
from gateway.supervisor.workers import Worker, WorkerCommand, Workers, end_leftovers, running_workers
from storage.embedded.folder import DataFolder, claimed
from storage.errors import AskonceError

if TYPE_CHECKING:
    from gateway.supervisor.standing import Standing

_BACKLOG = 2048


class CannotListen(AskonceError):
    """The port cannot be listened on."""


async def serve(plan: ServePlan, *, prepare: Prepare) -> int:
    """`gateway.supervisor.serve`, which says what it does."""
    forced = asyncio.Event()
    run = _Serving(plan, prepare, forced)
    serving = asyncio.create_task(run.run())
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if not serving.cancelling():
            serving.cancel()
        elif number == signal.SIGINT:
            forced.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, run.reloading.signalled)
    try:
        await asyncio.wait([serving])
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
    if not serving.cancelled():
        serving.result()  # Raises what went wrong; it never ends by itself otherwise.
    return 0


class _Serving:
    """One run of a plan. Being cancelled is how it is stopped, at any point of the start too."""

    def __init__(self, plan: ServePlan, prepare: Prepare, forced: asyncio.Event) -> None:
        self._plan = plan
        self._prepare = prepare
        self._forced = forced
        self._progress = Progress()
        self.reloading = Reloading(plan, self._progress)
        self._standing: Standing | None = None

    async def run(self) -> None:
        """Start, serve, and stop in the reverse order."""
        config = self._plan.config
        check_scripts(config)
        async with AsyncExitStack() as stack:
            stack.callback(self._progress.close)
            folder = stack.enter_context(claimed(config.folder()))
            self._progress.step("folder", str(folder.root))
            await end_leftovers(folder.run)
            listener = stack.enter_context(closing(_listen(config.host, config.port)))
            port: int = listener.getsockname()[1]
            self._progress.step("port", f"{config.host}:{port}")
            # Entered before the workers, to be left after them.
            servers = await stack.enter_async_context(AsyncExitStack())
            workers = await stack.enter_async_context(self._workers(folder, listener))
            # Imported now, while the workers do their own importing.
            from gateway.supervisor.servers import Servers  # noqa: PLC0415

            started = Servers(config, folder, self._prepare, self._progress)
            self._standing = started.standing
            services = await started.start(servers)

            def ready() -> None:
                self.reloading.started(workers, services)
                self._progress.step("workers", f"{config.workers} ready")
                self._progress.summary(self._plan, services, port=port, folder=folder.root)

            try:
                await workers.serve(encoded(services.wired(config)), ready)
            finally:
                # Or new connections would wait in its queue for workers that accept no more.
                listener.close()
                self._progress.step("stopping", "open requests may finish; Ctrl-C again ends them")

    def _asked(self, worker: Worker, wish: str, number: int) -> None:
        if wish == "reload":
            self.reloading.asked(worker, number)
        elif self._standing:
            self._standing.asked(worker, number)

    def _workers(self, folder: DataFolder, listener: socket.socket) -> AbstractAsyncContextManager[Workers]:
        command = WorkerCommand(
            argv=self._plan.worker_argv,
            listener_fd=listener.fileno(),
            run_dir=folder.run,
            drain_s=self._plan.config.drain_s,
        )
        return running_workers(
            command,
            self._plan.config.workers,
            notify=self._progress.notice,
            ask=self._asked,
            forced=self._forced,
        )


def _listen(host: str, port: int) -> socket.socket:
    """The socket that all workers accept from."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as refused:
        if refused.errno == errno.EADDRINUSE:
            raise CannotListen(f"Port {port} on {host} is already in use: choose another --port.") from refused
        raise CannotListen(f"Cannot listen on {host}, port {port}: {refused.strerror or refused}.") from refused
