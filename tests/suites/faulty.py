"""A server that misbehaves on the wire, byte by byte: for everything a real one does only when it breaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection, after its request has been read."""

    def __init__(self, request: tuple[str, bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, self.body = request
        first, *lines = head.strip().split("\r\n")
        self.path = first.split(" ")[1]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._reader = reader
        self._writer = writer

    async def say(self, data: str | bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data.encode() if isinstance(data, str) else data)
        await self._writer.drain()

    async def head(self, status: str = "200 OK", kind: str = "text/event-stream", *, chunked: bool = False) -> None:
        """Send a status line and headers; the body ends with the connection, or in chunks."""
        how = "transfer-encoding: chunked" if chunked else "connection: close"
        await self.say(f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{how}\r\n\r\n")

    async def chunk(self, text: str) -> None:
        """Send one chunk of a chunked body."""
        data = text.encode()
        await self.say(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def silence(self) -> None:
        """Say nothing until the other side has gone."""
        while await self._reader.read(65536):
            pass


class Faulty:
    """A listening server, and how often it was asked and left."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0
        self.left = asyncio.Event()


@asynccontextmanager
async def faulty(script: Script) -> AsyncIterator[Faulty]:
    """Serve `script` to everyone until the block ends."""
    found = Faulty()
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            request = await _request(reader)
            found.asked += request[0].startswith("POST ")  # and not how it is
            await script(Peer(request, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            found.left.set()
            writer.close()
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    found.url = f"http://{host}:{port}"
    try:
        yield found
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(
        (line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length:")), "0"
    )
    return head, await reader.readexactly(int(length))
