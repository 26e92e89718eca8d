"""A gateway served over HTTP by a thread of the test's own process: its backend can be watched, its parts looked at."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import openai
import uvicorn

from gateway import building
from gateway.app import Application
from gateway.backends.scripted import Scripted
from gateway.canonical import Request
from gateway.config import BackendConfig, Config
from gateway.protocol import FastProtocol
from storage.entry import Chunk

MODEL = "parrot"
START_S = 20.0


class _Server(uvicorn.Server):
    """Tells when it serves."""

    def __init__(self, config: uvicorn.Config, up: threading.Event) -> None:
        super().__init__(config)
        self._up = up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()


class Watched(Scripted):
    """A scripted backend that tells how each of its calls ended."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ends: list[str] = []
        self.ended = threading.Event()
        self.hold_after: int | None = None
        """After so many steps it says nothing more, until it is cancelled or this is None again."""
        self.held = False

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer, and write down whether the answer was heard to its end."""
        end = "cancelled"
        self.ended.clear()
        try:
            async with aclosing(super().complete(request)) as steps:
                count = 0
                async for step in steps:
                    yield step
                    count += 1
                    while count == self.hold_after:  # a test's own thread changes it
                        self.held = True
                        await asyncio.sleep(0.01)
            end = "complete"
        except Exception:
            end = "failed"
            raise
        finally:
            self.ends.append(end)
            self.ended.set()


class Gateway:
    """One running gateway."""

    def __init__(
        self, url: str, application: Application, loop: asyncio.AbstractEventLoop, server: uvicorn.Server
    ) -> None:
        self.url = url
        self.application = application
        self.parts = parts = application.parts
        self.backend: Any = parts.router.model(MODEL).replicas[0].backend
        self._loop = loop
        self._server = server

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def client(self) -> openai.OpenAI:
        """OpenAI's client for it, which asks once."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=30)

    def stop(self) -> None:
        """Have it end what it has begun, and stop."""
        self._server.should_exit = True

    def flushed(self) -> None:
        """Wait until every tier has what it was given, and what is ready has been counted."""

        async def settle() -> None:
            self.parts.shelf.settle()

        self.run(settle())
        for writer in (*self.parts.tiers._writers, self.parts.prepared.kept.writer):
            assert self.run(writer.flush(10)), "a tier did not take its entries"

    def run(self, doing: Any) -> Any:
        """Run a coroutine where the gateway runs."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(15)

    @classmethod
    @contextmanager
    def serving(cls, script: Path, settings: Mapping[str, Any]) -> Iterator["Gateway"]:
        """Serve until the block ends. `backends` among the settings come beside the scripted one."""
        backend = BackendConfig(kind="scripted", model=MODEL, script=script)
        backends = (backend, *settings.get("backends", ()))
        application = Application(Config(**{**settings, "backends": backends}))
        up = threading.Event()
        server = _Server(
            uvicorn.Config(application, http=FastProtocol, lifespan="on", log_level="warning", access_log=False), up
        )
        found: dict[str, Any] = {}
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=_serve, args=(server, listening, found, up), daemon=True)
            with _watched_backends():
                thread.start()
                assert up.wait(START_S), "the gateway did not start"
            assert "error" not in found, found["error"]
            try:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                yield cls(url, application, found["loop"], server)
            finally:
                server.should_exit = True
                thread.join(START_S)
                assert not thread.is_alive(), "the gateway did not stop"


def _serve(server: uvicorn.Server, listening: socket.socket, found: dict[str, Any], up: threading.Event) -> None:
    async def main() -> None:
        found["loop"] = asyncio.get_running_loop()
        await server.serve(sockets=[listening])

    try:
        asyncio.run(main())
    except BaseException as error:
        found["error"] = error
        raise
    finally:
        up.set()


@contextmanager
def _watched_backends() -> Iterator[None]:
    """Have the composition root build watched backends instead of plain scripted ones."""
    plain = building.BUILD["scripted"]

    def build(config: BackendConfig, files: object = None) -> Watched:
        del files
        made: Any = plain(config)
        return Watched(made.name, made._script)

    building.BUILD["scripted"] = build
    try:
        yield
    finally:
        building.BUILD["scripted"] = plain


def completed(reply: Any) -> Any:
    """A raw HTTP reply's JSON."""
    return msgspec.json.decode(reply.content)
