"""Who asks: a key -> a `Caller`. Keys that were seen are remembered, so that the database is asked seldom."""

import hmac
from datetime import UTC, datetime
from typing import Final, Protocol

import cachetools

from gateway.caller import DEFAULT_TENANT, SCOPES, Caller
from gateway.errors import AccessUnknown, InvalidKey, MissingKey
from storage import keys
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


class Access:
    """Tells callers by their keys.

    `local`: the server listens on loopback only, so until the first key is made, everybody who reaches it may ask.
    `admin_key`: a key from the settings, which is good for everything.
    """

    def __init__(self, kept: Keys, *, local: bool, admin_key: str = "") -> None:
        self._kept = kept
        self._local = local
        self._admin_key = admin_key.encode()
        self._known: cachetools.TTLCache[str, Key] = cachetools.TTLCache(REMEMBERED, MAX_AGE_S)
        self._unknown: cachetools.TTLCache[str, bool] = cachetools.TTLCache(REMEMBERED, _UNKNOWN_MAX_AGE_S)
        self._last: cachetools.LRUCache[str, Key] = cachetools.LRUCache(REMEMBERED)
        self._required: cachetools.TTLCache[str, bool] = cachetools.TTLCache(1, MAX_AGE_S)
        self._was_required = not local or bool(admin_key)
        self._changes = 0

    def changed(self) -> None:
        """Ask the database again before the next answer: a key was made, revoked or changed."""
        self._changes += 1
        self._known.clear()
        self._unknown.clear()
        self._required.clear()

    async def caller(self, presented: str | None) -> Caller:
        """Who presents this key. Raises `MissingKey`, `InvalidKey`, and `AccessUnknown` when that cannot be told."""
        if presented and self._admin_key and hmac.compare_digest(presented.encode(), self._admin_key):
            return Caller(tenant=DEFAULT_TENANT, scopes=SCOPES)
        if not await self._is_required():
            return Caller(tenant=DEFAULT_TENANT, scopes=SCOPES)
        if not presented:
            raise MissingKey
        key = await self._key(presented)
        return Caller(
            tenant=key.tenant,
            scopes=frozenset(key.scopes),
            models=frozenset(key.models) if key.models is not None else None,
            namespaces=frozenset(key.namespaces),
            key_id=key.id,
        )

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
            if (last := self._last.get(key_id)) is not None:
                return last
            raise AccessUnknown from error
        if changes != self._changes:  # what was read may be what has changed: it is good for this once
            return key
        if key is None:
            self._unknown[key_id] = True
        else:
            self._known[key_id] = self._last[key_id] = key
        return key

    async def _is_required(self) -> bool:
        if not self._local or self._admin_key:
            return True
        if (required := self._required.get("")) is not None:
            return required
        changes = self._changes
        try:
            required = await self._kept.ever()
        except StorageError:
            return self._was_required
        if changes == self._changes:
            self._required[""] = required
        self._was_required = required
        return required


class GuardedKeys:
    """`kept`, with every fault turned into `StorageError` within `deadline_s`, and at once while it is in trouble."""

    def __init__(self, kept: Keys, deadline_s: float, on_fault: OnFault) -> None:
        self._kept = kept
        self._deadline_s = deadline_s
        self._guard = Guard("keys", on_fault, sort="look-ups")

    async def get(self, key_id: str) -> Key | None:
        """The key of this id. Raises `StorageError`."""
        return await self._guard.call("get", lambda: self._kept.get(key_id), self._deadline_s)

    async def ever(self) -> bool:
        """Whether there was ever a key. Raises `StorageError`."""
        return await self._guard.call("ever", self._kept.ever, self._deadline_s)
