"""A process that leads a flight, to be killed: each line it is given is a step, each step heard is a line it prints.

Run with the URL of a Redis and the key in hexadecimal digits.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator

from gateway.flights.shared import SharedFlights
from storage.entry import Chunk
from storage.flights import board
from storage.flights.record import Wanted
from tests.suites.replicas import TIMING


async def main(url: str, key: bytes) -> None:
    """Lead until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def steps() -> AsyncGenerator[Chunk]:
        print("asked", flush=True)
        while line := (await reader.readline()).decode().removesuffix("\n"):
            yield Chunk(content=line)

    redis_flights = board.connect(url, lambda *_: None, TIMING)
    flights = SharedFlights(redis_flights)
    joined = await flights.join(Wanted(key=key), steps)
    async for step in joined.steps:
        print(step.content, flush=True)
    await flights.aclose()
    await redis_flights.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], bytes.fromhex(sys.argv[2])))
