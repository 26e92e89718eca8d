"""A job (whom to ask what, how many at once) in on stdin, counts and times out on stdout: the generator's own process.

A bare HTTP/1.1 client: it must cost much less than the servers it measures, and it reads only what it needs to know
where a reply ends and whether it is the one expected.
"""

import asyncio
import gc
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_CHUNKED_END = b"0\r\n\r\n"
_REPLY_TIMEOUT_S = 60.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. `address` is `host:port` or the path of a unix socket."""

    address: str
    path: str
    body: str
    """JSON; `@@@@@@@@@@` in it is replaced by a number that no other request of the run has."""
    concurrency: int = 1
    seconds: float = 1.0
    most: int = 1_000_000_000
    """Stop after so many requests, when that is sooner."""
    first_number: int = 0
    expect: str = ""
    """A header line that every reply must have."""
    headers: dict[str, str] = {}
    """Further ones of each request, such as a key."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Times are in milliseconds; the first byte is that of the body."""

    requests: int
    failed: int
    """Replies that were not 200, lacked the expected header, or never came."""
    seconds: float
    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    last_failure: str = ""

    @property
    def per_second(self) -> float:
        """Throughput."""
        return self.requests / self.seconds


NUMBER = "@" * 10


class _Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._body_at = -1
        self._length: int | None = None
        self._done: asyncio.Future[None] | None = None
        self.first_at = 0.0

    @property
    def usable(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("closed before the reply ended"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._body_at < 0:
            self._body_at = self._received.find(b"\r\n\r\n") + 4
            if self._body_at < 4:
                self._body_at = -1
                return
            length = _LENGTH.search(self._received, 0, self._body_at)
            self._length = int(length[1]) if length else None
        if not self.first_at and len(self._received) > self._body_at:
            self.first_at = time.perf_counter()
        if self._ended() and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def ask(self, request: bytes) -> bytes:
        """Send `request`; the head of its reply, once all of it has come."""
        if self._transport is None:
            raise ConnectionResetError("closed before the request was sent")
        self._received, self._body_at, self._length, self.first_at = bytearray(), -1, None, 0.0
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done
        return bytes(self._received[: self._body_at])

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _ended(self) -> bool:
        if self._length is not None:
            return len(self._received) - self._body_at >= self._length
        return self._received.endswith(_CHUNKED_END)


class _Run:
    """One job being done."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._requests = _requests(job)
        self._started = time.perf_counter()
        self.times: list[float] = []
        self.first_times: list[float] = []
        self.failures: list[str] = []

    async def client(self) -> None:
        """One client: asks, waits for the reply, asks again."""
        connection = await _connect(self._job.address)
        while self._goes_on() and (request := next(self._requests, None)) is not None:
            try:
                if not connection.usable:
                    connection = await _connect(self._job.address)
                await self._ask(connection, request)
            except (OSError, TimeoutError) as error:
                self.failures.append(repr(error))
                connection.close()
                connection = await _connect(self._job.address)
        connection.close()

    def result(self) -> Result:
        """What came of it so far."""
        return Result(
            requests=len(self.times),
            failed=len(self.failures),
            seconds=time.perf_counter() - self._started,
            p50_ms=quantile(self.times, 0.5) * 1000,
            p99_ms=quantile(self.times, 0.99) * 1000,
            first_p50_ms=quantile(self.first_times, 0.5) * 1000,
            last_failure=self.failures[-1] if self.failures else "",
        )

    async def _ask(self, connection: _Connection, request: bytes) -> None:
        started = time.perf_counter()
        async with asyncio.timeout(_REPLY_TIMEOUT_S):
            head = await connection.ask(request)
        self.times.append(time.perf_counter() - started)
        self.first_times.append(connection.first_at - started)
        if _LAST.search(head):  # llama.cpp's server closes every connection after a hundred requests
            connection.close()
        if not head.startswith(b"HTTP/1.1 200") or self._job.expect.encode() not in head:
            self.failures.append(head.decode(errors="replace"))

    def _goes_on(self) -> bool:
        enough = len(self.times) >= self._job.most or len(self.failures) >= 100
        return not enough and time.perf_counter() - self._started < self._job.seconds


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of `values` do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def measured(job: Job) -> Result:
    """Do `job` here and now."""
    run = _Run(job)
    async with asyncio.TaskGroup() as group:
        for _ in range(job.concurrency):
            group.create_task(run.client())
    return run.result()


def _requests(job: Job) -> Iterator[bytes]:
    before, number, after = job.body.partition(NUMBER)
    start, end = before.encode(), after.encode()
    host = "localhost" if job.address.startswith("/") else job.address
    own = "".join(f"{name}: {value}\r\n" for name, value in job.headers.items())
    head = f"POST {job.path} HTTP/1.1\r\nhost: {host}\r\n{own}content-type: application/json\r\ncontent-length: "
    start = f"{head}{len(job.body.encode())}\r\n\r\n".encode() + start
    for count in range(job.first_number, job.first_number + job.most):
        yield start + (b"%010d" % count if number else b"") + end


async def _connect(address: str) -> _Connection:
    loop = asyncio.get_running_loop()
    if address.startswith("/"):
        _, connection = await loop.create_unix_connection(_Connection, address)
    else:
        host, _, port = address.rpartition(":")
        _, connection = await loop.create_connection(_Connection, host, int(port))
    return connection


async def _serve() -> None:
    for line in sys.stdin:
        result = await measured(msgspec.json.decode(line, type=Job))
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        sys.stdout.flush()


def main() -> None:
    """Do one job a line until there are no more."""
    gc.disable()  # A pause of the generator's would be read as one of the server's; what it holds is small.
    uvloop.run(_serve())


if __name__ == "__main__":
    main()
