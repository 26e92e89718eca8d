"""Request -> Answer: name it, look, ask, keep. The way every question takes that is answered with text."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal, Protocol

import msgspec

from gateway import asking, policy
from gateway.asking import since_ms
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.errors import AnswerChanged, BackendError, NotKept
from gateway.flights.shared import Joined, SharedFlights
from gateway.naming import named, under
from gateway.policy import Terms
from gateway.router import Backend, Router
from gateway.steering import Steering
from storage.entry import Chunk, Entry, Query, usage_of
from storage.flights.record import Wanted
from storage.tiers import Looked

Status = Literal["hit", "miss", "coalesced", "bypass"]
"""`coalesced`: somebody had just asked the same, and this is what they are being answered. `bypass`: what is kept was
not looked at, because the client or the operator wants it so."""

Provenance = Literal["exact", "coalesced", "generated", "regenerated"]
"""What an answer is: a kept one to this very question; the one somebody else is being given now; new; or new although
one was kept, because that was not wanted or too old."""


class Tiers(Protocol):
    """Where answers are kept."""

    @property
    def epoch(self) -> int:
        """What an entry must carry that is asked for from now on."""
        ...

    async def get(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """The nearest entry of `key` that counts, promoted to the tiers above."""
        ...

    def in_memory(self, key: bytes, max_age_s: float | None = None) -> Entry | None:
        """The entry of `key` that counts, if the nearest tier has it."""
        ...

    def put(self, entry: Entry) -> bool:
        """Keep `entry`; False when it was taken back meanwhile."""
        ...

    def closed(self, query: Query) -> int:
        """What the epoch of an answer to `query` must be at least."""
        ...

    async def supersede(self, keys: Sequence[bytes], scope: str) -> int | None:
        """What is kept under `keys` counts no longer, anywhere; the number from which on entries do.

        None when others cannot be told: then what is kept has to stay.
        """
        ...


class Outcome(msgspec.Struct):
    """What became of an answer, once all of it was said."""

    kept: bool = False


class Answer(msgspec.Struct, frozen=True):
    """An answer on its way, new or old: both are the same stream of steps."""

    status: Status
    tier: str
    key: bytes
    chunks: AsyncGenerator[Chunk]
    provenance: Provenance
    kept: bool = True
    """Whether it is kept, or will be if all goes well."""
    origin_id: str | None = None
    """The `id` of the reply that the answer was first given in, if that is another one."""
    age_s: float = 0.0
    outcome: Outcome | None = None
    """What becomes of it; None where it is kept already, or by somebody else."""

    def is_kept(self) -> bool:
        """Whether it is kept, as far as is known: to be asked once its last step was heard."""
        return self.kept and (self.outcome is None or self.outcome.kept)


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How what a backend says is to be kept."""

    terms: Terms
    tags: tuple[str, ...]
    reply_id: str
    made_by: str
    stale: bool = False
    refresh: bool = False
    outcome: Outcome = msgspec.field(default_factory=Outcome)

    @property
    def provenance(self) -> Provenance:
        """What the model says for this request is."""
        return "regenerated" if self.refresh or self.stale else "generated"


class Pipeline:
    """Answers requests from `tiers`, and asks the backends of `router` for what is not there."""

    def __init__(
        self, tiers: Tiers, router: Router, flights: SharedFlights, policies: Sequence[PolicyConfig] = ()
    ) -> None:
        self._tiers = tiers
        self._router = router
        self._flights = flights
        self._policies = policies

    async def answer(self, request: Request, caller: Caller, steering: Steering, reply_id: str) -> Answer:
        """The answer to `request`. Raises `UnknownModel`, `InvalidRequest`, `NotKept` and `BackendError`."""
        backend = self._router.backend(request.model, caller.models)
        request = under(backend.name, request)
        query = await named(request, caller.scope, await backend.identity())
        terms = policy.terms(policy.of(self._policies, caller.scope, request.model), request, steering)
        looked = await self._tiers.get(query.key, terms.max_age_s) if terms.look else Looked()
        if (found := looked.found) is not None:
            steps = paced(found.entry) if steering.paced else replay(found.entry)
            age_s, origin_id = max(0.0, time.time() - found.entry.created_at), found.entry.origin_id
            return Answer("hit", found.tier, query.key, steps, "exact", origin_id=origin_id, age_s=age_s)
        wanted = Wanted(
            key=query.key,
            epoch=self._tiers.epoch,
            needs=self._tiers.closed(query),
            origin_id=reply_id,
            max_age_s=terms.max_age_s,
        )
        if steering.only_if_cached:
            if not terms.look or (landed := await self._flights.landed(wanted)) is None:
                raise NotKept
            return _heard(landed, query)
        plan = _plan(terms, caller, steering, reply_id, stale=looked.stale)
        if not (terms.look and terms.keep):  # what is not kept is not shared either
            status: Status = "miss" if terms.look else "bypass"
            steps = self._ask(backend, request, query, plan)
            return Answer(status, "backend", query.key, steps, plan.provenance, kept=terms.keep, outcome=plan.outcome)
        joined = await self._flights.join(
            wanted, lambda: self._ask_once(backend, request, query, plan), lambda: plan.outcome.kept
        )
        if joined.leads:
            return Answer("miss", "backend", query.key, joined.steps, plan.provenance, outcome=plan.outcome)
        return _heard(joined, query)

    async def whole(
        self, request: Request, caller: Caller, steering: Steering, reply_id: str
    ) -> tuple[Answer, list[Chunk]]:
        """The answer, and all its steps. Raises what `answer` and the steps raise.

        Who is told nothing before the end can be told what a second try says, although others had heard another.
        """
        try:
            return await self._whole(request, caller, steering, reply_id)
        except AnswerChanged:
            return await self._whole(request, caller, steering, reply_id)

    async def _whole(
        self, request: Request, caller: Caller, steering: Steering, reply_id: str
    ) -> tuple[Answer, list[Chunk]]:
        answer = await self.answer(request, caller, steering, reply_id)
        async with aclosing(answer.chunks) as steps:
            return answer, [step async for step in steps]

    async def _ask_once(self, backend: Backend, request: Request, query: Query, plan: _Plan) -> AsyncGenerator[Chunk]:
        """The backend's steps, unless somebody was answered the same since this request looked."""
        kept = self._tiers.in_memory(query.key, plan.terms.max_age_s)
        plan.outcome.kept = kept is not None
        async with aclosing(replay(kept) if kept else self._ask(backend, request, query, plan)) as steps:
            async for step in steps:
                yield step

    async def _ask(self, backend: Backend, request: Request, query: Query, plan: _Plan) -> AsyncGenerator[Chunk]:
        """The backend's steps; the answer is kept once the last one has come, and never before."""
        created_at, started, epoch = time.time(), time.monotonic(), self._tiers.epoch
        steps: list[Chunk] = []
        async with aclosing(asking.asked(backend, request)) as arriving:
            async for step in arriving:
                steps.append(step)
                yield step
        entry = Entry(
            query=query,
            origin_id=plan.reply_id,
            backend=backend.name,
            created_at=created_at,
            duration_ms=since_ms(started),
            chunks=tuple(steps),
            usage=usage_of(steps),
            epoch=epoch,
            tags=plan.tags,
            made_by=plan.made_by,
            replaces=plan.stale,
        )
        await self._keep(entry, plan)

    async def _keep(self, entry: Entry, plan: _Plan) -> None:
        """Keep `entry`, if the terms allow it. One asked for anew takes the place of the old one everywhere."""
        if not plan.terms.keep or entry.answer_bytes() > plan.terms.max_bytes:
            return
        if plan.refresh:
            if self._tiers.closed(entry.query) > entry.epoch:  # deleted while it was under way
                return
            epoch = await self._tiers.supersede([entry.query.key], entry.query.scope)
            if epoch is None:
                return
            entry = msgspec.structs.replace(entry, epoch=epoch, replaces=True)
        plan.outcome.kept = self._tiers.put(entry)
        if plan.refresh and plan.outcome.kept:
            await self._show(entry)

    async def _show(self, entry: Entry) -> None:
        """Have those hear `entry` who ask now: the old one is gone for them, and this one not yet in their tiers."""
        key, epoch = entry.query.key, entry.epoch
        wanted = Wanted(key=key, epoch=epoch, needs=epoch, origin_id=entry.origin_id)
        with contextlib.suppress(BackendError):  # the gateway is closing: then nobody asks here
            async with aclosing((await self._flights.join(wanted, lambda: replay(entry))).steps) as steps:
                async for _ in steps:
                    pass


def _heard(joined: Joined, query: Query) -> Answer:
    """What somebody else is being answered."""
    age_s = max(0.0, time.time() - joined.begun_at) if joined.begun_at else 0.0
    return Answer("coalesced", "flight", query.key, joined.steps, "coalesced", origin_id=joined.origin_id, age_s=age_s)


def _plan(terms: Terms, caller: Caller, steering: Steering, reply_id: str, *, stale: bool = False) -> _Plan:
    return _Plan(
        terms=terms,
        tags=steering.tags,
        reply_id=reply_id,
        made_by=caller.key_id,
        stale=stale,
        refresh=steering.no_cache,
    )


async def replay(entry: Entry) -> AsyncGenerator[Chunk]:
    """The steps of a kept answer, as they were."""
    for step in entry.chunks:
        yield step


async def paced(entry: Entry) -> AsyncGenerator[Chunk]:
    """The same, each as long after the first question as it was when the model said it."""
    started = time.monotonic()
    for step in entry.chunks:
        await asyncio.sleep(step.after_ms / 1000 - (time.monotonic() - started))
        yield step
