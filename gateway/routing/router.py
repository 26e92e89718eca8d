"""Settings in; a model's name -> the pool that answers for it."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from gateway.config import BackendConfig, ModelConfig, ReplicaConfig
from gateway.errors import UnknownModel
from gateway.routing.backend import Backend
from gateway.routing.choosing import ByPrefix, Chooser, Say
from gateway.routing.pool import Pool
from gateway.routing.replica import Replica
from gateway.routing.watching import Watch

_TOLD: Final = 200
"""How much of a name is said back: the client knows it, and errors are logged."""

Build = Callable[[BackendConfig], Backend]

_USAGE: Final = frozenset(ReplicaConfig.__struct_fields__) - {"name", "connect_timeout_s"}
"""What can be changed of a replica while it is connected."""


Topics = Callable[[str, bytes], None]
"""Tells other gateways something about a model. Must not wait."""


def _silent(model: str, message: bytes) -> None:
    """There are no others."""


class Router:
    """Every model that clients may ask for, and the replicas of each."""

    def __init__(
        self, build: Build, *, workers: int = 1, choosers: Callable[[Say], Chooser] = ByPrefix, say: Topics = _silent
    ) -> None:
        self._build = build
        self._workers = workers
        self._choosers = choosers
        self._say = say
        self._pools: dict[str, Pool] = {}
        self._replicas: dict[BackendConfig, Replica] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._watch = Watch()

    @classmethod
    def of(cls, backends: Mapping[str, Backend], settings: ReplicaConfig | None = None) -> "Router":
        """A router of one backend for each name, which nobody watches."""
        router = cls(_none)
        router._pools = {name: router._pool(name) for name in backends}
        for name, pool in router._pools.items():
            pool.configure([Replica(backends[name], settings)], ModelConfig(name=name), router._pools)
        return router

    def configure(self, backends: Sequence[BackendConfig], models: Sequence[ModelConfig]) -> None:
        """Use these from now on. A replica that stays keeps its connections and what is known of it; one that does not
        is let finish what it has begun.

        Raises `ConfigError`, and then nothing has changed.
        """
        kept = {_lasting(config): self._replicas.get(_lasting(config)) for config in backends}
        found: dict[BackendConfig, Replica] = {}
        for config in backends:
            key = _lasting(config)
            found[key] = kept[key] or Replica(self._build(config), kind=config.kind)
        for config in backends:
            found[_lasting(config)].configure(config, self._workers)
        names = dict.fromkeys(config.served_name for config in backends)
        left = [replica for key, replica in self._replicas.items() if key not in found]
        self._pools = {name: self._pools.get(name) or self._pool(name) for name in names}
        self._replicas = found
        settings = {model.name: model for model in models}
        for name, pool in self._pools.items():
            mine = [found[_lasting(config)] for config in backends if config.served_name == name]
            pool.configure(mine, settings.get(name) or ModelConfig(name=name), self._pools)
        self._watch.only(found.values())
        for replica in left:
            self._let_go(replica)

    def models(self, allowed: Collection[str] | None = None) -> list[str]:
        """The names clients may ask for; only those `allowed`, unless that is None."""
        return sorted(name for name in self._pools if allowed is None or name in allowed)

    def model(self, name: str, allowed: Collection[str] | None = None) -> Pool:
        """The pool of `name`, with or without Ollama's `:latest`.

        Raises `UnknownModel`, naming what exists, for a model that does not exist or is not `allowed`.
        """
        for one in (name, f"{name}:latest", name.removesuffix(":latest")):
            if one in self._pools and (allowed is None or one in allowed):
                return self._pools[one]
        names = ", ".join(self.models(allowed)) or "none"
        named = name if len(name) <= _TOLD else name[:_TOLD] + "…"
        message = f"The model '{named}' does not exist here; these do: {names}."
        raise UnknownModel(message, param="model")

    def pools(self) -> Iterable[Pool]:
        """All of them, by name."""
        return [pool for _, pool in sorted(self._pools.items())]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._watch.aclose()
        for task in self._leaving:
            task.cancel()
        replicas = [replica for pool in self._pools.values() for replica in pool.replicas]
        await asyncio.gather(*self._leaving, *(replica.aclose() for replica in replicas), return_exceptions=True)

    def heard(self, model: str, message: bytes) -> None:
        """Another gateway or worker has sent something to a replica of `model`."""
        if (pool := self._pools.get(model)) is not None:
            pool.chooser.heard(message)

    def _pool(self, name: str) -> Pool:
        return Pool(name, self._choosers(partial(self._say, name)))

    def _let_go(self, replica: Replica) -> None:
        task = asyncio.create_task(_drained(replica), name=f"draining {replica.name}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


async def _drained(replica: Replica) -> None:
    """Close a replica once it has finished what it has begun."""
    idle = asyncio.Event()
    replica.on_room = idle.set
    try:
        while replica.outstanding:
            idle.clear()
            await idle.wait()
    finally:
        await replica.aclose()


def _lasting(config: BackendConfig) -> BackendConfig:
    """What makes it the same replica as before."""
    fields = {field.name: field.default for field in msgspec.structs.fields(ReplicaConfig) if field.name in _USAGE}
    return msgspec.structs.replace(config, **fields)


def _none(config: BackendConfig) -> Backend:
    raise NotImplementedError(config.kind)
