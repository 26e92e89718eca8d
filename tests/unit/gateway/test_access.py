"""Who may ask, when the database answers, lies still, or says that something has changed."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.access import MAX_AGE_S, Access, GuardedKeys
from gateway.caller import SCOPES, Caller
from gateway.errors import AccessUnknown, Forbidden, InvalidKey, MissingKey
from storage.embedded.marker import KeysRequired
from storage.errors import StorageError
from storage.keys import Key

TEXT = f"ak-{'a' * 10}-{'s' * 43}"
OTHER = f"ak-{'b' * 10}-{'s' * 43}"
ADMIN = "an operator's own long key"


def key(**fields: object) -> Key:
    """The key whose text is `TEXT`."""
    values: dict[str, object] = {
        "id": "a" * 10, "tenant": "acme", "label": "", "scopes": ("ask",), "models": ("m",), "namespaces": ("docs",),
        "hash": hashlib.sha256(TEXT.encode()).digest(), "created_at": datetime.now(UTC), "expires_at": None,
        "revoked_at": None,
    }  # fmt: skip
    return Key(**values | fields)  # type: ignore[arg-type]


class Kept:
    """Keys in a dictionary, and how often they were asked for."""

    def __init__(self, *found: Key) -> None:
        self.found = {one.id: one for one in found}
        self.asked = 0
        self.down = False

    async def get(self, key_id: str) -> Key | None:
        """As the store does."""
        self._reached()
        return self.found.get(key_id)

    async def ever(self) -> bool:
        """As the store does."""
        self._reached()
        return bool(self.found)

    async def read(self, key_ids: Sequence[str]) -> tuple[bool, Sequence[Key]]:
        """As the store does."""
        self._reached()
        return bool(self.found), [self.found[key_id] for key_id in key_ids if key_id in self.found]

    def _reached(self) -> None:
        self.asked += 1
        if self.down:
            raise StorageError("down")


class Clock:
    """Time that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_without_any_key_everybody_on_this_machine_may_ask() -> None:
    """With whatever their client sends as a key; and nobody from elsewhere."""
    for presented in (None, "unused", TEXT):
        assert (await Access(Kept(), local=True).caller(presented)).scopes == SCOPES
    with pytest.raises(MissingKey):
        await Access(Kept(), local=False).caller(None)


async def test_with_a_key_everybody_needs_one() -> None:
    """What it is good for is what it was made for."""
    access = Access(Kept(key()), local=True)
    caller = await access.caller(TEXT)
    assert (caller.tenant, caller.scopes, caller.models) == ("acme", {"ask"}, {"m"})
    assert caller.scope == "acme"
    with pytest.raises(MissingKey):
        await access.caller(None)
    for wrong in ("unused", OTHER, TEXT[:-1] + "t", "ak-\x00", "é" * 50):
        with pytest.raises(InvalidKey):
            await access.caller(wrong)


@pytest.mark.parametrize("ended", [{"revoked_at": datetime.now(UTC)}, {"expires_at": datetime.now(UTC)}])
async def test_a_key_that_has_ended_opens_nothing(ended: dict[str, datetime]) -> None:
    """The reply says how it ended, and nothing of its secret."""
    with pytest.raises(InvalidKey) as caught:
        await Access(Kept(key(**ended)), local=True).caller(TEXT)
    assert "revoked" in str(caught.value) or "expired" in str(caught.value)
    assert TEXT not in str(caught.value)


async def test_a_key_is_looked_up_once_and_ends_at_its_time_all_the_same() -> None:
    """An expiry needs nobody to tell of it."""
    kept = Kept(key(expires_at=datetime.now(UTC) + timedelta(seconds=0.2)))
    access = Access(kept, local=True)
    for _ in range(10):
        await access.caller(TEXT)
    assert kept.asked == 2  # for the key, and whether there is any
    await asyncio.sleep(0.25)
    with pytest.raises(InvalidKey, match="expired"):
        await access.caller(TEXT)


async def test_a_change_counts_at_once() -> None:
    """A key that is revoked, and the first one there is."""
    kept = Kept()
    access = Access(kept, local=True)
    await access.caller(None)
    kept.found["a" * 10] = key()
    await access.caller(None)  # nobody has said so yet
    await access.changed()
    with pytest.raises(MissingKey):
        await access.caller(None)
    await access.caller(TEXT)
    kept.found["a" * 10] = key(revoked_at=datetime.now(UTC))
    await access.changed()
    with pytest.raises(InvalidKey):
        await access.caller(TEXT)


async def test_a_database_that_is_down_takes_nobodys_key_away() -> None:
    """Those it has not told us of have to wait: 503, not 401."""
    kept, clock = Kept(key()), Clock()
    access = Access(kept, local=True, clock=clock)
    await access.caller(TEXT)
    kept.down = True
    clock.now += MAX_AGE_S + 1
    await access.changed(told=False)
    assert (await access.caller(TEXT)).tenant == "acme"
    with pytest.raises(AccessUnknown):
        await access.caller(OTHER)
    with pytest.raises(MissingKey):
        await access.caller(None)


async def test_a_change_that_was_told_is_read_before_the_database_goes_down() -> None:
    """What it takes away is gone, what it leaves goes on; nobody has to have asked in between."""
    kept, clock = Kept(key(), key(id="b" * 10, hash=hashlib.sha256(OTHER.encode()).digest())), Clock()
    access = Access(kept, local=True, clock=clock)
    for text in (TEXT, OTHER):
        await access.caller(text)
    kept.found["a" * 10] = key(revoked_at=datetime.now(UTC))
    await access.changed()
    kept.down = True
    clock.now += MAX_AGE_S + 1
    with pytest.raises(InvalidKey, match="revoked"):
        await access.caller(TEXT)
    assert (await access.caller(OTHER)).tenant == "acme"


async def test_a_change_that_could_not_be_read_leaves_no_key_open() -> None:
    """Nor the gateway, when it may have been the first key that was made: until the database is back it is 503."""
    kept = Kept(key())
    access, keyless = Access(kept, local=True), Access(Kept(), local=True)
    await access.caller(TEXT)
    await keyless.caller(None)
    for one in (access, keyless):
        found: Kept = one._kept  # type: ignore[assignment]
        found.down = True
        await one.changed()
        with pytest.raises(AccessUnknown):
            await one.caller(TEXT)
    with pytest.raises(AccessUnknown):
        await keyless.caller(None)
    kept.down = False
    assert (await access.caller(TEXT)).tenant == "acme"


async def test_who_asks_while_a_change_is_read_waits_for_it() -> None:
    """Or the database would be asked once for each of them."""
    kept = Kept(key())
    access = Access(kept, local=True)
    await access.caller(TEXT)
    plain, go = kept.read, asyncio.Event()

    async def slow(key_ids: Sequence[str]) -> tuple[bool, Sequence[Key]]:
        await go.wait()
        return await plain(key_ids)

    kept.read, before = slow, kept.asked
    changing = asyncio.create_task(access.changed())
    await asyncio.sleep(0)
    asking = [asyncio.create_task(access.caller(TEXT)) for _ in range(10)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in asking)
    go.set()
    await asyncio.gather(changing, *asking)
    assert kept.asked == before + 1


async def test_that_there_was_a_key_outlives_the_process(tmp_path: Path) -> None:
    """One that starts while the database is down knows it from the data folder, and is not open to everybody."""
    kept = Kept()
    first = Access(kept, local=True, marker=KeysRequired(tmp_path))
    await first.caller(None)
    kept.found["a" * 10] = key()
    await first.changed()
    kept.down = True
    second = Access(kept, local=True, marker=KeysRequired(tmp_path))
    for presented in (None, TEXT):
        with pytest.raises(AccessUnknown):
            await second.caller(presented)
    assert (await Access(kept, local=True, marker=KeysRequired(tmp_path / "new")).caller(None)).scopes == SCOPES
    kept.down, kept.found = False, {}
    assert (await second.caller(None)).scopes == SCOPES


async def test_a_database_in_trouble_is_asked_again_when_it_speaks() -> None:
    """However long its look-ups pause."""
    kept = Kept(key())
    kept.down = True
    guarded = GuardedKeys(kept, 1, lambda *_: None)
    for ask in (guarded.ever, guarded.ever):
        with pytest.raises(StorageError):
            await ask()
    for _ in range(2):
        with pytest.raises(StorageError):
            await guarded.read(())
    kept.down = False
    assert (await guarded.read(("a" * 10,)))[0]


async def test_a_frozen_database_costs_its_deadline() -> None:
    """And is a `StorageError`."""

    class Frozen(Kept):
        async def ever(self) -> bool:
            await asyncio.sleep(60)
            return False

    async with asyncio.timeout(5):
        with pytest.raises(StorageError):
            await GuardedKeys(Frozen(), 0.05, lambda *_: None).ever()


async def test_a_database_in_trouble_is_left_alone() -> None:
    """After a few deadlines the next requests cost nothing."""
    kept = Kept(key())
    kept.down = True
    guarded = GuardedKeys(kept, 1, lambda *_: None)
    for _ in range(50):
        with pytest.raises(StorageError):
            await guarded.get("a" * 10)
    assert kept.asked < 10


async def test_what_changes_while_it_is_looked_up_is_looked_up_again() -> None:
    """A reply that was under way when the key was revoked is remembered by nobody."""
    kept = Kept(key())
    access = Access(kept, local=False)
    plain = kept.get

    async def slow(key_id: str) -> Key | None:
        found = await plain(key_id)
        kept.found[key_id] = key(revoked_at=datetime.now(UTC))
        await access.changed()
        return found

    kept.get = slow
    await access.caller(TEXT)
    kept.get = plain
    with pytest.raises(InvalidKey, match="revoked"):
        await access.caller(TEXT)


async def test_the_operators_key_is_good_for_everything() -> None:
    """It makes keys necessary too."""
    access = Access(Kept(), local=True, admin_key=ADMIN)
    assert (await access.caller(ADMIN)).scopes == SCOPES
    with pytest.raises(MissingKey):
        await access.caller(None)
    with pytest.raises(InvalidKey):
        await access.caller(ADMIN + "x")


def test_a_tenants_place_and_a_shared_one_never_meet() -> None:
    """Whatever they are called; and a place of others is refused."""
    caller = Caller(tenant="docs", namespaces=frozenset({"docs"}))
    assert caller.within("docs").scope != caller.scope
    with pytest.raises(Forbidden):
        caller.within("other")


async def test_who_was_told_once_is_told_again_only_while_the_key_is_what_it_was() -> None:
    """Also when nobody says that it has changed: after a while it is read again, and counts as it is then."""
    clock, kept = Clock(), Kept(key())
    access = Access(kept, local=True, clock=clock)
    caller = await access.caller(TEXT)
    assert access.still(caller)
    assert access.still(caller.within("docs"))
    assert await access.caller(TEXT) is caller

    clock.now += MAX_AGE_S + 1
    assert not access.still(caller)
    assert await access.caller(TEXT) == caller
    assert access.still(caller)

    for change in ({"tenant": "rival"}, {"models": None}, {"namespaces": ()}, {"scopes": ("cache",)}):
        kept.found["a" * 10] = key(**change)
        clock.now += MAX_AGE_S + 1
        other = await access.caller(TEXT)
        assert other != caller
        assert not access.still(caller)
        assert not access.still(caller.within("docs"))
        kept.found["a" * 10] = key()
        clock.now += MAX_AGE_S + 1
        assert await access.caller(TEXT) == caller

    for gone in ({"revoked_at": datetime.now(UTC)}, {"expires_at": datetime.now(UTC)}):
        kept.found["a" * 10] = key(**gone)
        clock.now += MAX_AGE_S + 1
        for _ in range(3):
            with pytest.raises(InvalidKey):
                await access.caller(TEXT)
            assert not access.still(caller)
        kept.found["a" * 10] = key()
        clock.now += MAX_AGE_S + 1
        assert await access.caller(TEXT) == caller
