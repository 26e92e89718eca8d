"""One kept answer and numbers in; rows out, as the gateway keeps its answers to questions of these numbers."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from math import gcd
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from gateway import key
from gateway.bench.load import NUMBER
from gateway.bench.processes import BenchError
from gateway.canonical import Identity, Request
from gateway.wire import openai_chat
from storage.entry import Encoded, Entry, Query
from storage.postgres import PostgresTier

_MOULD: Final = 9_876_543_210
"""The number of the question that is really asked."""
_COPIED: Final = 5000
"""Rows in one COPY."""
_AT_ONCE: Final = 2
_CHECKED: Final = 1000
"""Every so many rows one is made the long way, too."""
_STRIDE: Final = (5**0.5 - 1) / 2
"""Of all places, from one to the next: far, and back to where it was only after all of them."""
_STEP: Final = timedelta(seconds=1)
"""From one answer to the next: so long that few grow too old while a policy takes others away."""
_AGO: Final = timedelta(days=30)


class Database(Protocol):
    """A connection or a pool."""

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """One row, or None."""
        ...


class Part(msgspec.Struct, frozen=True):
    """Numbers from `first` up to, and without, `end`. Answers are made in their order in the older half; in the younger
    one, questions that follow each other lie far apart on the disk.
    """

    first: int
    end: int

    @property
    def middle(self) -> int:
        """The first number of the younger half."""
        return (self.first + self.end) // 2

    def numbers(self) -> Iterator[int]:
        """All of them, in the order in which they are kept."""
        yield from range(self.first, self.middle)
        size = self.end - self.middle
        stride = next((step for step in range(int(size * _STRIDE), size) if gcd(step, size) == 1), 1)
        for place in range(size):
            yield self.middle + place * stride % size


class Mould:
    """What all rows have in common, and how each differs from the others."""

    def __init__(self, row: dict[str, Any], body: str) -> None:
        """`row` answers the question that `body` has with the number of the mould."""
        self._row = row
        self._body = body
        self._identity = Identity(row["engine"], row["engine_version"], row["model_version"])
        self._request = self._asked(_MOULD)
        query, number = self.query(_MOULD), f"{_MOULD:010}"
        if query.key != row["key"]:
            raise BenchError("The gateway names its questions in another way than the generator.")
        self._prompt, self._text = query.prompt.split(number), query.text.split(number)
        self._params = query.params.encode()

    def query(self, number: int) -> Query:
        """The name of a question, made as the gateway makes it."""
        return key.query(self._asked(number), self._row["scope"], self._identity)

    def row(self, number: int, created_at: datetime) -> tuple[Any, ...]:
        """The row of its answer. Its name is made the short way: of what is hashed only the prompt differs."""
        digits = f"{number:010}"
        prompt = digits.join(self._prompt)
        prompt_hash = sha256(prompt.encode()).digest()
        named = key.parts(self._request, self._row["scope"], self._identity, prompt_hash, self._params)
        own = {
            "key": key.digest(value for _, value in named),
            "prompt_hash": prompt_hash,
            "prompt": prompt,
            "prompt_text": digits.join(self._text),
            "origin_id": f"chatcmpl-{digits}",
            "created_at": created_at,
            "stored_at": created_at,
        }
        if number % _CHECKED == 0 and self.query(number).key != own["key"]:
            message = f"Question {number} has another name than its row."
            raise BenchError(message)
        return tuple({**self._row, **own}.values())

    def columns(self) -> list[str]:
        """What the values of a row are called."""
        return list(self._row)

    def _asked(self, number: int) -> Request:
        return openai_chat.decode(numbered(self._body, number).encode())


def question(model: str) -> str:
    """The body of a request of ordinary length that nobody has sent yet, with a place for its number."""
    words = (
        f"Question {secrets.token_hex(4)}-{NUMBER}: what does a gateway do that keeps the answers it has been given?"
    )
    messages = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": words}]
    asked = {"model": model, "messages": messages, "max_tokens": 16, "temperature": 0}
    return msgspec.json.encode(asked).decode()


def numbered(body: str, number: int) -> str:
    """The question of this number."""
    return body.replace(NUMBER, f"{number:010}")


def first(body: str) -> dict[str, Any]:
    """The question that makes the mould."""
    return msgspec.json.decode(numbered(body, _MOULD))


async def mould(database: Database, body: str, deadline_s: float = 20.0) -> Mould:
    """Of the answer to `first(body)`, once it is kept. Raises `BenchError` when it is not."""
    marked = f"%{f'{_MOULD:010}'}%"
    async with asyncio.timeout(deadline_s):
        while (row := await _last(database, marked)) is None:  # noqa: ASYNC110 -- the database has no event for it
            await asyncio.sleep(0.05)
    return Mould(dict(row), body)


async def fill(dsn: str, made: Mould, part: Part, progress: Callable[[str], None]) -> None:
    """Add the rows of `part`, one made a while after the other, all of them before the mould."""
    rest = zip(part.numbers(), range(part.first, part.end), strict=True)
    begin = datetime.now().astimezone() - _AGO

    async def copied() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            while batch := list(islice(rest, _COPIED)):
                records = [made.row(number, begin + _STEP * place) for number, place in batch]
                await connection.copy_records_to_table(
                    "completions", schema_name="askonce", columns=made.columns(), records=records
                )
                progress(f"{batch[-1][1] + 1} answers are kept")
        finally:
            await connection.close()

    await asyncio.gather(*(copied() for _ in range(_AT_ONCE)))


async def entries(pool: asyncpg.Pool, made: Mould, numbers: Sequence[int]) -> list[Encoded]:
    """What the gateway would give its writer to keep as answers to other questions."""
    (held,) = await PostgresTier(pool).get((made.query(_MOULD).key,))
    if held is None:
        raise BenchError("The answer that others are made of is gone.")
    return [Encoded.of(_renamed(held.entry, made.query(number))) for number in numbers]


def _renamed(entry: Entry, query: Query) -> Entry:
    return msgspec.structs.replace(entry, query=query)


async def _last(database: Database, marked: str) -> Any:
    return await database.fetchrow("select * from askonce.completions where prompt_text like $1", marked)
