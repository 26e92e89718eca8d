"""Entries of every shape, made by hand and by hypothesis."""

import hashlib
from typing import Any

from hypothesis import strategies as st

from storage.entry import Chunk, Entry, Query, Usage
from storage.guard import Tier
from storage.vector import packed

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
INT32 = st.integers(0, 2**31 - 1)
MOMENTS = st.integers(10**15, 3 * 10**15).map(lambda microseconds: microseconds / 1e6)
NUMBERS = st.floats(0, 1e9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=3)
TOKENS = st.none() | st.lists(INT32, max_size=3).map(tuple)
USAGES = st.builds(Usage, INT32, INT32, st.none() | INT32)
CHUNKS = st.builds(
    Chunk,
    index=st.integers(0, 3),
    content=TEXT,
    reasoning=TEXT,
    refusal=TEXT,
    tool_calls=st.lists(OBJECTS, max_size=2).map(tuple),
    logprobs=st.none() | OBJECTS,
    finish_reason=st.none() | st.sampled_from(["stop", "length", "tool_calls"]),
    token_ids=TOKENS,
    prompt_token_ids=TOKENS,
    usage=st.none() | USAGES,
    after_ms=NUMBERS,
)
QUERIES = st.builds(
    Query,
    key=st.binary(min_size=32, max_size=32),
    scope=LINES,
    kind=st.sampled_from(["chat", "completion", "embedding"]),
    model=LINES,
    model_version=LINES,
    engine=LINES,
    engine_version=LINES,
    prompt_hash=st.binary(min_size=32, max_size=32),
    prompt=st.just('{"messages":[]}'),
    params=st.sampled_from(['{"known":{}}', '{"known":{"seed":"-9223372036854775808"}}']),
    text=LINES,
)
ENTRIES = st.builds(
    Entry,
    query=QUERIES,
    origin_id=LINES,
    backend=LINES,
    created_at=MOMENTS,
    duration_ms=NUMBERS,
    chunks=st.lists(CHUNKS, max_size=5).map(tuple),
    embedding=st.binary(max_size=40),
    usage=USAGES,
    epoch=st.integers(0, 2**62),
    tags=st.lists(st.from_regex(r"\A[\w.:/-]{1,64}\Z", alphabet=st.characters(codec="ascii")), max_size=3).map(tuple),
    made_by=LINES,
)


def made(name: str, *contents: str, **fields: Any) -> Entry:
    """A small entry whose key follows from `name`."""
    key = hashlib.sha256(name.encode()).digest()
    query = Query(
        key=key,
        scope="default",
        kind="chat",
        model="m",
        model_version="w",
        engine="e",
        engine_version="1",
        prompt_hash=hashlib.sha256(key).digest(),
        prompt='{"messages":[]}',
        params='{"extra":{},"known":{}}',
        text=name,
    )
    chunks = (*(Chunk(content=content, after_ms=1.5) for content in contents), Chunk(finish_reason="stop"))
    values: dict[str, Any] = {"origin_id": "chatcmpl-1", "backend": "b", "created_at": 1.7e9, "duration_ms": 2.5}
    return Entry(query=query, **(values | {"chunks": chunks, "usage": Usage(3, len(contents))} | fields))


SPECIAL = {
    "nothing": made("nothing"),
    "NUL": made("NUL", "a\x00b", "\x00"),
    "unicode": made("unicode", "é漢😀", "e\u0301", "\u2028\u2029\x85", "\ufffd\ufffe", "\U0010ffff"),
    "control characters": made("controls", "".join(map(chr, range(32))) + "\x7f"),
    "SQL": made("SQL", "'; drop table askonce.completions; --", "\\x00", "$1", "%s"),
    "huge": made("huge", "漢" * 3_000_000),
    "many steps": made("many", *(["x"] * 20_000)),
    "embedding": made("embedding", embedding=packed([0.5, -1e-30, 3e38]), chunks=()),
    "a moment to the microsecond": made("moment", created_at=1_795_305_600.123457),
    "tool call": made(
        "tool",
        chunks=(
            Chunk(tool_calls=({"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":"\x00"}'}},)),
            Chunk(reasoning="hm\x00", refusal="no\x00", finish_reason="tool_calls"),
        ),
    ),
    "choices": made(
        "choices",
        chunks=tuple(Chunk(index=i % 3, content=str(i), token_ids=(i,)) for i in range(9))
        + tuple(Chunk(index=i, finish_reason="length", token_ids=()) for i in range(3)),
    ),
}


async def got(tier: Tier, key: bytes) -> Entry | None:
    """What one tier has under one key; its bytes are those of the entry."""
    (held,) = await tier.get((key,))
    if held is None:
        return None
    assert (held.encoded.key, held.encoded.entry()) == (key, held.entry)
    return held.entry
