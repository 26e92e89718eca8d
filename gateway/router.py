"""A model's name -> the backend that serves it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from gateway.canonical import Identity, Request, Vector
from gateway.errors import UnknownModel
from storage.entry import Chunk


class Backend(Protocol):
    """One model that can be asked."""

    name: str

    async def identity(self) -> Identity:
        """Who answers. Raises `BackendError` while that is unknown."""
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

    def models(self) -> list[str]:
        """The names clients may ask for."""
        return sorted(self._backends)

    def backend(self, model: str) -> Backend:
        """The backend of `model`, with or without Ollama's `:latest`. Raises `UnknownModel`, naming what exists."""
        for name in (model, f"{model}:latest", model.removesuffix(":latest")):
            if name in self._backends:
                return self._backends[name]
        known = ", ".join(self.models()) or "none"
        message = f"The model '{model}' does not exist here; these do: {known}."
        raise UnknownModel(message, param="model")
