"""Views for people: messages of prompts and answers, and what keeping answers has saved."""

import asyncio
import json
from typing import Any

import asyncpg
import msgspec
from hypothesis import given, settings

from gateway import jcs
from storage import rows, sql
from storage.entry import Chunk, Encoded, Entry, Usage
from tests.suites.entries import ENTRIES, made


def asked(name: str, kind: str, prompt: dict[str, Any], *chunks: Chunk) -> Entry:
    """An answer to a prompt."""
    item = msgspec.structs.replace(made(name), chunks=chunks or made(name).chunks)
    query = msgspec.structs.replace(item.query, kind=kind, prompt=jcs.dumps(prompt).decode())
    return msgspec.structs.replace(item, query=query)


async def kept(url: str, *items: Entry) -> asyncpg.Connection:
    """A connection to a database with these answers."""
    connection = await asyncpg.connect(url)
    await keep(connection, *items)
    return connection


async def keep(connection: asyncpg.Connection, *items: Entry) -> None:
    """As the tier does it."""
    columns = zip(*(rows.row(Encoded.of(item)) for item in items), strict=True)
    await connection.execute(sql.query("completion_put"), *map(list, columns))


async def test_messages_are_rows(database_url: str) -> None:
    """The prompt's in their order, then what each choice said; text of parts is joined, and images are in the whole."""
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    chat = [{"role": "system", "content": "be \\u0000 \x00"}, {"role": "user", "content": parts}, {"role": "tool"}]
    chunks = (Chunk(content="x\x00"), Chunk(content="y", index=1, tool_calls=(call,)))
    chatted = asked("chat", "chat", {"messages": chat}, *chunks)
    completed = asked("complete me", "completion", {"prompt": "complete me"}, Chunk(content="done"))
    connection = await kept(database_url, chatted, completed, asked("embed me", "embedding", {"input": "embed me"}))
    columns = "part, place, choice, role, content, tool_calls, message"
    query = f"select {columns} from api.messages where key = $1 order by place, choice"
    found, plain = [
        [tuple(row) for row in await connection.fetch(query, one.query.key.hex())] for one in (chatted, completed)
    ]
    assert await connection.fetchval("select count(distinct key) from api.messages") == 2
    await connection.close()
    assert [row[:5] for row in found] == [
        ("prompt", 0, None, "system", "be \\u0000 \u2400"),
        ("prompt", 1, None, "user", "a\nb"),
        ("prompt", 2, None, "tool", None),
        ("answer", 3, 0, "assistant", "x\u2400"),
        ("answer", 3, 1, "assistant", "y"),
    ]
    assert [row[:5] for row in plain] == [
        ("prompt", 0, None, None, "complete me"),
        ("answer", 1, 0, "assistant", "done"),
    ]
    assert [json.loads(row[5]) for row in found if row[5]] == [[call]]
    assert json.loads(found[1][6])["content"] == parts


@given(ENTRIES)
@settings(max_examples=60)
def test_no_answer_is_too_odd_to_be_shown(shared_database_url: str, item: Entry) -> None:
    """Whatever a model says, the messages of all others can still be asked for."""

    said = [{"role": "user", "content": chunk.content} for chunk in item.chunks]
    prompt = jcs.dumps({"messages": said}).decode()
    odd = msgspec.structs.replace(item, query=msgspec.structs.replace(item.query, kind="chat", prompt=prompt))

    async def shown() -> None:
        connection = await asyncpg.connect(shared_database_url)
        transaction = connection.transaction()
        await transaction.start()
        await keep(connection, odd)
        found = await connection.fetch("select content from api.messages where part = 'prompt' order by place")
        assert [row["content"] for row in found] == [chunk.content.replace("\0", "\u2400") for chunk in item.chunks]
        answers = await connection.fetch("select * from api.messages where part = 'answer'")
        assert len(answers) == len({chunk.index for chunk in item.chunks})
        await transaction.rollback()
        await connection.close()

    asyncio.run(shown())


async def test_savings_are_what_was_not_done_again(database_url: str) -> None:
    """Tokens and cost are counted; a model's time is told by what its kept answers took."""
    answer = made("a", usage=Usage(10, 20, None, 300), duration_ms=2000.0)
    connection = await kept(database_url, answer)
    model, minute = answer.query.model, 29_000_000
    columns = [("generated", 1, 10, 20, 300), ("hit", 3, 30, 60, 900), ("coalesced", 1, 10, 20, 300)]
    for cache, requests, read, told, cost in columns:
        values = ([minute], ["default"], [model], ["chat"], [cache], [requests], [read], [told], [cost])
        await connection.execute(sql.query("usage_put"), *values)
    [row] = await connection.fetch("select * from api.savings")
    await connection.close()
    assert (row["requests"], row["hits"], row["coalesced"]) == (5, 3, 1)
    assert (row["saved_prompt_tokens"], row["saved_completion_tokens"], row["saved_micro_usd"]) == (40, 80, 1200)
    assert (row["saved_model_ms"], str(row["day"])) == (8000, "2025-02-19")
