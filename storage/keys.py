"""API keys: made and shown once, kept as a hash, found by the part of them that everybody may see."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from storage import sql
from storage.errors import AskonceError

PREFIX: Final = "ak-"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_FORM: Final = re.compile(r"ak-([a-z2-7]{10})-[A-Za-z0-9_-]{43}")
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH: Final = 10


class KeyFault(AskonceError):
    """The key, tenant or namespace cannot be made or found."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    id: str
    """The part that may be shown, logged and named in commands."""
    tenant: str
    label: str
    scopes: tuple[str, ...]
    models: tuple[str, ...] | None
    """The models it may ask; None for all."""
    namespaces: tuple[str, ...]
    """What its tenant shares with others."""
    hash: bytes
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def opens(self, text: str) -> bool:
        """Whether `text` is this key."""
        return hmac.compare_digest(self.hash, _hash(text))


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a new key shall be."""

    tenant: str
    scopes: tuple[str, ...]
    label: str = ""
    models: tuple[str, ...] | None = None
    lifetime: timedelta | None = None


class Database(Protocol):
    """A connection or a pool."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """One row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """One value."""
        ...


def identify(text: str) -> str | None:
    """The id in the text of a key; None when it has not the form of one."""
    found = _FORM.fullmatch(text)
    return found[1] if found else None


class KeyStore:
    """The keys, tenants and namespaces of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, wanted: Wanted) -> str:
        """Make a key, and its tenant if there is none of this name. Returns its text, which nobody can get again.

        Raises `KeyFault` for a tenant's name that cannot be one.
        """
        _expect_name("tenant", wanted.tenant)
        key_id, text = _new()
        expires_at = datetime.now(UTC) + wanted.lifetime if wanted.lifetime is not None else None
        await self._database.execute(sql.query("tenant_put"), wanted.tenant)
        await self._database.execute(
            sql.query("key_put"),
            key_id,
            wanted.tenant,
            wanted.label,
            _hash(text),
            list(wanted.scopes),
            list(wanted.models) if wanted.models is not None else None,
            expires_at,
        )
        return text

    async def get(self, key_id: str) -> Key | None:
        """The key of this id, whatever its state."""
        found = await self._several([key_id])
        return found[0] if found else None

    async def read(self, key_ids: Sequence[str]) -> tuple[bool, Sequence[Key]]:
        """Whether there was ever a key, and those of these ids."""
        return await self.ever(), await self._several(key_ids)

    async def list(self, tenant: str | None = None) -> list[Key]:
        """All keys, or those of one tenant, oldest first."""
        return [_key(row) for row in await self._database.fetch(sql.query("key_list"), tenant)]

    async def any(self) -> bool:
        """Whether any key is active."""
        return bool(await self._database.fetchval(sql.query("keys_any")))

    async def ever(self) -> bool:
        """Whether there was ever a key: from then on the server is closed to who has none."""
        return bool(await self._database.fetchval(sql.query("keys_ever")))

    async def _several(self, key_ids: Sequence[str]) -> Sequence[Key]:
        return [_key(row) for row in await self._database.fetch(sql.query("key_get"), list(key_ids))]

    async def revoke(self, key_id: str) -> None:
        """End a key now. Raises `KeyFault` when there is none, or it is revoked already."""
        if await self._database.fetchval(sql.query("key_revoke"), key_id) is None:
            raise KeyFault(f"There is no key {key_id} to revoke; 'askonce keys list' shows what there is.")

    async def rotate(self, key_id: str, grace: timedelta) -> str:
        """Make a key like this one, and let this one end after `grace`, in one step. Returns the new one's text.

        Raises `KeyFault` when it is not active, or was rotated before.
        """
        new_id, text = _new()
        if await self._database.fetchval(sql.query("key_rotate"), key_id, new_id, _hash(text), grace) is None:
            raise KeyFault(
                f"There is no active key {key_id} that was not rotated yet; 'askonce keys list' shows what there is."
            )
        return text

    async def create_namespace(self, name: str) -> None:
        """Make a namespace. Raises `KeyFault` when there is one, or it cannot be a name."""
        _expect_name("namespace", name)
        try:
            await self._database.execute(sql.query("namespace_put"), name)
        except asyncpg.UniqueViolationError as error:
            raise KeyFault(f"There is a namespace '{name}' already.") from error

    async def namespaces(self) -> Sequence[tuple[str, tuple[str, ...]]]:
        """Every namespace and the tenants in it."""
        rows = await self._database.fetch(sql.query("namespace_list"))
        return [(row["name"], tuple(row["tenants"])) for row in rows]

    async def join(self, namespace: str, tenant: str) -> None:
        """Let a tenant use a namespace. Raises `KeyFault` when one of them does not exist."""
        try:
            await self._database.execute(sql.query("namespace_join"), namespace, tenant)
        except asyncpg.ForeignKeyViolationError as error:
            raise KeyFault(f"There is no namespace '{namespace}', or no tenant '{tenant}'.") from error

    async def leave(self, namespace: str, tenant: str) -> None:
        """Let a tenant use a namespace no longer. Raises `KeyFault` when it did not."""
        if await self._database.fetchval(sql.query("namespace_leave"), namespace, tenant) is None:
            raise KeyFault(f"The tenant '{tenant}' is not in the namespace '{namespace}'.")


def _expect_name(what: str, name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise KeyFault(
            f"'{name}' cannot be a {what}'s name: up to 63 of a-z, 0-9, '_' and '-', a letter or digit first."
        )


def _new() -> tuple[str, str]:
    """The id and the text of a key that nobody has."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    return key_id, f"{PREFIX}{key_id}-{secrets.token_urlsafe(32)}"


def _hash(text: str) -> bytes:
    # A key has 256 random bits of its own: no salt and no slow hash can make it harder to guess.
    return hashlib.sha256(text.encode()).digest()


def _key(row: asyncpg.Record) -> Key:
    return Key(
        id=row["id"],
        tenant=row["tenant"],
        label=row["label"],
        scopes=tuple(row["scopes"]),
        models=tuple(row["models"]) if row["models"] is not None else None,
        namespaces=tuple(row["namespaces"]),
        hash=row["hash"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
