"""Replies that are ready to be given again, found by the bytes that they answer.

A shortcut, and no other truth: one is given only while everything that the long way would look at is as it was when it
was made: the entry in memory, what was deleted, the caller's key, the policy, and who would answer.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

import cachetools
import msgspec

from gateway.access import Access
from gateway.caller import Caller
from gateway.looking import Preview
from gateway.routing.pool import Pool
from gateway.routing.rank import Rank
from gateway.routing.route import Route
from gateway.telemetry import Telemetry
from gateway.wire.reply import Head
from storage.entry import HEAD_BYTES, Encoded, Entry, Kind, Usage, head
from storage.hits import Hits
from storage.invalidations import Invalidations
from storage.ledger import Ledger
from storage.memory import MemoryTier

OVERHEAD_BYTES: Final = 1500
"""What one costs beside its bytes: about as much as its strings, tuples and structs."""
STANDINGS: Final = 1024
_SETTLE_S: Final = 1.0
_DIGITS: Final = 10
"""Of a time in seconds, until the year 2286."""

Stamp = tuple[int, int]
"""When something was looked up: the last change of keys, and of settings."""
Place = tuple[bytes, ...]
"""All bytes of a request that decide what it is answered."""


class Form(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A reply with holes where each reply has an id and a time of its own. They are of one length for all."""

    prefix: bytes
    """What ids begin with."""
    between: bytes
    """What stands between the id and the time."""
    pieces: tuple[bytes, ...]
    """What stands between the holes."""
    lines: bytes
    """The headers that every reply has, as they are sent."""

    @property
    def size(self) -> int:
        """What it holds of memory, in bytes."""
        return sum(map(len, self.pieces)) + len(self.lines)

    def reply(self, date: bytes, tier: bytes, age_s: int) -> bytes:
        """One more, from the status to the last byte. `date` is a header as it is sent."""
        own = b"%b%b%b%d" % (self.prefix, secrets.token_hex(16).encode(), self.between, time.time())
        return b"HTTP/1.1 200 OK\r\n%b%bx-askonce-tier: %b\r\nage: %d\r\n\r\n%b" % (
            date,
            self.lines,
            tier,
            age_s,
            own.join(self.pieces),
        )


_ID: Final = secrets.token_hex(16)
_CREATED: Final = 10 ** (_DIGITS - 1) + secrets.randbelow(10**9)
"""What stands in the holes while a form is made: nobody else knows it, so no answer has it in it."""


def form(prefix: str, model: str, render: Callable[[Head], bytes], headers: Mapping[str, str]) -> Form:
    """What `render` makes of any head of an exact hit, as a form. `headers` are those that do not change."""
    head = Head(prefix + _ID, _CREATED, model, "exact")
    content = render(head)
    begin = content.index(head.id.encode())
    end = content.index(b"%d" % _CREATED, begin) + _DIGITS
    pieces = tuple(content.split(content[begin:end]))
    between = content[begin + len(head.id) : end - _DIGITS]
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return Form(prefix.encode(), between, pieces, f"{lines}content-length: {len(content)}\r\n".encode("latin-1"))


class Marks(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is looked at of an answer whenever it is given: not the answer itself, which may be long."""

    scope: str
    model: str
    key: bytes
    prompt_hash: bytes
    kind: Kind
    usage: Usage
    epoch: int
    tags: tuple[str, ...]
    created_at: float

    @classmethod
    def of(cls, entry: Entry) -> "Marks":
        """Those of `entry`."""
        query = entry.query
        return cls(
            query.scope,
            query.model,
            query.key,
            query.prompt_hash,
            query.kind,
            entry.usage,
            entry.epoch,
            entry.tags,
            entry.created_at,
        )

    @property
    def age_s(self) -> int:
        """How old it is, in whole seconds."""
        return max(0, int(time.time() - self.created_at))


class Standing:
    """Who asked, and who would answer: what many replies stand on together. Looked at once a tick of the clock."""

    __slots__ = ("_access", "_changes", "_checked_at", "_holds", "_pool", "_rank", "_route", "caller")

    def __init__(self, access: Access, changes: int, caller: Caller, pool: Pool, rank: Rank, route: Route) -> None:
        """`changes`: the last change of keys before the caller was told."""
        self.caller = caller
        self._access = access
        self._changes = changes
        self._pool = pool
        self._rank = rank
        self._route = route
        self._checked_at = -1.0
        self._holds = False

    def holds(self, now: float) -> bool:
        """Whether it would be found again, without asking anybody. `now` is the loop's time."""
        if self._changes != self._access.changes:
            return False
        if self._checked_at != now:
            self._checked_at = now
            self._holds = self._access.still(self.caller) and self._pool.still(self._rank) and self._is_looked_up()
        return self._holds

    def _is_looked_up(self) -> bool:
        return len(self._rank.routes) == 1 or self._route in self._rank.looked()


class Ready:
    """A form, and all that it stands on."""

    __slots__ = ("closed", "data", "form", "hits", "marks", "place", "replaced", "size", "standing", "until")

    def __init__(self, form: Form, marks: Marks, data: bytes, standing: Standing, until: float | None) -> None:
        """`data`: the entry as the memory tier has it. `until`: when it will be too old, in seconds since the epoch."""
        self.form = form
        self.marks = marks
        self.data = data
        self.standing = standing
        self.until = until
        self.place: Place = ()
        self.closed = self.replaced = -1
        """The last invalidation, and the last replacement in memory, that are known not to touch it."""
        self.hits = 0
        self.size = 0


class Notes:
    """Where hits are counted: in the metrics, in the ledger, and by answer."""

    def __init__(self, telemetry: Telemetry, ledger: Ledger, hits: Hits) -> None:
        self._telemetry = telemetry
        self._ledger = ledger
        self._hits = hits
        self._waiting: dict[tuple[str, str, Kind, str], tuple[int, Usage]] = {}

    def replied(self, tenant: str, marks: Marks, tier: str, hits: int = 1) -> None:
        """So many more replies."""
        self._hits.note(marks.key, hits)
        place = (tenant, marks.model, marks.kind, tier)
        before, used = self._waiting.get(place, (0, Usage()))
        usage = marks.usage
        self._waiting[place] = (
            before + hits,
            Usage(
                used.prompt_tokens + hits * usage.prompt_tokens,
                used.completion_tokens + hits * usage.completion_tokens,
                None,
                used.cost_micro_usd + hits * usage.cost_micro_usd,
            ),
        )

    def settle(self) -> None:
        """Show what was counted."""
        waiting, self._waiting = self._waiting, {}
        for (tenant, model, kind, tier), (hits, usage) in waiting.items():
            self._telemetry.replied(tenant, kind, model, "hit", tier, hits)
            self._ledger.note(tenant, model, kind, "hit", usage, hits)


class Shelf:
    """All that are ready, bounded in bytes; those that were not given for longest go first."""

    def __init__(
        self, max_bytes: int, memory: MemoryTier, invalidations: Invalidations, access: Access, notes: Notes
    ) -> None:
        self._ready: cachetools.LRUCache[Place, Ready] = cachetools.LRUCache(max_bytes, getsizeof=_size)
        self._standings: cachetools.LRUCache[tuple[object, ...], Standing] = cachetools.LRUCache(STANDINGS)
        self._memory = memory
        self._invalidations = invalidations
        self._access = access
        self._notes = notes
        self._given: list[Ready] = []
        """Those with replies that are not counted yet."""
        self._settling: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._cleared = 0
        """How often the settings have changed."""

    def reply(self, place: Place, date: bytes) -> bytes | None:
        """The reply to what has these bytes, if there is one; it counts as given. `date` is a header as it is sent."""
        ready = self._ready.get(place)
        if ready is None:
            return None
        if not self._stands(ready):
            del self._ready[place]
            return None
        if not ready.hits:
            self._given.append(ready)
            self._settle_soon()
        ready.hits += 1
        return ready.form.reply(date, b"memory", ready.marks.age_s)

    @property
    def stamp(self) -> Stamp:
        """To be taken before anything is looked up that a reply will stand on."""
        return self._access.changes, self._cleared

    def made(self, form: Form, entry: Entry, preview: Preview, since: Stamp) -> Ready:
        """`form` of what `preview` has found, looked up `since` then."""
        standing = self.standing(preview.caller, preview.pool, preview.rank, preview.route, since)
        # Of what was looked up before the settings changed nothing stays.
        data = self._memory.data(entry.query.key) if since == self.stamp else None
        return Ready(form, Marks.of(entry), data or b"", standing, preview.until)

    def standing(self, caller: Caller, pool: Pool, rank: Rank, route: Route, since: Stamp) -> Standing:
        """What replies to `caller` stand on that this route would give, as was found out since then."""
        name = (caller, since, rank, route)
        if (standing := self._standings.get(name)) is None:
            standing = self._standings[name] = Standing(self._access, since[0], caller, pool, rank, route)
        return standing

    def holds(self, standing: Standing) -> bool:
        """Whether it would be found again now, without asking anybody."""
        return standing.holds(self._loop.time())

    def taken(
        self, form: Form, marks: Marks, encoded: Encoded, standing: Standing, until: float | None
    ) -> Ready | None:
        """A reply that was made elsewhere of this entry, which is in memory from now on. None where the long way might
        come to another one: it would have to ask, or it has another one already.
        """
        known = self._invalidations.known and marks.epoch <= self._invalidations.epoch
        if not known or not self._invalidations.silent_on(marks, marks.tags, marks.epoch):
            return None
        if (until is not None and time.time() > until) or not self.holds(standing):
            return None
        data = self._memory.put(encoded)
        if data is None or data[:HEAD_BYTES] != encoded.data[:HEAD_BYTES]:
            return None
        return Ready(form, marks, data, standing, until)

    def given(self, ready: Ready, tier: str, place: Place) -> None:
        """It was given for the first time; have it ready from now on."""
        self._notes.replied(ready.standing.caller.tenant, ready.marks, tier)
        self._settle_soon()
        self._put(ready, place)

    def put(self, form: Form, entry: Entry, standing: Standing, until: float | None, place: Place) -> None:
        """Have a reply ready that was not given yet, made of what is in memory."""
        if (data := self._memory.data(entry.query.key)) is not None and data[:HEAD_BYTES] == head(entry):
            self._put(Ready(form, Marks.of(entry), data, standing, until), place)

    def _put(self, ready: Ready, place: Place) -> None:
        """Have it ready for what has these bytes, unless it alone is larger than the bound."""
        ready.size = ready.form.size + sum(map(len, place)) + OVERHEAD_BYTES
        if ready.data and ready.size <= self._ready.maxsize:
            ready.place = place
            self._ready[place] = ready

    def clear(self) -> None:
        """Nothing is ready any more: the settings have changed."""
        self._cleared += 1
        self._ready.clear()
        self._standings.clear()

    def settle(self) -> None:
        """Count what was given. What memory has let go of meanwhile is not ready any more."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        given, self._given = self._given, []
        for ready in given:
            hits, ready.hits = ready.hits, 0
            self._notes.replied(ready.standing.caller.tenant, ready.marks, "memory", hits)
            if not self._memory.has(ready.marks.key, ready.data):
                self._ready.pop(ready.place, None)
        self._notes.settle()

    def _settle_soon(self) -> None:
        if self._settling is None:
            self._settling = self._loop.call_later(_SETTLE_S, self.settle)

    def _stands(self, ready: Ready) -> bool:
        """Whether the long way would come to the same entry, without asking anybody."""
        if ready.until is not None and time.time() > ready.until:
            return False
        if ready.closed != self._invalidations.changes:
            marks = ready.marks
            if self._invalidations.known and not self._invalidations.silent_on(marks, marks.tags, marks.epoch):
                return False
            ready.closed = self._invalidations.changes
        if ready.replaced != self._memory.replaced:
            if not self._memory.has(ready.marks.key, ready.data):
                return False
            ready.replaced = self._memory.replaced
        return ready.standing.holds(self._loop.time())


def _size(ready: Ready) -> int:
    return ready.size
