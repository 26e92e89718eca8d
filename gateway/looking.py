"""A request and those who may answer it in; its name under theirs, and what is kept of it, out."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from gateway import policy
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.naming import named, under
from gateway.policy import Terms
from gateway.routing.pool import Pool
from gateway.routing.rank import Rank
from gateway.routing.route import Route
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Query
from storage.tiers import Found, Looked

_NO_WISHES = Steering()


class Tiers(Protocol):
    """Where answers are kept."""

    async def get(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """The nearest entry of `key` that counts, promoted to the tiers above."""
        ...


class Named(msgspec.Struct, frozen=True):
    """A request as one group of backends would be asked, and what is kept of it."""

    request: Request
    query: Query
    terms: Terms
    looked: Looked


class Near(msgspec.Struct, frozen=True):
    """What is kept of a question that means the same as the one that was asked."""

    found: Found
    key: bytes
    """Of the question that was asked. Under it nothing is kept."""
    similarity: float


class Preview(msgspec.Struct, frozen=True):
    """A request without wishes, looked up under those who should answer it."""

    caller: Caller
    pool: Pool
    rank: Rank
    named: Mapping[Route, Named]
    """Those that were looked up."""
    hit: tuple[Route, Named, Found] | None = None
    """The kept answer, and whose it is."""

    @property
    def route(self) -> Route:
        """Whose answer it would be."""
        return self.hit[0] if self.hit else self.rank.routes[0]

    @property
    def until(self) -> float | None:
        """When the kept answer will be too old, in seconds since the epoch; None for never."""
        if (hit := self.hit) is None or hit[1].terms.max_age_s is None:
            return None
        return hit[2].entry.created_at + hit[1].terms.max_age_s

    def of(self, rank: Rank, caller: Caller) -> Mapping[Route, Named]:
        """What was looked up already, where it is the same that is to be."""
        return self.named if caller == self.caller and rank.routes == self.rank.routes else {}


class Ground(msgspec.Struct, frozen=True):
    """On what a kept answer is given."""

    pool: Pool
    rank: Rank
    route: Route
    """Whose answer it is."""
    max_age_s: float | None
    """How old it may be."""


class Looker:
    """Looks into `tiers`, under the names of the backends of `router`."""

    def __init__(self, tiers: Tiers, router: Router, policies: Sequence[PolicyConfig]) -> None:
        self._tiers = tiers
        self._router = router
        self._policies = policies

    async def at(self, route: Route, request: Request, caller: Caller, steering: Steering) -> Named:
        """What a group would be asked, and what is kept of its answers. Raises `InvalidRequest`."""
        asked = under(route.model, request)
        query = await named(asked, caller.scope, route.identity)
        terms = policy.terms(policy.of(self._policies, caller.scope, route.model), asked, steering)
        looked = await self._tiers.get(query.key, terms.max_age_s) if terms.look else Looked()
        return Named(asked, query, terms, looked)

    async def preview(self, request: Request, caller: Caller) -> Preview | None:
        """A request that comes without wishes, looked up; None while it is not known who should answer.

        Raises `UnknownModel` and `InvalidRequest`.
        """
        pool = self._router.model(request.model, caller.models)
        if (rank := await pool.foremost(caller.models)) is None:
            return None
        known: dict[Route, Named] = {}
        for route in rank.looked():
            one = known[route] = await self.at(route, request, caller, _NO_WISHES)
            if one.looked.found is not None:
                return Preview(caller, pool, rank, known, (route, one, one.looked.found))
        return Preview(caller, pool, rank, known)

    def ground(self, asked: str, caller: Caller, *, sampled: bool) -> Ground | None:
        """On what an answer is given to who asks for the model `asked` without wishes, of those who are looked up
        first; None while somebody would have to be asked who they are, and where nothing kept may be given.

        `sampled`: whether asking again would give another answer. Raises `UnknownModel`.
        """
        pool = self._router.model(asked, caller.models)
        if (rank := pool.settled(caller.models)) is None:
            return None
        first = rank.looked()[0]
        rules = policy.of(self._policies, caller.scope, first.model)
        return None if sampled and not rules.keep_sampled else Ground(pool, rank, first, rules.ttl_s)
