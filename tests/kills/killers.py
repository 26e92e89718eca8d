"""Who kills: one killer for each kind of victim, each at random moments while answers are on their way."""

import asyncio
import json
import random
from collections.abc import Sequence
from typing import TypeVar

from tests.kills import counting
from tests.kills.askers import Askers
from tests.kills.deaths import Deaths
from tests.kills.victims import Doomed, Replica
from tests.kills.world import CALM, World

PLAN = {"gateway": 6, "worker": 10, "redis": 16, "postgres": 16, "model": 72, "client": 80}
"""How many of each kind: 200. The first two are a gateway's parent and the process that answers."""
T = TypeVar("T")
_CLIENTS_AT_ONCE = 4


class Killers:
    """All killers of one world. The same `seed` makes the same choices."""

    def __init__(self, world: World, askers: Askers, seed: str) -> None:
        self.deaths = Deaths()
        self._world = world
        self._askers = askers
        self._seed = seed
        self._one_stays = asyncio.Semaphore(len(world.replicas) - 1)

    async def kill_all(self) -> None:
        """Everything that is planned."""
        frail = [name for name in self._world.models if name != CALM]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stores("redis"))
            group.create_task(self._stores("postgres"))
            for name, kills in _shared(PLAN["model"], frail):
                group.create_task(self._models(name, kills))
            for replica, kinds in self._gateways_kinds():
                group.create_task(self._gateways(replica, kinds))
            for number, kills in _shared(PLAN["client"], range(_CLIENTS_AT_ONCE)):
                group.create_task(self._clients(self._random(f"client {number}"), kills))

    async def _stores(self, kind: str) -> None:
        rng, store = self._random(kind), getattr(self._world, kind)
        for _ in range(PLAN[kind]):
            await asyncio.sleep(rng.uniform(0, 1.5))
            streams = await self._askers.until(lambda _: True, 4)
            with self.deaths.of(kind, kind, streams):
                await store.kill(whole=rng.random() < 0.5)
                await asyncio.sleep(rng.choice([0, 0, rng.uniform(0, 1)]))  # often back at once, sometimes away
                await store.start()

    async def _models(self, name: str, kills: int) -> None:
        rng, model = self._random(name), self._world.models[name]
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(0, 0.8))
            streams = await self._askers.until(lambda told: told.model == name)
            with self.deaths.of("model", name, streams):
                await model.kill()
                await model.start()

    async def _gateways(self, replica: Replica, kinds: Sequence[str]) -> None:
        rng = self._random(replica.name)
        for kind in kinds:
            async with self._one_stays:
                await asyncio.sleep(rng.uniform(0, 0.5))
                streams = await self._askers.until(lambda told: told.gateway == replica.name)
                with self.deaths.of(kind, replica.name, streams):
                    await (replica.kill() if kind == "gateway" else replica.kill_worker(self._world.session))

    async def _clients(self, rng: random.Random, kills: int) -> None:
        """Whoever ends before it was killed, because its gateway or its model did, does not count."""
        while kills:
            await asyncio.sleep(rng.uniform(0, 1))
            kills -= await self._client(rng)

    async def _client(self, rng: random.Random) -> bool:
        model, number = self._askers.new()
        body = json.dumps(counting.question(model, number)).encode()
        client = await Doomed.asking(rng.choice(self._world.replicas).url, body)
        listening = await client.heard(rng.randint(1, len(counting.steps(number))))
        streams = len(self._askers.listening)
        if not await client.kill() or not listening:
            return False
        with self.deaths.of("client", f"{model} {number}", streams):
            return True

    def _gateways_kinds(self) -> list[tuple[Replica, list[str]]]:
        kinds = ["gateway"] * PLAN["gateway"] + ["worker"] * PLAN["worker"]
        self._random("gateways").shuffle(kinds)
        replicas = self._world.replicas
        return [(replica, kinds[place :: len(replicas)]) for place, replica in enumerate(replicas)]

    def _random(self, whose: str) -> random.Random:
        return random.Random(f"{self._seed} {whose}")


def _shared(kills: int, among: Sequence[T]) -> list[tuple[T, int]]:
    each, more = divmod(kills, len(among))
    return [(one, each + (place < more)) for place, one in enumerate(among)]
