"""The backend behind all who are compared: OpenAI's chat completions at once or slowly, and how often it was asked."""

import asyncio
import http.client
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import uvicorn

from gateway.bench import peers, processes
from gateway.bench.processes import BenchError

SLOW: Final = "slow"
"""The model that answers late, so that many ask the same before the first of them has been answered."""
SLOW_S: Final = 2.0
_COUNT_TIMEOUT_S: Final = 30.0
_KEEP_ALIVE_S: Final = 3600
"""Nobody comes back from a pause to a connection that was closed meanwhile."""
_MARK: Final = msgspec.json.encode({"model": SLOW})[1:-1]
_MODELS: Final = msgspec.json.encode(
    {"object": "list", "data": [{"id": name, "object": "model", "root": name} for name in (peers.MODEL, SLOW)]}
)


class Counting:
    """`peers.Instant`, which says at `/count` how many chat completions it was asked for."""

    def __init__(self) -> None:
        self._instant = peers.Instant()
        self._count = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["method"] != "POST":
            content = b"%d" % self._count if scope["path"] == "/count" else _MODELS
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})
            return
        self._count += 1
        first = await receive()
        if _MARK in first.get("body", b""):
            await asyncio.sleep(SLOW_S)

        async def again() -> Any:
            nonlocal first
            message, first = first, None
            return message or await receive()

        await self._instant(scope, again, send)


def asked(address: str) -> int:
    """How many chat completions the backend at `address` was asked for. Raises `BenchError`."""
    connection = http.client.HTTPConnection(address, timeout=_COUNT_TIMEOUT_S)
    try:
        connection.request("GET", "/count")
        return int(connection.getresponse().read())
    except (OSError, http.client.HTTPException) as error:
        raise BenchError("The backend does not say how often it was asked.") from error
    finally:
        connection.close()


@contextmanager
def backend(on: frozenset[int]) -> Generator[str]:
    """The address of a counting backend on the cores `on`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        with processes.running(("-m", "gateway.bench.counting", str(fd)), on=on, fds=(fd,)):
            yield f"127.0.0.1:{listening.getsockname()[1]}"


def main() -> None:
    """Serve on the inherited socket that is named first."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    settings = uvicorn.Config(
        Counting(),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    uvicorn.Server(settings).run(sockets=[listening])


if __name__ == "__main__":
    main()
