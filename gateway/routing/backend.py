"""What a replica must be able to do."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from gateway.canonical import Identity, Request, Vector
from storage.entry import Chunk


class Backend(Protocol):
    """One model that can be asked."""

    name: str

    async def identity(self) -> Identity:
        """Who answers. Raises `BackendError` while that is unknown."""
        ...

    async def renew(self) -> Identity:
        """Who answers, asked again now: it may have become another one. Raises `BackendError`."""
        ...

    async def ping(self) -> None:
        """Raise `BackendError` unless the backend can be asked now."""
        ...

    def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Ask; yield the answer's steps as they come, the usage last. Raises `BackendError`, also midway.

        Closing the generator cancels the call.
        """
        ...

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """One vector for each request, in order. Raises `BackendError`."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
