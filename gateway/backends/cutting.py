"""A text that is too long to embed -> as many of its first tokens as the server takes, for one that cuts nothing."""

import re
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from gateway.backends import upstream
from gateway.errors import BackendRefused

_LIMIT: Final = re.compile(r"takes at most (\d+) at once|context size \((\d+) tokens\)")


class Server(Protocol):
    """Whose tokens they are. What it raises is a `BackendError`."""

    async def read(self, path: str, content: bytes | None = None) -> bytes:
        """Post JSON; the whole body of the reply."""
        ...


class _Tokens(msgspec.Struct):
    tokens: list[int]


_TOKENS: Final = msgspec.json.Decoder(_Tokens)


def most(refused: BackendRefused) -> int | None:
    """How many tokens the server takes, where that is what it has refused."""
    found = _LIMIT.search(str(refused)) if refused.code == "context_length_exceeded" else None
    return int(found[1] or found[2]) if found else None


async def cut(name: str, server: Server, text: str, limit: int) -> Sequence[int]:
    """The first `limit` tokens of `text`, with those that the model wants around a text. Raises `BackendError`."""
    whole, bare = [await _tokens(name, server, text, around=around) for around in (True, False)]
    if len(whole) <= limit:
        return whole
    before = next((at for at in range(len(whole) - len(bare) + 1) if whole[at : at + len(bare)] == bare), 0)
    after = whole[before + len(bare) :]
    return [*whole[: limit - len(after)], *after]


async def _tokens(name: str, server: Server, text: str, *, around: bool) -> list[int]:
    body = {"content": text, "add_special": around, "parse_special": True}
    return upstream.decoded(name, await server.read("/tokenize", msgspec.json.encode(body)), _TOKENS).tokens
