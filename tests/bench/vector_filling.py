"""A record with as many prompts, passages and vectors as wanted: one tenant has one in a hundred, another one half.

Vectors are drawn around centres, as those of texts about some subjects lie; words as often as words are (Zipf).
"""

import io
import struct
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
import msgspec
import numpy as np
from numpy.typing import NDArray

DIMENSIONS: Final = 384
TENANTS: Final = 100
"""`default` has one in so many; of the others every second one is called `big`."""
CENTRES: Final = 2000
SPREAD: Final = 0.9
"""How far from its centre a vector lies, beside the centre's own length."""
PASSAGES: Final = 10
"""Of a document."""
WORDS: Final = 120
"""Of a passage."""
VOCABULARY: Final = 30_000
_BATCH: Final = 10_000
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_END: Final = struct.pack(">h", -1)
Vectors = NDArray[np.float32]


class Part(msgspec.Struct, frozen=True):
    """Numbers from `first` up to, and without, `end`."""

    first: int
    end: int


class Space:
    """Where vectors are drawn from: the same number has the same vector."""

    def __init__(self, seed: int = 7) -> None:
        self._seed = seed
        self._centres = np.random.default_rng(seed).standard_normal((CENTRES, DIMENSIONS)).astype(np.float32)

    def vectors(self, part: Part) -> Vectors:
        """One for each number, of length 1."""
        random = np.random.default_rng([self._seed, part.first])
        count = part.end - part.first
        drawn = self._centres[random.integers(0, CENTRES, count)]
        drawn = drawn + SPREAD * random.standard_normal((count, DIMENSIONS)).astype(np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    def questions(self, count: int) -> Vectors:
        """Others, drawn in the same way."""
        return self.vectors(Part(2**40, 2**40 + count))


def scope(number: int) -> str:
    """Whose a number is."""
    if number % TENANTS == 0:
        return "default"
    return "big" if number % 2 else f"tenant-{number % TENANTS}"


def _batches(part: Part) -> Iterator[Part]:
    for first in range(part.first, part.end, _BATCH):
        yield Part(first, min(part.end, first + _BATCH))


async def fill(connection: asyncpg.Connection, model_id: int, part: Part, space: Space) -> None:
    """Add the prompts, the documents with their passages, and a vector for each. Raises what asyncpg raises."""
    await connection.execute("set synchronous_commit = off")
    for name in ("queue_prompts", "queue_chunks"):
        table = "completions" if name == "queue_prompts" else "passages"
        await connection.execute(f"alter table askonce.{table} disable trigger {name}")
    for some in _batches(part):
        await connection.execute(_PROMPTS, some.first, some.end - 1, TENANTS)
        await _documents(connection, some)
        vectors = space.vectors(some)
        prompts = await connection.fetch(
            "select key, scope, sha256(convert_to(scope, 'utf8')) from askonce.completions"
            " where origin_id = any ($1::text[]) order by length(origin_id), origin_id",
            [f"filled-{number}" for number in range(some.first, some.end)],
        )
        await _copy(connection, _rows(model_id, "prompt", prompts, vectors), "completion")
        passages = await connection.fetch(
            "select id, tenant, null::bytea from askonce.passages where document_id = any ($1::text[]) order by id",
            [_document(number) for number in range(some.first // PASSAGES, some.end // PASSAGES)],
        )
        await _copy(connection, _rows(model_id, "chunk", passages, vectors), "passage")
    for table, name in (("completions", "queue_prompts"), ("passages", "queue_chunks")):
        await connection.execute(f"alter table askonce.{table} enable trigger {name}")


async def _documents(connection: asyncpg.Connection, part: Part) -> None:
    random = np.random.default_rng([3, part.first])
    documents: list[tuple[Any, ...]] = []
    passages: list[tuple[Any, ...]] = []
    for number in range(part.first // PASSAGES, part.end // PASSAGES):
        texts = [" ".join(f"w{rank}" for rank in _drawn(random)) for _ in range(PASSAGES)]
        whole = "\n\n".join(texts)
        name, tenant = _document(number), scope(number)
        documents.append((name, tenant, struct.pack(">qqqq", 0, 0, 0, number), whole, len(whole)))
        place = 0
        for ordinal, text in enumerate(texts):
            key = struct.pack(">qqqq", 0, 0, number, ordinal)
            passages.append((name, tenant, ordinal, place, place + len(text), key, text))
            place += len(text) + 2
    await connection.executemany(
        "insert into askonce.documents (id, tenant, sha256, text, characters, created_at, passages)"
        " values ($1, $2, $3, $4, $5, now(), 'filled')",
        documents,
    )
    await connection.copy_records_to_table(
        "passages",
        schema_name="askonce",
        records=passages,
        columns=["document_id", "tenant", "ordinal", "start_pos", "end_pos", "key", "text"],
    )


def _drawn(random: np.random.Generator) -> list[int]:
    return (np.minimum(random.zipf(1.2, WORDS), VOCABULARY)).tolist()


def _document(number: int) -> str:
    return f"doc_{number:032x}"


_PROMPTS: Final = """
insert into askonce.completions
  (key, scope, kind, model, model_version, engine, engine_version, backend, prompt_hash, prompt, params, prompt_text,
   text, step_lengths, prompt_tokens, completion_tokens, duration_ms, origin_id, steps, embedding, created_at)
select sha256(convert_to('filled ' || n, 'utf8')), s.scope, 'chat', 'm' || n % 3, 'v', 'e', '1', 'b',
       sha256(convert_to('prompt ' || n, 'utf8')),
       '{"messages":[{"content":"What is ' || n || '?","role":"user"}]}', '{"extra":{},"known":{}}',
       'What is ' || n || '?',
       'It is number ' || n || '. ' || repeat('And so on. ', 20), '{}', 12, 60, 200 + n % 1000, 'filled-' || n, '', '',
       now() - make_interval(secs => n % 2592000)
from generate_series($1::bigint, $2::bigint) n,
  lateral (
    select case when n % $3 = 0 then 'default' when n % 2 = 1 then 'big' else 'tenant-' || n % $3 end as scope
  ) s
"""


def _rows(model_id: int, kind: str, rows: list[Any], vectors: Vectors) -> bytes:
    """Rows in the binary form of COPY."""
    assert len(rows) == len(vectors), (len(rows), len(vectors))
    halves = vectors.astype(">f2")
    out = io.BytesIO()
    out.write(_SIGNATURE)
    head = _field(struct.pack(">i", model_id)) + _field(kind.encode())
    size = struct.pack(">HH", DIMENSIONS, 0)
    for (of, whose, context), half in zip(rows, halves, strict=True):
        named = of if isinstance(of, bytes) else struct.pack(">q", of)
        fields = (
            head,
            _field(whose.encode()),
            _field(named),
            _field(context),
            _field(b"\1"),
            _field(size + half.tobytes()),
        )
        out.write(struct.pack(">h", 7))
        out.write(b"".join(fields))
    out.write(_END)
    return out.getvalue()


def _field(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


async def _copy(connection: asyncpg.Connection, rows: bytes, column: str) -> None:
    await connection.copy_to_table(
        "embeddings",
        schema_name="askonce",
        source=io.BytesIO(rows),
        columns=["model_id", "kind", "scope", column, "context", "whole", "embedding"],
        format="binary",
    )
