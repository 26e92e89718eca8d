"""llama.cpp's slots over HTTP: which are idle, and one of them saved to a file or restored from it."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from gateway.backends import upstream
from gateway.errors import BackendError


class Server(Protocol):
    """Where requests go. What it raises is a `BackendError`."""

    async def read(self, path: str, content: bytes | None = None) -> bytes:
        """Post JSON, or get; the whole body of the reply."""
        ...


class Slot(msgspec.Struct, frozen=True):
    """One slot, and the last task it did."""

    id: int
    is_processing: bool = True
    id_task: int = -1


class _Saved(msgspec.Struct, frozen=True):
    n_saved: int


_SLOTS = msgspec.json.Decoder(list[Slot])
_SAVED = msgspec.json.Decoder(_Saved)
_ANY = msgspec.json.Decoder(dict[str, Any])


class Slots:
    """The slots of `server`. Everything raises `BackendError`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def all(self) -> list[Slot]:
        """Every slot. llama.cpp answers between two batches of tokens."""
        return upstream.decoded("llama.cpp", await self._server.read("/slots"), _SLOTS)

    async def save(self, slot: int, file: str) -> int:
        """Have the state of a slot written; how many tokens it holds. A busy slot is waited for."""
        return upstream.decoded("llama.cpp", await self._act(slot, "save", file), _SAVED).n_saved

    async def restore(self, slot: int, file: str) -> None:
        """Put a state into a slot. Raises `BackendRefused` when llama.cpp does not take it."""
        said = upstream.decoded("llama.cpp", await self._act(slot, "restore", file), _ANY)
        if said.get("id_slot") != slot:
            message = "llama.cpp did not restore the slot it was asked to."
            raise BackendError(message)

    async def _act(self, slot: int, action: str, file: str) -> bytes:
        return await self._server.read(f"/slots/{slot}?action={action}", msgspec.json.encode({"filename": file}))
