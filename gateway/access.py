"""Who asks: a key -> a `Caller`. Keys that were seen are remembered, so that the database is asked seldom."""

import asyncio
import hmac
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import cachetools

from gateway.caller import DEFAULT_TENANT, SCOPES, Caller
from gateway.errors import AccessUnknown, InvalidKey, MissingKey
from storage import keys
from storage.breaker import Breaker
from storage.errors import StorageError
from storage.guard import Guard, OnFault
from storage.keys import Key

REMEMBERED: Final = 4096
MAX_AGE_S: Final = 30.0
"""How long a change may go unnoticed when the database does not tell of it."""
_UNKNOWN_MAX_AGE_S: Final = 5.0


class Keys(Protocol):
    """Where keys are kept. What it raises is a `StorageError`."""

    async def get(self, key_id: str) -> Key | None:
        """The key of this id."""
        ...

    async def ever(self) -> bool:
        """Whether there was ever a key."""
        ...

    async def read(self, key_ids: Sequence[str]) -> tuple[bool, Sequence[Key]]:
        """Whether there was ever a key, and those of these ids."""
        ...


class Marker(Protocol):
    """Remembers beyond the life of this process that there was a key once."""

    def is_set(self) -> bool:
        """Whether it does."""
        ...

    def set(self) -> None:
        """Remember it from now on."""
        ...


def presented(authorization: str, api_key: str | None) -> str | None:
    """The key as OpenAI's clients send it, or as Anthropic's do."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    return api_key


class Access:
    """Tells callers by their keys.

    `local`: the server listens on loopback only, so until the first key is made, everybody who reaches it may ask.
    `admin_key`: a key from the settings, which is good for everything. `marker` is asked when the database cannot be.
    """

    def __init__(
        self,
        kept: Keys,
        *,
        local: bool,
        admin_key: str = "",
        marker: Marker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept = kept
        self._closed = not local or bool(admin_key)
        self._admin_key = admin_key.encode()
        self._operator = Caller(tenant=DEFAULT_TENANT, scopes=SCOPES)
        self._anybody = Caller(tenant=DEFAULT_TENANT, scopes=SCOPES)
        """Who asks while there are no keys."""
        self._marker = marker
        self._known: cachetools.TTLCache[str, Key] = cachetools.TTLCache(REMEMBERED, MAX_AGE_S, clock)
        self._unknown: cachetools.TTLCache[str, bool] = cachetools.TTLCache(REMEMBERED, _UNKNOWN_MAX_AGE_S, clock)
        self._required: cachetools.TTLCache[str, bool] = cachetools.TTLCache(1, MAX_AGE_S, clock)
        self._last: cachetools.LRUCache[str, tuple[int, Key]] = cachetools.LRUCache(REMEMBERED)
        """Each key as it was read last, and the number of the change it was read after."""
        self._told_by: cachetools.LRUCache[str, tuple[int, Caller]] = cachetools.LRUCache(REMEMBERED)
        """Who was told by what was presented, and after which change."""
        self._callers: cachetools.LRUCache[str, tuple[Key, Caller]] = cachetools.LRUCache(REMEMBERED)
        """Whose each key is."""
        self._was_required = (0, False)
        """The same of whether keys are required."""
        self._changes = 0
        self._told = 0
        """The last change that the database told of: what was read before it is not so any more."""
        self._settled = asyncio.Event()
        self._settled.set()

    async def changed(self, *, told: bool = True) -> None:
        """Read again what is remembered, at once: a key was made, revoked or changed.

        What was read before counts no more, not even while the database cannot be asked again. Unless it was not
        `told`, but may have happened unheard: then a database that is down still takes nobody's key away.
        """
        self._changes += 1
        if told:
            self._told = self._changes
        self._known.clear()
        self._unknown.clear()
        self._required.clear()
        self._settled.clear()
        try:
            await self._read_again(self._changes)
        except StorageError:
            return  # each is looked up when it is needed
        finally:
            self._settled.set()

    async def caller(self, presented: str | None) -> Caller:
        """Who presents this key. Raises `MissingKey`, `InvalidKey`, and `AccessUnknown` when that cannot be told."""
        if presented and self._admin_key and hmac.compare_digest(presented.encode(), self._admin_key):
            return self._operator
        if presented and (known := self._at_once(presented)) is not None:
            return known
        await self._settled.wait()
        if not await self._is_required():
            return self._anybody
        if not presented:
            raise MissingKey
        changes = self._changes
        key = await self._key(presented)
        caller = self._of(key)
        self._told_by[presented] = changes, caller
        return caller

    def at_once(self, presented: str | None) -> Caller | None:
        """The same, where it is known without asking the database; None also for who is to be refused."""
        if presented and (known := self._at_once(presented)) is not None:
            return known
        is_open = self._settled.is_set() and not self._closed and self._required.get("") is False
        return self._anybody if is_open else None

    def _at_once(self, presented: str) -> Caller | None:
        if (told := self._told_by.get(presented)) is None:
            return None
        changes, caller = told
        return caller if changes == self._changes and self._settled.is_set() and self.still(caller) else None

    @property
    def changes(self) -> int:
        """Goes up whenever callers may have become others."""
        return self._changes

    def still(self, caller: Caller) -> bool:
        """Whether `caller`, told since the last of `changes`, would be told again without asking the database."""
        if caller is self._operator:
            return True
        if not caller.key_id:
            return self._required.get("") is False
        key = self._known.get(caller.key_id)
        if key is None or key.state(datetime.now(UTC)) != "active":
            return False
        now = self._of(key)  # it may have been read again meanwhile, and be another
        if not caller.namespace:
            return caller == now
        return caller.namespace in now.namespaces and caller == now.within(caller.namespace)

    def _of(self, key: Key) -> Caller:
        """Whose `key` is; of one that has not changed, the same object."""
        known = self._callers.get(key.id)
        if known is not None and known[0] is key:
            return known[1]
        caller = Caller(
            tenant=key.tenant,
            scopes=frozenset(key.scopes),
            models=frozenset(key.models) if key.models is not None else None,
            namespaces=frozenset(key.namespaces),
            key_id=key.id,
        )
        self._callers[key.id] = key, caller
        return caller

    async def _key(self, presented: str) -> Key:
        """The key itself. Raises `InvalidKey`."""
        key_id = keys.identify(presented)
        if key_id is None or key_id in self._unknown:
            raise InvalidKey
        key = self._known.get(key_id) or await self._looked_up(key_id)
        if key is None or not key.opens(presented):
            raise InvalidKey
        state = key.state(datetime.now(UTC))
        if state != "active":
            message = f"The key ak-{key.id}… is {state}."
            raise InvalidKey(message)
        return key

    async def _looked_up(self, key_id: str) -> Key | None:
        changes = self._changes
        try:
            key = await self._kept.get(key_id)
        except StorageError as error:
            # A database that is down takes nobody's key away: what it said last counts until it is back.
            read_after, last = self._last.get(key_id, (-1, None))
            if read_after >= self._told:
                return last
            raise AccessUnknown from error
        if changes != self._changes:  # what was read may be what has changed: it is good for this once
            return key
        if key is None:
            self._unknown[key_id] = True
        else:
            self._remember(key, changes)
        return key

    async def _is_required(self) -> bool:
        if self._closed:
            return True
        if (required := self._required.get("")) is not None:
            return required
        changes = self._changes
        try:
            required = await self._kept.ever()
        except StorageError as error:
            read_after, was_required = self._was_required
            if was_required:
                return True
            if read_after < self._told or (self._marker and self._marker.is_set()):
                raise AccessUnknown from error
            return False
        self._take_required(required, changes)
        return required

    async def _read_again(self, changes: int) -> None:
        key_ids = tuple(self._last)
        required, found = await self._kept.read(key_ids)
        self._take_required(required, changes)
        if changes != self._changes:
            return
        for key in found:
            self._remember(key, changes)
        for key_id in set(key_ids).difference(key.id for key in found):
            self._last.pop(key_id, None)

    def _remember(self, key: Key, changes: int) -> None:
        self._known[key.id] = key
        self._last[key.id] = (changes, key)

    def _take_required(self, required: bool, changes: int) -> None:  # noqa: FBT001 -- it is what was read
        if required or changes == self._changes:
            self._required[""] = required
            self._was_required = (changes, required)
        if required and self._marker:
            self._marker.set()


class GuardedKeys:
    """`kept`, with every fault turned into `StorageError` within `deadline_s`, and at once while it is in trouble."""

    def __init__(self, kept: Keys, deadline_s: float, on_fault: OnFault) -> None:
        self._kept = kept
        self._deadline_s = deadline_s
        self._guard = Guard("keys", on_fault, sort="look-ups")
        # Never left alone: what is read again is what the database has just spoken of.
        self._again = Guard("keys", on_fault, Breaker(0, 0), sort="second readings")

    async def get(self, key_id: str) -> Key | None:
        """The key of this id. Raises `StorageError`."""
        return await self._guard.call("get", lambda: self._kept.get(key_id), self._deadline_s)

    async def ever(self) -> bool:
        """Whether there was ever a key. Raises `StorageError`."""
        return await self._guard.call("ever", self._kept.ever, self._deadline_s)

    async def read(self, key_ids: Sequence[str]) -> tuple[bool, Sequence[Key]]:
        """Whether there was ever a key, and those of these ids. Raises `StorageError`."""
        return await self._again.call("read", lambda: self._kept.read(key_ids), self._deadline_s)
