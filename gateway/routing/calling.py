"""One question to replicas that are the same model: whoever can, answers; until its first step, another may."""

import asyncio
import hashlib
import random
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from gateway.asking import asked
from gateway.canonical import Identity, Request, Vector
from gateway.errors import BackendError, BackendTimeout, Overloaded, may_pass
from gateway.routing import prices
from gateway.routing.choosing import Prompt
from gateway.routing.replica import Replica
from gateway.routing.timing import Patience
from gateway.steps import Batches, Steps, together
from storage.entry import Chunk, Usage

_FAULTS: Final = 500
"""From this status on it is a server's own fault."""
_PAUSE_S: Final = 0.05
"""The longest wait before a second try; each further one may wait twice as long."""


class Group(Protocol):
    """Replicas that are the same model."""

    @property
    def identity(self) -> Identity:
        """Who they are."""
        ...

    @property
    def retries(self) -> int:
        """How often a question is tried again."""
        ...

    def others(self, than: Collection[Replica]) -> bool:
        """Whether another one may be asked now."""
        ...

    async def admitted(self, without: Collection[Replica], prompt: Prompt | None) -> Replica:
        """A place at one of them, not `without`. Raises `Overloaded`, and why when none is left."""
        ...

    def told(self, prompt: Prompt, usage: Usage) -> None:
        """It was answered."""
        ...


class Asking(msgspec.Struct):
    """A client's question, whichever groups it is sent to."""

    scope: str
    started: float
    """When the client began to wait, a reading of the monotonic clock."""
    failed: dict[Replica, int] = msgspec.field(default_factory=dict[Replica, int])
    """Who failed to answer it, and in which of its lives."""


class Call:
    """One question to one group."""

    def __init__(self, group: Group, prompt: Prompt | None, asking: Asking, failed: Iterable[Replica] = ()) -> None:
        self.replica: Replica | None = None
        """Who answers, once the first step is there."""
        self._group = group
        self._prompt = prompt
        self._asking = asking
        self._spent_s = 0.0
        """What the replica had spent when it was asked."""
        self._life = 0
        """Of the replica that is asked: by the time it has failed, another process may be there."""
        self._failed = set(failed)
        """Who of this group failed, and is not asked again."""
        self._tries = 0
        """How often it was asked without an answer."""
        self._fault: BackendError | None = None
        self._usage = Usage()

    @property
    def backend(self) -> str:
        """The name of who answers."""
        return self.replica.name if self.replica else ""

    def complete(self, request: Request) -> Steps:
        """The steps of a whole answer; the first names its backend. Raises `BackendError`, also midway."""
        return Steps(self._complete(request))

    async def _complete(self, request: Request) -> Batches:
        request = msgspec.structs.replace(request, partition=partition(self._asking.scope))
        while True:
            replica = await self._next()
            patience = Patience(replica.name, replica.settings, self._asking.started)
            arriving = together(asked(replica.backend, request))
            try:
                # All of every answer comes by here: one generator, and one timer for all waits.
                patience.waits()
                async for some in arriving:
                    patience.heard()
                    yield self._heard(some, replica)
                    patience.waits()
                patience.close()
                self._succeeded(replica)
                return
            except (BackendError, asyncio.CancelledError) as error:
                self._judged(error, replica, patience)
            finally:
                patience.close()
                await arriving.aclose()
                replica.end()

    def _heard(self, some: Sequence[Chunk], replica: Replica) -> Sequence[Chunk]:
        """Steps, with what is known here: who says them, and what they cost."""
        replica.heard()
        if self.replica is None:
            self._answers(replica)
            some = [msgspec.structs.replace(some[0], backend=replica.name), *some[1:]]
        if some[-1].usage is not None:
            some = [self._counted(step, replica) for step in some]
        return some

    def _counted(self, step: Chunk, replica: Replica) -> Chunk:
        """`step`, with what it costs if it says what was used."""
        if step.usage is None:
            return step
        self._usage = self._priced(step.usage, replica)
        return msgspec.structs.replace(step, usage=self._usage)

    def _succeeded(self, replica: Replica) -> None:
        replica.succeeded()
        if self._prompt is not None:
            self._group.told(self._prompt, self._usage)

    def _judged(self, error: BaseException, replica: Replica, patience: Patience) -> None:
        """Raise `error`, or what it means, unless another replica is to be tried."""
        fault = error if isinstance(error, BackendError) else patience.judged()
        if fault is None:
            raise error
        if not self._goes_on(replica, fault):
            raise fault from (error.__cause__ if fault is error else error)

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """One vector for each request, in order. Raises `BackendError`."""
        while True:
            replica = await self._next()
            try:
                with closing(Patience(replica.name, replica.settings, self._asking.started)) as patience:
                    vectors = await patience.done(replica.backend.embed(requests))
                self._answers(replica)
                replica.succeeded()
                return prices.priced(replica.settings, vectors, replica.spent_s() - self._spent_s)
            except BackendError as error:
                if not self._goes_on(replica, error):
                    raise
            finally:
                replica.end()

    async def unchanged(self) -> bool:
        """Whether the one who answered is who it was taken for: else the answer is nobody's, and is not to be kept."""
        return self.replica is not None and await self.replica.was(self._group.identity)

    async def _next(self) -> Replica:
        """Who is asked now. Raises `Overloaded`, and when nobody is left what was wrong with the last one."""
        if self._tries:
            await asyncio.sleep(random.uniform(0, _PAUSE_S * 2 ** (self._tries - 1)))  # noqa: S311 -- jitter
        try:
            replica = await self._group.admitted(self._failed, self._prompt)
        except Overloaded:
            raise
        except BackendError as error:
            raise self._fault or error from error
        self._spent_s, self._life = replica.spent_s(), replica.life
        return replica

    def _priced(self, usage: Usage, replica: Replica) -> Usage:
        """`usage`, with what the answer has cost by now."""
        if not replica.settings.is_priced:
            return usage
        cost = prices.cost(replica.settings, usage, replica.spent_s() - self._spent_s)
        return msgspec.structs.replace(usage, cost_micro_usd=cost)

    def _answers(self, replica: Replica) -> None:
        """`replica` does what others did not: then that was their fault, not the question's."""
        self.replica = replica
        for other, life in self._asking.failed.items():
            other.outdone(life)
        self._asking.failed.clear()

    def _goes_on(self, replica: Replica, error: BackendError) -> bool:
        """Note that it failed; whether another one is to be tried."""
        life = self._life
        replica.failed(error)
        if may_pass(error):
            self._asking.failed[replica] = life
        if self.replica is not None or not may_pass(error) or self._tries >= self._group.retries:
            return False
        self._tries += 1
        self._failed.add(replica)
        self._fault = error
        if self._group.others(self._failed):
            return True
        if isinstance(error, BackendTimeout) or error.status < _FAULTS:  # too slow, or it has too much to do
            return False
        # There is nobody else: what was wrong may have passed when it is asked again.
        self._failed -= {replica}
        return self._group.others(self._failed)


@lru_cache(maxsize=1024)
def partition(scope: str) -> str:
    """A name for the part of an engine's prefix cache that is this scope's, which says nothing of the scope itself.

    How long a prompt takes tells what is in the cache: nobody shall learn that of others' prompts.
    """
    return hashlib.blake2b(scope.encode(), digest_size=16, person=b"askonce-cache").hexdigest()
