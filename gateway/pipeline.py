"""Request -> Answer: name it, look, ask, keep. The way every question takes that is answered with text."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal, Protocol

import msgspec

from gateway.asking import since_ms
from gateway.begun import Begun, BrokenOff
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.errors import AnswerChanged, BackendError, NotKept, RequestError, may_pass, passed
from gateway.flights.shared import Joined, SharedFlights
from gateway.looking import Looker, Named, Near, Preview
from gateway.policy import Terms
from gateway.routing.calling import Asking
from gateway.routing.rank import Rank
from gateway.routing.route import Route
from gateway.routing.router import Router
from gateway.steering import Steering
from gateway.steps import Batches, Steps, together
from storage.entry import Chunk, Entry, Kind, Query, Usage, usage_of
from storage.flights.record import Wanted
from storage.ledger import Cache
from storage.tiers import Found, Looked

Status = Literal["hit", "semantic", "miss", "coalesced", "bypass"]
"""`semantic`: what is kept of a question that means the same. `coalesced`: somebody had just asked the same, and this
is what they are being answered. `bypass`: what is kept was not looked at, because somebody wants it so."""

Provenance = Literal["exact", "semantic", "coalesced", "generated", "regenerated"]
"""What an answer is: a kept one to this very question; one to another that means the same; the one somebody else is
being given now; new; or new although one was kept, because that was not wanted or too old."""


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
    foreign: bool = False
    """Whether somebody else answered than the key names, as far as is known."""
    tags: tuple[str, ...] = ()
    """The words that it was given to find or delete it by."""
    asked_at: float | None = None
    """When its model was asked, in seconds since the epoch, as far as is known."""


class Ledger(Protocol):
    """Where it is written down what was answered, and what that cost or saved."""

    def note(self, tenant: str, model: str, kind: Kind, cache: Cache, usage: Usage, requests: int = 1) -> None:
        """Count `requests`."""
        ...


class Hits(Protocol):
    """Where it is written down how often each kept answer is given."""

    def note(self, key: bytes, count: int = 1) -> None:
        """Count it."""
        ...


class Reuse(Protocol):
    """Who knows what is kept of other questions that mean the same. Nothing here raises, or takes long."""

    async def found(self, named: Named, caller: Caller, steering: Steering) -> Near | None:
        """What may be given in place of an answer to this."""
        ...

    def compare(self, named: Named, caller: Caller, entry: Entry) -> None:
        """Write down, soon, what would have been given in place of this answer."""
        ...


class Answer(msgspec.Struct, frozen=True):
    """An answer on its way, new or old: both are the same stream of steps."""

    status: Status
    tier: str
    query: Query
    """Whose answer it is: that is another one than was asked, where it is `near`."""
    chunks: AsyncGenerator[Chunk]
    provenance: Provenance
    kept: bool = True
    """Whether it is kept, or will be if all goes well."""
    origin_id: str | None = None
    """The `id` of the reply that the answer was first given in, if that is another one."""
    age_s: float = 0.0
    outcome: Outcome = msgspec.field(default_factory=lambda: Outcome(kept=True))
    """What becomes of it."""
    backend: str = ""
    """The replica that says it, or said it first."""
    fallback: str = ""
    """Who should have answered, if it was another one."""
    near: Near | None = None

    @property
    def key(self) -> bytes:
        """The name of what it answers."""
        return self.query.key

    def is_kept(self) -> bool:
        """Whether it is kept, as far as is known: to be asked once its last step was heard."""
        return self.kept and self.outcome.kept


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How what a backend says is to be kept."""

    terms: Terms
    tags: tuple[str, ...]
    reply_id: str
    made_by: str
    stale: bool = False
    refresh: bool = False
    outcome: Outcome = msgspec.field(default_factory=Outcome)
    compare: Callable[[Entry], None] | None = None
    """Who wants to see the answer."""

    @property
    def provenance(self) -> Provenance:
        """What the model says for this request is."""
        return "regenerated" if self.refresh or self.stale else "generated"


class _Flown(msgspec.Struct, frozen=True):
    """A question on its way to one group of backends."""

    route: Route
    request: Request
    query: Query
    plan: _Plan
    tenant: str
    asking: Asking
    broken: tuple[str, ...] = ()
    """Replicas whose answer broke off before any of it was sent."""

    def may_go_on(self, error: BackendError) -> bool:
        """Whether another replica is to be tried after `error`."""
        return may_pass(error) and len(self.broken) <= self.route.retries and self.route.has_others(self.broken)


class Pipeline:
    """Answers requests from `tiers`, and asks the backends of `router` for what is not there."""

    def __init__(  # noqa: PLR0913 -- each by name, from the composition root
        self,
        tiers: Tiers,
        router: Router,
        flights: SharedFlights,
        policies: Sequence[PolicyConfig] = (),
        ledger: Ledger | None = None,
        hits: Hits | None = None,
        reuse: Reuse | None = None,
    ) -> None:
        self._tiers = tiers
        self._router = router
        self._flights = flights
        self._looker = Looker(tiers, router, policies)
        self._ledger = ledger
        self._hits = hits
        self._reuse = reuse

    async def preview(self, request: Request, caller: Caller) -> Preview | None:
        """What is kept of a request without wishes, by those who should answer it; None while these are not known.

        Raises `UnknownModel` and `InvalidRequest`.
        """
        return await self._looker.preview(request, caller)

    async def answer(
        self, request: Request, caller: Caller, steering: Steering, reply_id: str, preview: Preview | None = None
    ) -> Answer:
        """The answer to `request`, its first step there; when it is to be sent whole, all of them.

        Each group of backends that may answer is looked up, and asked if it can be, until there is an answer. What a
        group says is named after that group, kept under its name, and never under that of another. What is in `preview`
        is not looked up again.

        Raises `UnknownModel`, `InvalidRequest`, `NotKept` and `BackendError`.
        """
        asking, fault = Asking(caller.scope, time.monotonic()), None
        pool = self._router.model(request.model, caller.models)
        async with aclosing(pool.ranks(caller.models, lambda: fault is not None)) as ranks:
            async for rank in ranks:
                named_as = dict(preview.of(rank, caller)) if preview else {}
                if (answer := await self._looked(rank, named_as, request, caller, steering)) is not None:
                    return answer
                for route in _order(rank, named_as, caller):
                    if steering.only_if_cached:
                        return await self._landed(named_as, caller)
                    known = named_as[route]
                    plan = self._plan(known, caller, steering, reply_id)
                    try:
                        return await self._flown(_Flown(route, known.request, known.query, plan, caller.tenant, asking))
                    except (BackendError, RequestError) as error:
                        fault = passed(error, fault)
        if steering.only_if_cached:
            raise NotKept
        raise fault or pool.refusal()

    async def _looked(
        self, rank: Rank, named_as: dict[Route, Named], request: Request, caller: Caller, steering: Steering
    ) -> Answer | None:
        """A kept answer of one of a rank's groups. How each is asked is in `named_as` then."""
        for route in rank.looked():
            known = named_as.get(route) or await self._looker.at(route, request, caller, steering)
            named_as[route] = known
            if (found := known.looked.found) is not None:
                self._note(caller.tenant, known.query, "hit", found.entry.usage)
                return kept(found, route, paced_out=steering.paced)
        return await self._near(named_as, caller, steering)

    async def _near(self, named_as: Mapping[Route, Named], caller: Caller, steering: Steering) -> Answer | None:
        """What is kept of a question that means the same, where that will do."""
        for route, known in named_as.items():
            if self._reuse is None or known.terms.near is None:
                continue
            if (near := await self._reuse.found(known, caller, steering)) is not None:
                entry = near.found.entry
                self._note(caller.tenant, entry.query, "semantic", entry.usage)
                told = kept(near.found, route, paced_out=steering.paced)
                return msgspec.structs.replace(told, status="semantic", provenance="semantic", near=near)
        return None

    def _plan(self, known: Named, caller: Caller, steering: Steering, reply_id: str) -> _Plan:
        reuse, near = self._reuse, known.terms.near
        compared = reuse is not None and near is not None and near.mode == "shadow"
        return _Plan(
            terms=known.terms,
            tags=steering.tags,
            reply_id=reply_id,
            made_by=caller.key_id,
            stale=known.looked.stale,
            refresh=steering.no_cache,
            compare=partial(reuse.compare, known, caller) if reuse and compared else None,
        )

    async def _flown(self, flown: _Flown) -> Answer:
        """The answer that a group gives, or is giving already. Nothing of it has been sent, so that one that breaks off
        before it is to be sent is asked for again.
        """
        while True:
            answer = await self._joined(flown)
            try:
                answer = await self._begun(answer, flown.tenant, whole=not flown.request.stream)
            except BrokenOff as broken:
                flown = msgspec.structs.replace(flown, broken=(*flown.broken, broken.backend))
                if flown.request.stream or not flown.may_go_on(broken.error):
                    raise broken.error from broken
                continue
            flown.route.answered()
            return answer

    async def _joined(self, flown: _Flown) -> Answer:
        """Ask, or listen to what somebody else is being answered."""
        query, plan, terms = flown.query, flown.plan, flown.plan.terms
        fallback = flown.route.fallback
        if not (terms.look and terms.keep):  # what is not kept is not shared either
            status: Status = "miss" if terms.look else "bypass"
            steps = Steps(self._ask(flown))
            return Answer(
                status,
                "backend",
                query,
                steps,
                plan.provenance,
                kept=terms.keep,
                outcome=plan.outcome,
                fallback=fallback,
            )
        wanted = self._wanted(query, terms, plan.reply_id, plan.tags)
        joined = await self._flights.join(wanted, lambda: self._ask_once(flown), lambda: plan.outcome.kept)
        if joined.leads:
            return Answer(
                "miss", "backend", query, joined.steps, plan.provenance, outcome=plan.outcome, fallback=fallback
            )
        return _heard(joined, query, fallback)

    async def _landed(self, looked: Mapping[Route, Named], caller: Caller) -> Answer:
        """What another gateway has just answered, though it is in no tier yet. Raises `NotKept`."""
        for route, known in looked.items():
            wanted = self._wanted(known.query, known.terms)
            if not known.terms.look or (joined := await self._flights.landed(wanted)) is None:
                continue
            return await self._begun(_heard(joined, known.query, route.fallback), caller.tenant, whole=True)
        raise NotKept

    async def _begun(self, answer: Answer, tenant: str, *, whole: bool) -> Answer:
        """`answer`, its first step there. Raises `BrokenOff`."""
        begun = await Begun.of(answer.chunks, whole=whole)
        if answer.status == "coalesced":
            begun.on_usage = partial(self._note, tenant, answer.query, "coalesced")
        return msgspec.structs.replace(answer, chunks=begun, backend=begun.first.backend if begun.first else "")

    def _wanted(self, query: Query, terms: Terms, reply_id: str = "", tags: tuple[str, ...] = ()) -> Wanted:
        return Wanted(
            key=query.key,
            epoch=self._tiers.epoch,
            needs=self._tiers.closed(query),
            origin_id=reply_id,
            tags=tags,
            max_age_s=terms.max_age_s,
        )

    async def whole(
        self, request: Request, caller: Caller, steering: Steering, reply_id: str, preview: Preview | None = None
    ) -> tuple[Answer, list[Chunk]]:
        """The answer, and all its steps. Raises what `answer` and the steps raise.

        Who is told nothing before the end can be told what a second try says, although others had heard another.
        """
        try:
            return await self._whole(request, caller, steering, reply_id, preview)
        except AnswerChanged:
            return await self._whole(request, caller, steering, reply_id)

    async def _whole(
        self, request: Request, caller: Caller, steering: Steering, reply_id: str, preview: Preview | None = None
    ) -> tuple[Answer, list[Chunk]]:
        answer = await self.answer(request, caller, steering, reply_id, preview)
        async with aclosing(together(answer.chunks)) as arriving:
            return answer, [step async for some in arriving for step in some]

    def _ask_once(self, flown: _Flown) -> AsyncGenerator[Chunk]:
        """The backend's steps, unless somebody was answered the same since this request looked."""
        kept = self._tiers.in_memory(flown.query.key, flown.plan.terms.max_age_s)
        flown.plan.outcome.kept = kept is not None
        flown.plan.outcome.tags = kept.tags if kept else flown.plan.tags
        flown.plan.outcome.asked_at = kept.created_at if kept else None
        if kept is not None:
            self._note(flown.tenant, flown.query, "hit", kept.usage)
        return replay(kept) if kept else Steps(self._ask(flown))

    async def _ask(self, flown: _Flown) -> Batches:
        """The backend's steps; the answer is kept once the last one has come, and never before."""
        created_at, started, epoch = time.time(), time.monotonic(), self._tiers.epoch
        plan = flown.plan
        plan.outcome.asked_at = created_at
        call = flown.route.call(flown.asking, prompt=flown.query.prompt, broken=flown.broken)
        steps: list[Chunk] = []
        async with aclosing(together(call.complete(flown.request))) as arriving:
            async for some in arriving:
                steps.extend(some)
                yield some
        entry = Entry(
            query=flown.query,
            origin_id=plan.reply_id,
            backend=call.backend,
            created_at=created_at,
            duration_ms=since_ms(started),
            chunks=tuple(steps),
            usage=usage_of(steps),
            epoch=epoch,
            tags=plan.tags,
            made_by=plan.made_by,
            replaces=plan.stale,
            fallback=flown.route.fallback,
        )
        self._note(flown.tenant, flown.query, "generated", entry.usage)
        plan.outcome.foreign = not await call.unchanged()
        if not plan.outcome.foreign:
            await self._keep(entry, plan)

    def _note(self, tenant: str, query: Query, cache: Cache, usage: Usage) -> None:
        if self._ledger is not None:
            self._ledger.note(tenant, query.model, query.kind, cache, usage)
        if self._hits is not None and cache in {"hit", "semantic"}:
            self._hits.note(query.key)

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
        if plan.compare is not None and plan.outcome.kept:
            plan.compare(entry)
        if plan.refresh and plan.outcome.kept:
            await self._show(entry)

    async def _show(self, entry: Entry) -> None:
        """Have those hear `entry` who ask now: the old one is gone for them, and this one not yet in their tiers."""
        key, epoch = entry.query.key, entry.epoch
        wanted = Wanted(key=key, epoch=epoch, needs=epoch, origin_id=entry.origin_id, tags=entry.tags)
        with contextlib.suppress(BackendError):  # the gateway is closing: then nobody asks here
            async with aclosing((await self._flights.join(wanted, lambda: replay(entry))).steps) as steps:
                async for _ in steps:
                    pass


def _order(rank: Rank, named_as: Mapping[Route, Named], caller: Caller) -> Iterator[Route]:
    """Those of a rank that can be asked, and were looked up."""
    prompt = next(iter(named_as.values())).query.prompt
    return (route for route in rank.asked(prompt, caller.scope) if route in named_as)


def _heard(joined: Joined, query: Query, fallback: str) -> Answer:
    """What somebody else is being answered."""
    return Answer(
        "coalesced",
        "flight",
        query,
        joined.steps,
        "coalesced",
        origin_id=joined.origin_id,
        age_s=max(0.0, time.time() - joined.begun_at) if joined.begun_at else 0.0,
        outcome=Outcome(kept=True, tags=joined.tags, asked_at=joined.begun_at or None),
        fallback=fallback,
    )


def kept(found: Found, route: Route, *, paced_out: bool = False) -> Answer:
    """A kept answer."""
    entry = found.entry
    return Answer(
        "hit",
        found.tier,
        entry.query,
        paced(entry) if paced_out else replay(entry),
        "exact",
        origin_id=entry.origin_id,
        age_s=max(0.0, time.time() - entry.created_at),
        outcome=Outcome(kept=True, tags=entry.tags, asked_at=entry.created_at),
        backend=entry.backend,
        fallback=route.fallback,
    )


def replay(entry: Entry) -> AsyncGenerator[Chunk]:
    """The steps of a kept answer, as they were."""
    return Steps(_all(entry))


async def _all(entry: Entry) -> Batches:
    if entry.chunks:
        yield entry.chunks


async def paced(entry: Entry) -> AsyncGenerator[Chunk]:
    """The same, each as long after the first question as it was when the model said it."""
    started = time.monotonic()
    for step in entry.chunks:
        await asyncio.sleep(step.after_ms / 1000 - (time.monotonic() - started))
        yield step
