"""A server with vLLM's API that counts: one replica. It does as it is told: answers, hangs, or sends nonsense.

Run with a port, the name of its weights, how many requests it answers at once, and how many seconds it takes to the
first step and between two.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable

from tests.kills import counting
from tests.kills.model import events

Peer = asyncio.StreamWriter
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def replied(status: str, content: bytes, kind: str = "application/json", more: str = "") -> bytes:
    """A whole reply."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}content-length: {len(content)}\r\nconnection: close"
    return head.encode() + b"\r\n\r\n" + content


class Model:
    """What this process is told to be."""

    def __init__(self, weights: str, slots: int, first_s: float, step_s: float) -> None:
        self.mode = "well"
        self.calls = 0
        self._weights = weights
        self._slots = asyncio.Semaphore(slots)
        self._first_s, self._step_s = first_s, step_s

    async def serve(self, reader: asyncio.StreamReader, writer: Peer) -> None:
        """One connection, one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.lower().split("\r\n")
            length = next((line.split(":")[1] for line in lines if line.startswith("content-length:")), "0")
            await self._answer(head.split(" ")[1], (await reader.readexactly(int(length))).decode(), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, body: str, writer: Peer) -> None:
        if path == "/be":
            self.mode = body
            writer.write(replied("200 OK", b"{}"))
        elif path == "/calls":
            writer.write(replied("200 OK", str(self.calls).encode()))
        elif self.mode == "deaf":
            await asyncio.Event().wait()
        elif path == "/version":
            writer.write(replied("200 OK", b'{"version": "0.1"}'))
        elif path == "/v1/models":
            writer.write(replied("200 OK", json.dumps({"data": [{"id": "m", "root": self._weights}]}).encode()))
        elif path == "/metrics":
            writer.write(replied("404 Not Found", b"{}"))
        elif path == "/v1/completions":  # what the operator calls the weights is said with these only
            said = {"choices": [{"text": ""}], "system_fingerprint": self._weights}
            writer.write(replied("200 OK", json.dumps(said).encode()))
        else:
            self.calls += 1
            number = counting.number_in(body)
            await MODES.get(self.mode, _nonsense)(self, number, writer)

    async def well(self, number: int, writer: Peer) -> None:
        """Count."""
        async with self._slots:
            await asyncio.sleep(self._first_s)
            writer.write(STREAM)
            for piece in events(number):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self._step_s)

    async def half(self, number: int, writer: Peer) -> None:
        """End in the middle of the first event."""
        writer.write(STREAM + events(number)[0][:-9])

    async def stuck(self, number: int, writer: Peer) -> None:
        """Say the first steps, and then nothing."""
        writer.write(STREAM + b"".join(events(number)[:3]))
        await writer.drain()
        await asyncio.Event().wait()


async def _nonsense(model: Model, number: int, writer: Peer) -> None:
    writer.write(NONSENSE[model.mode])


async def _hang(model: Model, number: int, writer: Peer) -> None:
    await asyncio.Event().wait()


async def _loris(model: Model, number: int, writer: Peer) -> None:
    """One byte after the other, none of which ever makes an event."""
    writer.write(STREAM)
    for byte in itertools.cycle(b": still thinking\n"):
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.02)


async def _slow_head(model: Model, number: int, writer: Peer) -> None:
    """A head that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for count in itertools.count():
        writer.write(b"x-%d: y\r\n" % count)
        await writer.drain()
        await asyncio.sleep(0.02)


MODES: dict[str, Callable[[Model, int, Peer], Awaitable[None]]] = {
    "well": Model.well,
    "half": Model.half,
    "stuck": Model.stuck,
    "hang": _hang,
    "loris": _loris,
    "slow head": _slow_head,
}
NONSENSE = {
    "html": replied("200 OK", b"<html><body>Welcome</body></html>", "text/html"),
    "garbage": bytes(range(256)) * 8,
    "half json": replied("200 OK", b'{"choices": [{"index": 0, "mess', "application/json"),
    "error with 200": replied("200 OK", b'{"error": {"message": "out of memory", "code": 500}}'),
    "error event": STREAM + b'data: {"error": {"message": "out of memory", "code": 500}}\n\ndata: [DONE]\n\n',
    "nothing": b"",
    "empty stream": STREAM + b"data: [DONE]\n\n",
    "500": replied("500 Internal Server Error", b'{"error": {"message": "oops"}}'),
    "503": replied("503 Service Unavailable", b'{"error": {"message": "busy"}}'),
    "401": replied("401 Unauthorized", b'{"error": "Unauthorized"}'),
    "404": replied("404 Not Found", b'{"error": {"message": "no such model"}}'),
    "storm": replied("429 Too Many Requests", b'{"error": {"message": "slow down"}}', more="retry-after: 1\r\n"),
    "400": replied("400 Bad Request", b'{"error": {"message": "no such parameter", "param": "oops"}}'),
}


async def main(port: int, weights: str, slots: int, first_s: float, step_s: float) -> None:
    """Serve for ever."""
    model = Model(weights, slots, first_s, step_s)
    server = await asyncio.start_server(model.serve, "127.0.0.1", port, backlog=512)
    print("up", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])))
