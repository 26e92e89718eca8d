"""All replicas of one model's name in, the groups that may answer a question out, in their order."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from math import ceil
from typing import Final

from gateway.canonical import Identity
from gateway.config import ModelConfig
from gateway.errors import BackendError, BackendUnavailable
from gateway.routing import chain
from gateway.routing.admission import Admission
from gateway.routing.choosing import Chooser
from gateway.routing.rank import Rank
from gateway.routing.replica import Replica
from gateway.routing.route import Route

_INTRODUCTION_S: Final = 5.0
"""How long the first requests wait to learn who the replicas are, before they make do with those that have said so."""


class Pool:
    """The replicas of one name, and what they share."""

    def __init__(self, name: str, chooser: Chooser) -> None:
        self.name = name
        self.chooser = chooser
        self.admission = Admission(name)
        self.replicas: Sequence[Replica] = ()
        self.retries = 0
        self.fallbacks = 0
        """How many answers another kind or model had to give."""
        self.version = 0
        """Goes up whenever a replica has become another one."""
        self._places = chain.places(())
        self._others: Mapping[str, Pool] = {}
        self._introduced = False
        self._planned: tuple[list[int], list[Rank]] = ([-1], [])

    def configure(self, replicas: Sequence[Replica], settings: ModelConfig, others: "Mapping[str, Pool]") -> None:
        """Use these replicas from now on. `others` are all pools by their names."""
        self.replicas = tuple(replicas)
        self.retries = settings.retries
        self.admission.most, self.admission.deadline_s = settings.queue_max, settings.queue_deadline_s
        self._places = chain.places(settings.fallback)
        self._others = {name: others[name] for name in settings.fallback if name in others and name != self.name}
        self._introduced = False
        self.chooser.only([replica.name for replica in replicas])
        for replica in replicas:
            replica.on_room, replica.on_identity = self.admission.changed, self._renamed
            replica.on_return = partial(self.chooser.forget, replica.name)
        self._renamed()
        self.admission.changed()

    async def ranks(
        self, allowed: Collection[str] | None = None, has_failed: Callable[[], bool] | None = None
    ) -> AsyncGenerator[Rank]:
        """The groups that may answer, those first that should; of other models only those `allowed`.

        A question is looked up under those of a rank, and asked of them, until it has an answer. When nobody is usable,
        replicas that were away are asked whether they are back. `has_failed` tells whether somebody was asked for an
        answer: one who is usable when a question is looked up may have gone by the time it is to be asked.
        """
        if not self._introduced:
            await self._introductions()
        usable = False
        given: set[tuple[str, Identity]] = set()
        while (rank := self._next(given, allowed)) is not None:
            await _settled([replica for route in rank.routes for replica in route.replicas])
            if (still := self._next(given, allowed)) is None or still.routes != rank.routes:
                continue
            given.update(route.key for route in rank.routes)
            usable = usable or any(route.usable for route in rank.routes)
            yield rank
        if has_failed() if has_failed else usable:
            return
        await self._knock()
        for rank in self._plan():
            routes = [route if route.usable else route.in_need() for route in rank.routes]
            if any(route.usable for route in routes) and _is_allowed(routes[0].model, allowed, self.name):
                yield Rank(routes)

    async def foremost(self, allowed: Collection[str] | None = None) -> Rank | None:
        """The groups that a question is to be looked up under first; None where that is not known yet."""
        if not self._introduced:
            return None
        rank = self._next((), allowed)
        if rank is None or self.still(rank):
            return rank
        await _settled([replica for route in rank.routes for replica in route.replicas])
        return rank if rank is self._next((), allowed) else None

    def settled(self, allowed: Collection[str] | None = None) -> Rank | None:
        """The same, where nobody has to be asked first."""
        rank = self._next((), allowed) if self._introduced else None
        return rank if rank is not None and self.still(rank) else None

    def still(self, rank: Rank) -> bool:
        """Whether `rank` is still the first of all, and everybody in it who they were, for certain."""
        plan = self._plan()
        if not plan or plan[0] is not rank:
            return False
        for route in rank.routes:
            for replica in route.replicas:
                if replica.look():
                    return False
        return self._plan() is plan

    async def first(self) -> Route:
        """The group that would answer now. Raises `BackendError` when none would."""
        async with aclosing(self.ranks()) as ranks:
            async for rank in ranks:
                if usable := rank.asked("", ""):
                    return usable[0]
        raise self.refusal()

    async def first_of(self, identity: Identity) -> Route:
        """The group that is this one, if it can be asked now, or else the first that can. Raises `BackendError`."""
        if not self._introduced:
            await self._introductions()
        await _settled(self.replicas)
        mine = (route for route in self._routes() if route.key == (self.name, identity) and route.usable)
        return next(mine, None) or await self.first()

    def refusal(self) -> BackendError:
        """Why nobody can be asked: what was wrong with whoever should have answered."""
        now = time.monotonic()
        known = [replica for route in self._routes() for replica in route.replicas]
        for replica in (*known, *self.replicas):
            if replica.fault is not None:
                error = _again(replica.fault)
                if rests_s := replica.rests_s(now):
                    error.retry_after_s = rests_s
                    error.args = (f"{error} It is asked again in {ceil(rests_s)} s.",)
                return error
        return BackendUnavailable(f"No backend of '{self.name}' can be asked now.")

    def _next(self, given: Collection[tuple[str, Identity]], allowed: Collection[str] | None) -> Rank | None:
        """The first groups that were not given yet: what there is may change while some are tried."""
        for rank in self._plan():
            rest = [route for route in rank.routes if route.key not in given] if given else rank.routes
            if rest and _is_allowed(rest[0].model, allowed, self.name):
                return rank if len(rest) == len(rank.routes) else Rank(rest)
        return None

    def _routes(self) -> Iterator[Route]:
        return (route for rank in self._plan() for route in rank.routes)

    def _plan(self) -> list[Rank]:
        """All groups in their order, worked out again when a replica has become another one."""
        versions = [self.version]
        if self._others:
            versions += [other.version for other in self._others.values()]
        if versions != self._planned[0]:
            self._planned = versions, list(self._ranks())
        return self._planned[1]

    def _ranks(self) -> Iterator[Rank]:
        should = ""
        for place in self._places:
            if (other := self._others.get(place[0])) is not None:
                for rank in other.own():
                    for route in rank.routes:
                        route.fallback, route.asked = self.name, self
                    yield rank
                continue
            if routes := self._at(place):
                for route in routes:
                    route.fallback = should
                yield Rank(routes)
            should = should or next((replica.kind for replica in self.replicas if replica.kind in place), "")

    def own(self) -> Iterator[Rank]:
        """The groups of this pool alone."""
        return (Rank(routes) for place in self._places if (routes := self._at(place)))

    def _at(self, place: chain.Place) -> list[Route]:
        """The groups at one place; the largest comes first."""
        groups: dict[Identity, list[Replica]] = {}
        for replica in self.replicas:
            if replica.kind in place and replica.identity is not None:
                groups.setdefault(replica.identity, []).append(replica)
        ordered = sorted(groups.items(), key=lambda group: -sum(replica.weight for replica in group[1]))
        return [Route(self, replicas[0].kind, identity, replicas, "") for identity, replicas in ordered]

    def _renamed(self) -> None:
        self.version += 1

    async def _introductions(self) -> None:
        """Wait until every replica was asked who it is."""
        unknown = [replica for replica in self.replicas if not replica.introduced.is_set()]
        asking = [replica.renew() for replica in unknown]
        if asking:
            await asyncio.wait(asking, timeout=_INTRODUCTION_S)
            for replica in unknown:
                replica.look()
        self._introduced = True
        for other in self._others.values():
            if not other._introduced:
                await other._introductions()

    async def _knock(self) -> None:
        """Ask those who are away whether they are back, until one is or all have said no."""
        pools = (self, *self._others.values())
        away = [replica for pool in pools for replica in pool.replicas if replica.state != "ready"]
        away += [replica for pool in pools for replica in pool.replicas if replica.identity is None]
        asking = {replica.renew() for replica in away}
        until = time.monotonic() + self.admission.deadline_s
        while asking and not any(route.usable for route in self._routes()):
            left_s = until - time.monotonic()
            done, asking = await asyncio.wait(asking, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return


async def _settled(replicas: Sequence[Replica]) -> None:
    """Ask those who may be another by now who they are."""
    unsure = [replica for replica in replicas if replica.look()]
    if not unsure:
        return
    waits_s = max(replica.waits_s() for replica in unsure)
    await asyncio.wait([replica.renew() for replica in unsure], timeout=waits_s)
    for replica in unsure:
        replica.look()


def _is_allowed(model: str, allowed: Collection[str] | None, asked: str) -> bool:
    return allowed is None or model in allowed or model == asked


def _again(error: BackendError) -> BackendError:
    """The same error, to be raised once more: its own traceback would grow each time."""
    another = type(error).__new__(type(error), *error.args)
    another.__dict__.update(error.__dict__)
    return another
