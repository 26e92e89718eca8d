"""Two hundred kills at random moments of streams: nobody is told half an answer, and none is kept."""

import asyncio
import itertools
import os
import time
from collections import Counter

import pytest

from tests.kills import stores
from tests.kills.askers import Askers, Told
from tests.kills.killers import PLAN, Killers
from tests.kills.told import summary, unexplained
from tests.kills.world import MODELS, World, world

SEED = os.environ.get("KILLS_SEED", "ask once")
CLIENTS = 20


async def test_two_hundred_kills_leave_nothing_partial(capsys: pytest.CaptureFixture[str]) -> None:
    """Of gateways, their workers, Redis, Postgres, models and clients, many at the same time.

    A client hears a whole answer or a clear error; only the death of its own gateway or model may cost it one. Every
    entry anywhere is the whole answer to its question, and whoever asks again gets it.
    """
    started = time.monotonic()
    async with world() as everything:
        askers = Askers(everything.replicas, MODELS, f"{SEED} askers")
        killers = Killers(everything, askers, SEED)
        await killed(everything, askers, killers)
        took_s = time.monotonic() - started
        with capsys.disabled():
            print(f"\n{summary(askers.told, killers.deaths)}\n{took_s:.0f} s, seed {SEED!r}")
        assert [one for one in askers.told if one.wrong] == []
        assert [one for one in askers.told if unexplained(one, killers.deaths)] == []
        assert len(killers.deaths.all) == sum(PLAN.values()) == 200
        kept = await look(everything)
        again = await asked_again(everything, askers)
        for replica in everything.replicas:
            assert await replica.stop() == 0  # which writes what is waiting
        kept_at_the_end = await look(everything)
        from_where = Counter(one.tier for one in again)
        with capsys.disabled():
            print(f"kept {kept}, and at the end {kept_at_the_end}; asked again: {dict(from_where)}")
        assert min(kept.values()) > 100
        assert await stores.not_passing_by(everything.redis.url) == []


async def killed(everything: World, askers: Askers, killers: Killers) -> None:
    """Have clients ask until everybody is dead who was to die."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(askers.ask_until(stop, everything.session))
        await killers.kill_all()
        stop.set()


async def look(everything: World) -> dict[str, int]:
    """How much each store holds. Fails for whatever is not the whole answer to its question."""
    found = {
        "redis": await stores.in_redis(everything.redis.url),
        "postgres": await stores.in_postgres(everything.postgres.url),
    }
    for store, faults in found.items():
        assert [fault for fault in faults if fault] == [], store
    return {store: len(faults) for store, faults in found.items()}


async def asked_again(everything: World, askers: Askers) -> list[Told]:
    """What clients are told of each question there was, and then from the memory of the gateway that told it.

    Fails unless it is the whole answer, both times.
    """
    questions = iter(list(zip(askers.asked, itertools.cycle(everything.replicas), strict=False)))
    told: list[Told] = []

    async def ask() -> None:
        for (model, number), replica in questions:
            told.append(await askers.ask(everything.session, replica, model, number))
            remembered = await askers.ask(everything.session, replica, model, number)
            assert (remembered.tier, remembered.outcome, remembered.wrong) == ("memory", "whole", "")

    await asyncio.gather(*(ask() for _ in range(CLIENTS)))
    assert [one for one in told if one.outcome != "whole" or one.wrong] == []
    return told
