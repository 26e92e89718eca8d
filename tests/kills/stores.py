"""What the stores hold, and what is wrong with it."""

import json

import asyncpg
import redis.asyncio

from storage import entry as entries
from storage.entry import Entry
from storage.redis import PREFIX
from tests.kills import counting
from tests.kills.askers import counts


async def in_redis(url: str) -> list[str]:
    """For each entry of a Redis what is wrong with it; empty where nothing is."""
    async with redis.asyncio.Redis.from_url(url) as client:
        names = [name async for name in client.scan_iter(PREFIX + b"*", count=1000)]
        kept = await client.mget(names) if names else []
    return [fault(entries.opened(data)) for data in kept]


async def not_passing_by(url: str) -> list[bytes]:
    """Everything in a Redis that is there for ever."""
    async with redis.asyncio.Redis.from_url(url) as client:
        return [name async for name in client.scan_iter(count=1000) if await client.ttl(name) == -1]


async def in_postgres(url: str) -> list[str]:
    """For each row of the record what is wrong with it; empty where nothing is."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select * from askonce.completions")
    finally:
        await connection.close()
    return [row_fault(row) for row in rows]


def fault(entry: Entry) -> str:
    """What is wrong with an entry."""
    number = counting.number_in(entry.query.prompt)
    right = (
        [step.content for step in entry.chunks if step.content] == counting.steps(number)
        and entry.finish_reason() == "stop"
        and (entry.usage.prompt_tokens, entry.usage.completion_tokens) == counts(number)
    )
    return "" if right else f"{number}: {entry.text()!r} {entry.finish_reason()} {entry.usage}"


def row_fault(row: asyncpg.Record) -> str:
    """What is wrong with a row, in what is replayed and in what is queried."""
    number = counting.number_in(row["prompt"])
    steps = counting.steps(number)
    right = (
        [step.content for step in entries.decode_steps(row["steps"]) if step.content] == steps
        and row["text"] == json.loads(row["message"])[0]["content"] == counting.answer(number)
        and [length for length in row["step_lengths"] if length] == [len(step) for step in steps]
        and row["finish_reason"] == "stop"
        and (row["prompt_tokens"], row["completion_tokens"]) == counts(number)
    )
    return "" if right else f"{number}: {row['text']!r} {row['finish_reason']}"
