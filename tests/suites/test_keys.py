"""Keys, tenants and namespaces on a real Postgres."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from storage import keys
from storage.keys import KeyFault, KeyStore, Wanted

LATER = timedelta(days=1)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[KeyStore]:
    """The keys of a database of this test's own."""
    connection = await asyncpg.connect(database_url)
    yield KeyStore(connection)
    await connection.close()


def now() -> datetime:
    """Now."""
    return datetime.now(UTC)


async def made(store: KeyStore, tenant: str = "acme", lifetime: timedelta | None = None) -> tuple[str, str]:
    """A new key's text and id."""
    text = await store.create(Wanted(tenant=tenant, scopes=("ask",), lifetime=lifetime))
    key_id = keys.identify(text)
    assert key_id is not None
    return text, key_id


async def test_a_key_is_kept_as_a_hash_alone(store: KeyStore, database_url: str) -> None:
    """No column of any row has its secret."""
    text, key_id = await made(store)
    key = await store.get(key_id)
    assert key is not None
    assert key.opens(text)
    assert not key.opens(text[:-1] + ("a" if text[-1] != "a" else "b"))
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("select k::text as whole from askonce.api_keys k")
    await connection.close()
    assert all(text.rpartition("-")[2] not in row["whole"] for row in rows)


async def test_keys_differ_and_have_one_form(store: KeyStore) -> None:
    """Nobody can make one up."""
    made_ = {(await made(store))[0] for _ in range(20)}
    assert len(made_) == 20
    assert all(keys.identify(text) for text in made_)
    for odd in ("", "ak-", "sk-abc", "ak-abc-def", next(iter(made_)) + "x", next(iter(made_)).upper()):
        assert keys.identify(odd) is None


async def test_a_revoked_key_stays_listed_and_opens_nothing(store: KeyStore) -> None:
    """It cannot be revoked twice, and one that never was cannot be at all."""
    _, key_id = await made(store)
    await store.revoke(key_id)
    (key,) = await store.list()
    assert key.state(now()) == "revoked"
    assert not await store.any()
    assert await store.ever()  # the server stays closed
    for missing in (key_id, "nosuchkeyx"):
        with pytest.raises(KeyFault, match=missing):
            await store.revoke(missing)


async def test_a_key_ends_by_itself(store: KeyStore) -> None:
    """At its time, not before."""
    _, key_id = await made(store, lifetime=LATER)
    key = await store.get(key_id)
    assert key is not None
    assert key.state(now()) == "active"
    assert key.state(now() + LATER) == "expired"


async def test_rotation_makes_the_same_key_anew(store: KeyStore) -> None:
    """The old one opens as long as it was given, and then no more."""
    wanted = Wanted(tenant="acme", scopes=("ask", "admin"), label="web", models=("m",), lifetime=LATER)
    old = keys.identify(await store.create(wanted)) or ""
    new = keys.identify(await store.rotate(old, timedelta(hours=1))) or ""
    before, after = await store.get(old), await store.get(new)
    assert before is not None
    assert after is not None
    assert (after.tenant, after.scopes, after.label, after.models) == ("acme", ("ask", "admin"), "web", ("m",))
    assert after.expires_at is not None
    assert before.state(now()) == "active"
    assert before.state(now() + timedelta(hours=1)) == "expired"
    await store.rotate(new, timedelta(0))
    ended = await store.get(new)
    assert ended is not None
    assert ended.state(now()) == "revoked"
    with pytest.raises(KeyFault, match="no active key"):
        await store.rotate(new, timedelta(0))


async def test_a_key_is_rotated_once(store: KeyStore) -> None:
    """Also while it is good for a grace, whose length would be the next one's life."""
    _, key_id = await made(store, lifetime=LATER)
    await store.rotate(key_id, timedelta(hours=1))
    with pytest.raises(KeyFault, match="not rotated yet"):
        await store.rotate(key_id, timedelta(hours=1))
    assert len(await store.list()) == 2


async def test_rotation_never_lengthens_a_life(store: KeyStore) -> None:
    """A grace beyond the old key's own end does not move it."""
    _, key_id = await made(store, lifetime=timedelta(minutes=5))
    before = await store.get(key_id)
    await store.rotate(key_id, LATER)
    after = await store.get(key_id)
    assert before is not None
    assert after is not None
    assert after.expires_at == before.expires_at


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", "shared/x", "é", "-a", "a" * 64, "a\n", "a\x00"])
async def test_a_name_that_could_be_mistaken_is_refused(store: KeyStore, name: str) -> None:
    """Scopes are made of names: none may look like another."""
    with pytest.raises(KeyFault):
        await made(store, name)
    with pytest.raises(KeyFault):
        await store.create_namespace(name)


async def test_tenants_share_what_they_were_let_into(store: KeyStore) -> None:
    """And no longer once they left."""
    _, key_id = await made(store)
    await store.create_namespace("docs")
    await store.join("docs", "acme")
    await store.join("docs", "acme")
    key = await store.get(key_id)
    assert key is not None
    assert key.namespaces == ("docs",)
    assert await store.namespaces() == [("docs", ("acme",))]
    await store.leave("docs", "acme")
    for fault in (store.leave("docs", "acme"), store.join("nope", "acme"), store.join("docs", "nobody")):
        with pytest.raises(KeyFault):
            await fault
    with pytest.raises(KeyFault, match="already"):
        await store.create_namespace("docs")
