"""A model's replicas that are one model by their identity: who a question is named after, and who answers it."""

import time
from collections.abc import Collection, Sequence
from typing import Protocol

from gateway.canonical import Description, Identity
from gateway.errors import BackendError
from gateway.routing.admission import Admission
from gateway.routing.calling import Asking, Call
from gateway.routing.choosing import Chooser, Prompt
from gateway.routing.replica import Replica
from storage.entry import Usage


class Pool(Protocol):
    """What all replicas of one name share."""

    name: str
    retries: int
    fallbacks: int
    chooser: Chooser
    replicas: Sequence[Replica]
    admission: Admission

    def refusal(self) -> BackendError:
        """Why nobody can be asked."""
        ...


class Route:
    """One group of a pool. What is kept of its answers has the pool's name and this identity."""

    def __init__(self, pool: Pool, kind: str, identity: Identity, replicas: Collection[Replica], fallback: str) -> None:
        self.kind = kind
        self.identity = identity
        self.replicas = tuple(replicas)
        self.fallback = fallback
        """Who should have answered: a kind of backend, or another model; empty for those who should."""
        self.asked: Pool = pool
        """The pool of the model that was asked for."""
        self._pool = pool
        self._in_need = False

    def in_need(self) -> "Route":
        """The same, for when nobody else is left: those who do not say how they are may be asked too."""
        route = Route(self._pool, self.kind, self.identity, self.replicas, self.fallback)
        route.asked, route._in_need = self.asked, True
        return route

    @property
    def model(self) -> str:
        """The name of the model, as clients know it."""
        return self._pool.name

    @property
    def key(self) -> tuple[str, Identity]:
        """No two groups have the same."""
        return self._pool.name, self.identity

    @property
    def names(self) -> list[str]:
        """What its replicas are called."""
        return [replica.name for replica in self.replicas]

    @property
    def retries(self) -> int:
        """How often a question is tried again."""
        return self._pool.retries

    @property
    def usable(self) -> bool:
        """Whether one of them may be asked now, or soon."""
        return self.others(())

    def call(self, asking: Asking, *, prompt: str = "", broken: Collection[str] = ()) -> Call:
        """A client's question, to be asked here.

        Those whose answer to it was `broken` off are not asked again. `prompt` is what the model reads.
        """
        failed = [replica for replica in self.replicas if replica.name in broken]
        known = self._pool.chooser.prompt(prompt, asking.scope) if len(self._pool.replicas) > 1 else None
        return Call(self, known, asking, failed)

    def able(self) -> list[Replica]:
        """Those that may be asked now, or soon."""
        now = time.monotonic()
        return [replica for replica in self.replicas if self._may_fit(replica, now)]

    def preferred(self, candidates: Sequence[Replica], prompt: str, scope: str) -> Replica:
        """Who of several of its pool would be chosen for a prompt."""
        return self._pool.chooser.preferred(candidates, self._pool.chooser.prompt(prompt, scope))

    def has_others(self, than: Collection[str]) -> bool:
        """Whether another one may be asked now, or soon; by their names."""
        return self.others([replica for replica in self.replicas if replica.name in than])

    async def described(self) -> Description:
        """What the first replica that can be asked tells of the model. Raises `BackendError`."""
        fault: BackendError | None = None
        for replica in self.replicas:
            if not self._may_fit(replica, time.monotonic()):
                continue
            try:
                return await replica.described()
            except BackendError as error:
                fault = error
        raise fault or self._pool.refusal()

    def answered(self) -> None:
        """It has begun to answer; one that should not have had to is counted where it was asked for."""
        if self.fallback:
            self.asked.fallbacks += 1

    def others(self, than: Collection[Replica]) -> bool:
        """Whether another one may be asked now, or soon."""
        now = time.monotonic()
        for replica in self.replicas:  # noqa: SIM110 -- every request comes by here, and a generator takes longer
            if self._may_fit(replica, now) and replica not in than:
                return True
        return False

    async def admitted(self, without: Collection[Replica], prompt: Prompt | None) -> Replica:
        """A place at one of them, not `without`. Raises `Overloaded`, and why when none is left."""
        if (replica := self._picked(without, prompt)) is not None:
            return replica
        return await self._pool.admission.admitted(lambda: self._picked(without, prompt), (self.key, *without))

    def told(self, prompt: Prompt, usage: Usage) -> None:
        """It was answered."""
        self._pool.chooser.told(prompt, usage)

    def _picked(self, without: Collection[Replica], prompt: Prompt | None) -> Replica | None:
        now = time.monotonic()
        able = [replica for replica in self.replicas if self._fits(replica, now) and replica not in without]
        if not able:
            left = [replica for replica in self.replicas if replica not in without]
            doubted = [replica for replica in left if self._may_fit(replica, now)]
            for replica in doubted:
                replica.renew()  # somebody doubts it since this question was looked up: it says who it is in a moment
            if doubted or any(replica.is_returning(now) for replica in left):
                return None  # it was there when the question was looked up, and a connection has broken since
            raise self._pool.refusal()
        candidates = [replica for replica in able if replica.has_room]
        if not candidates:
            return None
        chosen = candidates[0] if prompt is None else self._pool.chooser.choose(candidates, prompt)
        chosen.begin()
        return chosen

    def _may_fit(self, replica: Replica, now: float) -> bool:
        """Whether it may be asked now, or once it has said that it is who it was."""
        return replica.identity == self.identity and replica.is_there(now, in_need=self._in_need)

    def _fits(self, replica: Replica, now: float) -> bool:
        return replica.identity == self.identity and replica.usable(now, in_need=self._in_need)
