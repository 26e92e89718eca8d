"""A gateway that is searched, and a model that embeds: what means the same is near, whatever the words."""

from collections.abc import Sequence
from typing import Any, Final

import httpx

from gateway.canonical import Request, Vector
from storage.vector import packed
from tests.acceptance.in_thread import Gateway

MEANINGS: Final[tuple[frozenset[str], ...]] = tuple(
    frozenset(words.split())
    for words in (
        "car automobile vehicle engine",
        "doctor physician clinic patient medicine",
        "money price invoice payment bill",
        "rain weather snow storm",
        "dog cat animal pet",
        "password login account secret",
    )
)


class Meaning:
    """Embeds a text as how much it says of each of a few things."""

    def __init__(self, gateway: Gateway) -> None:
        self.asked: list[str] = []
        gateway.backend.embed = self.embed

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """The vectors."""
        return [self._vector(str(request.prompt["input"])) for request in requests]

    def _vector(self, text: str) -> Vector:
        self.asked.append(text)
        words = [word.strip(".,:;?!#").lower() for word in text.split()]
        values = [0.01 + sum(word in meaning for word in words) for meaning in MEANINGS]
        length = sum(value * value for value in values) ** 0.5
        return Vector(packed([value / length for value in values]), len(words))


def keep(gateway: Gateway, text: str, headers: dict[str, str] | None = None, **metadata: Any) -> str:
    """The id of a document that is kept now."""
    body = {"text": text, "metadata": metadata}
    reply = httpx.post(f"{gateway.url}/v1/documents", json=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


def search(gateway: Gateway, query: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    """The reply to a search."""
    return httpx.post(f"{gateway.url}/v1/search", json={"query": query, **fields}, headers=headers, timeout=60)


def found(gateway: Gateway, query: str, **fields: Any) -> list[Any]:
    """What a search finds, the best first."""
    reply = search(gateway, query, **fields)
    assert reply.status_code == 200, reply.text
    return reply.json()["data"]
