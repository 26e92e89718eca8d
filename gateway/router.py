"""A model's name -> the backend that serves it."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Final, Protocol

from gateway.canonical import Identity, Request, Vector
from gateway.errors import UnknownModel
from storage.entry import Chunk

_TOLD: Final = 200
"""How much of a name is said back: the client knows it, and errors are logged."""


class Backend(Protocol):
    """One model that can be asked."""

    name: str

    async def identity(self) -> Identity:
        """Who answers. Raises `BackendError` while that is unknown."""
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


class Router:
    """Which backend answers for which model."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = dict(backends)

    def models(self, allowed: Collection[str] | None = None) -> list[str]:
        """The names clients may ask for; only those `allowed`, unless that is None."""
        return sorted(name for name in self._backends if allowed is None or name in allowed)

    def backend(self, model: str, allowed: Collection[str] | None = None) -> Backend:
        """The backend of `model`, with or without Ollama's `:latest`.

        Raises `UnknownModel`, naming what exists, for a model that does not exist or is not `allowed`.
        """
        names = self.models(allowed)
        for name in (model, f"{model}:latest", model.removesuffix(":latest")):
            if name in names:
                return self._backends[name]
        named = model if len(model) <= _TOLD else model[:_TOLD] + "…"
        message = f"The model '{named}' does not exist here; these do: {', '.join(names) or 'none'}."
        raise UnknownModel(message, param="model")
