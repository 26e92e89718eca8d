"""Ready replies of all gateways that share a Redis: who has just started gives them as if it had made them.

One that was made elsewhere stands on the same as one's own, and is looked at as closely: the key, the policy, what was
deleted, who would answer.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec

from gateway import key
from gateway.access import Access, presented
from gateway.caller import Caller
from gateway.canonical import Identity, Request
from gateway.errors import RequestError
from gateway.looking import Ground
from gateway.policy import is_sampled
from gateway.ready import Form, Marks, Place, Ready, Shelf, Stamp, Standing
from storage.entry import Entry, head
from storage.lookups import Then
from storage.prepared import Given, Prepared

K = TypeVar("K")
V = TypeVar("V")

_LOG = logging.getLogger("askonce")

MAX_BYTES: Final = 4096
"""Larger replies are made anew from their entries: they would take more of Redis than these do."""
_REMEMBERED: Final = 1024
"""Callers, and what they stand on; when there are more, all are found out again."""
_LATELY: Final = 32
_RARE: Final = 1 / 64
"""Where fewer are found, only one of `_SELDOM` is asked for; the first that is found is above it again."""
_SELDOM: Final = 16
_LONG_BYTES: Final = 1024
"""Who says who it is in more than these is found out each time: a thousand of them would be a heap."""
_MADE: Final = key.VERSION + b"/1"
"""The number goes up when requests are read, or replies to them made, in another way."""


class _Whose(msgspec.Struct, frozen=True, array_like=True):
    """Whose answer it is, and to which question."""

    asked: str
    """The name that the client called the model by."""
    model: str
    identity: Identity
    fallback: str
    """Who should have answered, if another one did."""
    sampled: bool
    """Whether asking again would have given another answer."""


class _Shared(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is kept of a reply."""

    form: Form
    marks: Marks
    whose: bytes
    """Encoded: the same for very many."""


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(_Shared).decode
_DECODE_WHOSE: Final = msgspec.msgpack.Decoder(_Whose).decode


class _Asker(msgspec.Struct, frozen=True):
    """Who asks."""

    caller: Caller
    changes: int
    """The last change of keys before the caller was told."""
    name: bytes
    """Part of the digests of all that is asked in this scope."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, as it is said."""

    place: Place
    caller: Caller
    question: Request
    form: Form
    entry: Entry
    fallback: str
    """Who should have answered, if another one did."""

    def whose(self) -> bytes:
        """Whose answer it is, encoded."""
        query = self.entry.query
        identity = Identity(query.engine, query.engine_version, query.model_version)
        sampled = is_sampled(self.question.params)
        return _ENCODE(_Whose(self.question.model, query.model, identity, self.fallback, sampled))


class _Footing(msgspec.Struct, frozen=True):
    """What replies stand on, and how old they may be."""

    since: Stamp
    standing: Standing
    max_age_s: float | None

    def until(self, created_at: float) -> float | None:
        """When an answer is too old that was made then, in seconds since the epoch; None for never."""
        return None if self.max_age_s is None else created_at + self.max_age_s


class Kept(Protocol):
    """Where they are kept."""

    def ask(self, digest: bytes, then: Then[Given]) -> None:
        """Have `then` told the reply of this digest, soon."""
        ...

    def keep(self, item: Prepared) -> None:
        """Keep a reply soon."""
        ...


class Looker(Protocol):
    """Knows on what kept answers are given."""

    def ground(self, asked: str, caller: Caller, *, sampled: bool) -> Ground | None:
        """On what those are to who asks for this model. Raises `UnknownModel`."""
        ...


class PreparedReplies:
    """Those that are kept, as far as they may be given here."""

    def __init__(
        self, kept: Kept, looker: Looker, shelf: Shelf, access: Access, admits: Callable[[bytes, bytes], bool]
    ) -> None:
        """`admits`: whether what has this host and origin is answered at all."""
        self.kept = kept
        self._looker = looker
        self._shelf = shelf
        self._access = access
        self._admits = admits
        self._found = 1.0
        """Of those that were asked for lately, how many there were."""
        self._passed = 0
        self._askers: dict[Place, _Asker] = {}
        self._footings: dict[tuple[Caller, bytes], _Footing] = {}

    def ask(self, place: Place, then: Callable[[Ready | None], None]) -> bool:
        """Have `then` told the reply to what has these bytes: None when there is none, or the long way might come to
        another. False when it is not known who asks, or whether it may, and mostly where hardly anything is found.
        """
        asker = self._asker(place)
        if asker is None or self._is_vain():
            return False
        self.kept.ask(_digest(asker.name, place), partial(self._told, asker, then))
        return True

    def keep(self, said: Said) -> None:
        """Have all give this to what has these bytes."""
        if said.form.size > MAX_BYTES:
            return
        shared = _Shared(said.form, Marks.of(said.entry), said.whose())
        entry = said.entry.query.key + head(said.entry)
        self.kept.keep(Prepared(_digest(_name(said.caller), said.place), entry, _ENCODE(shared)))

    def keep_new(self, said: Said, since: Stamp) -> None:
        """The same of an answer that is new, and have it ready here, too. `since`: when it was asked for."""
        self.keep(said)
        if since != self._shelf.stamp:  # who asked, or who answered, may be another by now
            return
        footing = self._footing(said.caller, said.whose())
        if footing is not None:
            self._shelf.put(said.form, said.entry, footing.standing, footing.until(said.entry.created_at), said.place)

    def _asker(self, place: Place) -> _Asker | None:
        """Who asks, if that is known without asking the database."""
        who, changes = place[1:6], self._access.changes
        asker = self._askers.get(who)
        if asker is not None and asker.changes == changes:
            return asker
        host, origin, authorization, api_key, namespace = who
        if not self._admits(host, origin):
            return None
        caller = self._access.at_once(presented(authorization.decode("latin-1"), api_key.decode("latin-1")))
        if caller is None:
            return None
        try:
            caller.expect("ask")
            caller = caller.within(namespace.decode("latin-1")) if namespace else caller
        except RequestError:
            return None
        asker = _Asker(caller, changes, _name(caller))
        return _remembered(self._askers, who, asker) if sum(map(len, who)) <= _LONG_BYTES else asker

    def _told(
        self, asker: _Asker, then: Callable[[Ready | None], None], given: Given | None, error: Exception | None
    ) -> None:
        del error  # what cannot be asked has none
        try:
            ready = self._ready(asker, given) if given is not None else None
        except Exception:  # noqa: BLE001 -- whatever it is, the request goes the long way, and is answered
            _LOG.exception("A reply of another gateway was left alone.")
            ready = None
        self._found += ((ready is not None) - self._found) / _LATELY
        then(ready)

    def _is_vain(self) -> bool:
        """Whether to ask is a waste, so far as is known. Some are asked for all the same, to know it."""
        if self._found >= _RARE:
            return False
        self._passed = (self._passed + 1) % _SELDOM
        return self._passed != 0

    def _ready(self, asker: _Asker, given: Given) -> Ready | None:
        try:
            shared = _DECODE(given.data)
        except msgspec.DecodeError:
            return None
        marks, caller = shared.marks, asker.caller
        if marks.scope != caller.scope or marks.key != given.encoded.key or asker.changes != self._access.changes:
            return None
        footing = self._footing(caller, shared.whose)
        if footing is None:
            return None
        return self._shelf.taken(shared.form, marks, given.encoded, footing.standing, footing.until(marks.created_at))

    def _footing(self, caller: Caller, whose: bytes) -> _Footing | None:
        """What those of `whose` stand on that are given to `caller`, who was told since keys changed last.

        None where others' would be looked at first, and where somebody has to be asked.
        """
        since = self._shelf.stamp
        footing = self._footings.get((caller, whose))
        if footing is not None and footing.since == since and self._shelf.holds(footing.standing):
            return footing
        try:
            said = _DECODE_WHOSE(whose)
            ground = self._looker.ground(said.asked, caller, sampled=said.sampled)
        except (RequestError, msgspec.DecodeError):
            return None
        if ground is None or ground.route.key != (said.model, said.identity) or ground.route.fallback != said.fallback:
            return None
        standing = self._shelf.standing(caller, ground.pool, ground.rank, ground.route, since)
        return _remembered(self._footings, (caller, whose), _Footing(since, standing, ground.max_age_s))


def _remembered(known: dict[K, V], key: K, value: V) -> V:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
    return value


def _name(caller: Caller) -> bytes:
    """Part of the digests of all that is asked in its scope."""
    return b"\0".join((_MADE, caller.scope.encode()))


def _digest(name: bytes, place: Place) -> bytes:
    """Of all that decides what is said: who asks, the path, how long the body is, and the body."""
    return hashlib.sha256(b"\0".join((name, place[0], *place[6:]))).digest()
