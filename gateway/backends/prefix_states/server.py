"""A llama.cpp server comes in, the same server goes out, which finds long prompts it has computed before on disk."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from gateway.backends.prefix_states.chain import BLOCK_BYTES, chain
from gateway.backends.prefix_states.keeping import LEAST_BLOCKS, PrefixStates, Told
from gateway.backends.prefix_states.slots import Slots
from gateway.backends.prefix_states.store import Store
from gateway.canonical import Identity

_PATHS: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
_BODY: Final = msgspec.json.Decoder(dict[str, Any])
_SAID: Final = re.compile(rb'(?<!\\)"(id_slot|prompt_tokens|total_tokens|cached_tokens)":(\d+)')
_LONGEST: Final = 64
_END: Final = b"[DONE]"


class Server(Protocol):
    """Where requests go. What it raises is a `BackendError`."""

    def asked(
        self, path: str, content: bytes, *, keep_connection: bool = True
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Post JSON; the reply's body, as it comes."""
        ...

    async def read(self, path: str, content: bytes | None = None, *, sign: bool = True) -> bytes:
        """Post JSON, or get; the whole body of the reply."""
        ...

    @property
    def here(self) -> bool:
        """Whether it is on this machine."""
        ...

    async def tie(self) -> None:
        """Hold on to the process that answers now."""
        ...

    def tied(self) -> bool:
        """Whether it is still the same since then."""
        ...

    def signs(self) -> int:
        """How often it may have become another one."""
        ...

    async def headers(self, path: str) -> Mapping[str, str]:
        """Get; the head of the reply, names in lower case."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class RememberingServer:
    """`server`, with the states of long prompts. Short ones, and those to be computed anew, are passed on."""

    def __init__(self, server: Server, states: PrefixStates) -> None:
        self._server = server
        self.states = states

    @asynccontextmanager
    async def asked(
        self, path: str, content: bytes, *, keep_connection: bool = True
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Post JSON; the reply's body, as it comes, after the longest beginning of the prompt is where it is needed."""
        beginnings = _chain(path, content)
        if len(beginnings) < LEAST_BLOCKS:
            async with self._server.asked(path, content, keep_connection=keep_connection) as pieces:
                yield pieces
            return
        listening = _Listening()
        # So that the reply says which slot it came from.
        content = content.rstrip()[:-1] + b',"verbose":true}'
        claim = await self.states.prepare(beginnings)
        try:
            asked = self._server.asked(path, content, keep_connection=keep_connection)
            async with asked as pieces, aclosing(listening.heard(pieces)) as heard:
                yield heard
        finally:
            if claim is not None:
                self.states.release(claim)
        if (told := listening.told()) is not None:
            self.states.answered(beginnings, told, claim.restored if claim else None)

    async def read(self, path: str, content: bytes | None = None, *, sign: bool = True) -> bytes:
        """Post JSON, or get; the whole body of the reply."""
        return await self._server.read(path, content, sign=sign)

    @property
    def here(self) -> bool:
        """Whether it is on this machine."""
        return self._server.here

    async def tie(self) -> None:
        """Hold on to the process that answers now."""
        await self._server.tie()

    def tied(self) -> bool:
        """Whether it is still the same since then."""
        return self._server.tied()

    def signs(self) -> int:
        """How often it may have become another one."""
        return self._server.signs()

    async def headers(self, path: str) -> Mapping[str, str]:
        """Get; the head of the reply, names in lower case."""
        return await self._server.headers(path)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.states.aclose()
        await self._server.aclose()


def remembering(server: Server, url: str, folder: Path, identity: Identity, max_bytes: int) -> RememberingServer:
    """`server`, which listens at `url` and saves what it computes in `folder`."""
    socket = Path(url.removeprefix("unix:")) if url.startswith("unix:") else None

    def epoch() -> object:
        """What is another once the server was started again: its socket."""
        try:
            status = socket.stat() if socket else None
        except OSError:
            return None
        return (status.st_ino, status.st_ctime_ns) if status else 0

    states = PrefixStates(Store(folder, identity, max_bytes), Slots(server), folder, epoch)
    return RememberingServer(server, states)


def _chain(path: str, content: bytes) -> tuple[bytes, ...]:
    if path not in _PATHS or len(content) < LEAST_BLOCKS * BLOCK_BYTES:
        return ()
    body = _BODY.decode(content)
    return () if body.get("cache_prompt") is False else chain(body)


class _Listening:
    """Hears in a stream what it says of itself. What it says in an answer is escaped, and so not mistaken for it."""

    def __init__(self) -> None:
        self._said: dict[bytes, int] = {}
        self._rest = b""
        self._ended = False

    async def heard(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The same pieces."""
        async for piece in pieces:
            self._hear(piece)
            yield piece

    def told(self) -> Told | None:
        """What was said, if all of it was."""
        said = self._said
        if not self._ended or b"id_slot" not in said or b"total_tokens" not in said:
            return None
        return Told(
            slot=said[b"id_slot"],
            prompt_tokens=said.get(b"prompt_tokens", 0),
            total_tokens=said[b"total_tokens"],
            cached_tokens=said.get(b"cached_tokens", 0),
        )

    def _hear(self, piece: bytes) -> None:
        text = self._rest + piece
        for name, number in _SAID.findall(text):
            self._said[name] = int(number)
        self._ended = self._ended or _END in text
        self._rest = text[-_LONGEST:]
