"""What a replica must be able to do."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from gateway.canonical import Description, Identity, Request, Vector
from storage.entry import Chunk


class Backend(Protocol):
    """One model that can be asked."""

    name: str

    @property
    def known(self) -> Identity | None:
        """Who answered when that was last asked; None while it is not known."""
        ...

    def certain(self) -> bool:
        """Whether that can be relied on now, without asking again."""
        ...

    def doubted(self) -> bool:
        """Whether there was a sign, since it was asked, that it may have become another one. Takes microseconds."""
        ...

    async def identity(self) -> Identity:
        """Who answers, asked again if it is not certain; the last known, soon, if it does not say.

        Raises `BackendError` while it is unknown.
        """
        ...

    async def renew(self) -> Identity:
        """Who answers, asked for now. Raises `BackendError`."""
        ...

    async def confirms(self, identity: Identity) -> bool:
        """Whether all that was answered until now was answered by `identity`, if that was known when it was asked."""
        ...

    async def ping(self) -> None:
        """Raise `BackendError` unless the backend can be asked now."""
        ...

    async def described(self) -> Description:
        """What the backend tells of its model. Raises `BackendError`."""
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
