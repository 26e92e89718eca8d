"""What is taken from the record, in what order, and that it is done a little at a time and by one."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import asyncpg
import msgspec
import pytest

from gateway.config import PolicyConfig
from gateway.sweeping import Sweeper
from storage import postgres, sql
from storage.entry import Encoded, Entry
from storage.invalidations import Invalidations
from storage.record import BATCH, Record
from tests.suites.entries import made

LONG = 1e6


class Told:
    """What a sweeper says it has done."""

    def __init__(self) -> None:
        self.gone: dict[str, int] = {}
        self.bytes = 0

    def removed(self, why: str, rows: int) -> None:
        """Add."""
        self.gone[why] = self.gone.get(why, 0) + rows

    def record_bytes(self, size: int) -> None:
        """Remember."""
        self.bytes = size


class Kept:
    """A record, and sweepers of it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.tier = postgres.PostgresTier(pool)
        self.told = Told()
        self._sweepers: list[Sweeper] = []

    async def put(self, entries: Iterable[Entry]) -> None:
        """Keep these."""
        await self.tier.put([Encoded.of(entry) for entry in entries])

    async def names(self) -> set[str]:
        """What is kept."""
        return {row["prompt_text"] for row in await self.pool.fetch("select prompt_text from askonce.completions")}

    def sweeper(self, *policies: PolicyConfig, most: int = 0, pool: Any = None) -> Sweeper:
        """One with these settings."""
        self._sweepers.append(
            Sweeper(
                pool or self.pool,
                Invalidations(self.pool),
                policies,
                marks_needed_s=LONG,
                responses_ttl_s=LONG,
                record_max_bytes=most,
                telemetry=self.told,
            )
        )
        return self._sweepers[-1]

    async def bytes(self) -> int:
        """How large it is."""
        return (await Record(self.pool).size()).bytes

    async def aclose(self) -> None:
        """End everything."""
        for sweeper in self._sweepers:
            await sweeper.aclose()
        await self.tier.aclose()


@pytest.fixture
async def kept(database_url: str) -> AsyncIterator[Kept]:
    """An empty record."""
    record = Kept(await postgres.connect(database_url, 4))
    yield record
    await record.aclose()


def of(model: str, entry: Entry) -> Entry:
    """The same by another model."""
    return msgspec.structs.replace(entry, query=msgspec.structs.replace(entry.query, model=model))


def at(name: str, second: int, text: str = "x") -> Entry:
    """An answer made in some second."""
    return made(name, text, created_at=1.7e9 + second)


async def given(kept: Kept, *names: str, second: int) -> None:
    """These answers were given then."""
    count = len(names)
    keys = [made(name).query.key for name in names]
    await kept.pool.execute(sql.query("hits_put"), keys, [1] * count, [1.7e9 + second] * count)


async def test_more_than_a_batch_expires_and_nothing_else(kept: Kept) -> None:
    """Of one model, what is old; with what was counted of it."""
    old = [made(f"old {number}") for number in range(2 * BATCH + 7)]
    await kept.put(old)
    young = made("young", created_at=2e9)
    await kept.put([young, of("other", made("other"))])
    await given(kept, "old 1", "young", second=1)
    assert await kept.sweeper(PolicyConfig(model="m", ttl_s=1000)).sweep()
    assert await kept.names() == {"young", "other"}
    assert kept.told.gone == {"expired": len(old)}
    assert [row["key"] for row in await kept.pool.fetch("select key from askonce.hits")] == [young.query.key]


async def test_every_place_is_found(kept: Kept) -> None:
    """Scopes and models of answers, whatever their order; each once."""
    for model in ("m", "b", "z", "b-2"):
        await kept.put(of(model, made(f"{model} {number}")) for number in range(3))
    assert sorted(await Record(kept.pool).places()) == [("default", model) for model in ("b", "b-2", "m", "z")]


async def test_a_bounded_record_forgets_what_was_not_used_for_longest(kept: Kept) -> None:
    """An answer is used when it is made and when it is given; the size that is told is below the bound."""
    await kept.put(at(f"{second:03}", second) for second in range(100))
    await given(kept, *(f"{second:03}" for second in range(20)), second=1000)  # the oldest, and given since
    await given(kept, *(f"{second:03}" for second in range(20, 30)), second=60)
    bound = round(await kept.bytes() / 2)
    await kept.sweeper(most=bound).sweep()
    left = await kept.names()
    assert kept.told.gone == {"evicted": 100 - len(left)}
    assert 0.9 * bound < kept.told.bytes == await kept.bytes() <= 0.95 * bound
    by_use = [*range(30, 60), *range(20, 30), *range(60, 100), *range(20)]
    assert left == {f"{second:03}" for second in by_use[100 - len(left) :]}


async def test_a_new_answer_is_used_though_its_key_was_given_before(kept: Kept) -> None:
    """What counts is the later one."""
    await kept.put([at("anew", 50), *(at(f"{second}", second) for second in range(20, 40))])
    await given(kept, "anew", second=10)
    await kept.sweeper(most=round(await kept.bytes() / 2)).sweep()
    assert "anew" in await kept.names()


async def test_what_is_within_the_bound_stays(kept: Kept) -> None:
    """And without a bound, everything."""
    await kept.put(at(f"{second}", second) for second in range(20))
    for most in (await kept.bytes(), 0):
        await kept.sweeper(most=most).sweep()
        assert len(await kept.names()) == 20
    assert kept.told.gone == {}


async def test_answers_of_one_moment_are_told_apart(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are looked at at once; what is evicted in one sweep and the next is of all of them."""
    monkeypatch.setattr("storage.record._LOOKED", 7)
    monkeypatch.setattr("storage.record.BATCH", 3)
    await kept.put(at(f"{number}", number // 5) for number in range(60))
    await given(kept, *(f"{number}" for number in range(30)), second=100)
    sweeper = kept.sweeper(most=1)
    await kept.put([at("late", 0)])
    await sweeper.sweep()
    assert await kept.names() == set()
    await kept.put(at(f"again {number}", number // 5) for number in range(20))
    await sweeper.sweep()
    assert await kept.names() == set()


async def test_while_one_sweeps_the_others_do_not(kept: Kept, database_url: str) -> None:
    """They leave it to that one, and begin again once it is gone, however it went."""
    await kept.put([made("old")])
    sweeper = kept.sweeper(PolicyConfig(ttl_s=1))
    other = await asyncpg.connect(database_url)
    assert await other.fetchval(sql.query("sweep_begin"))
    assert not await sweeper.sweep()
    assert await kept.names() == {"old"}
    other.terminate()
    async with asyncio.timeout(20):
        while not await sweeper.sweep():  # noqa: ASYNC110 -- the database has no event for it
            await asyncio.sleep(0.01)
    assert await kept.names() == set()


async def test_a_sweep_that_is_cut_off_leaves_it_to_others(kept: Kept) -> None:
    """Its connection goes, and with it the right to sweep."""
    await kept.put([made("old")])
    sweeper, blocker = kept.sweeper(PolicyConfig(ttl_s=1)), await kept.pool.acquire()
    await blocker.execute("begin; lock table askonce.completions in access exclusive mode")
    cut = asyncio.create_task(sweeper.sweep())
    waiting = "select count(*) from pg_locks where not granted"
    async with asyncio.timeout(20):
        while not await blocker.fetchval(waiting):  # noqa: ASYNC110 -- see above
            await asyncio.sleep(0.01)
    cut.cancel()
    await asyncio.wait({cut})
    await blocker.execute("rollback")
    await kept.pool.release(blocker)
    async with asyncio.timeout(20):
        while not await kept.sweeper(PolicyConfig(ttl_s=1)).sweep():  # noqa: ASYNC110 -- see above
            await asyncio.sleep(0.01)
    assert await kept.names() == set()


@pytest.mark.parametrize("bound", [False, True])
async def test_who_deletes_something_else_meanwhile_is_not_waited_for(
    kept: Kept, database_url: str, bound: bool
) -> None:
    """What another transaction holds stays for the next sweep."""
    await kept.put(at(f"{second}", second) for second in range(10))
    other = await asyncpg.connect(database_url)
    await other.execute("begin; select from askonce.completions where prompt_text = '3' for update")
    async with asyncio.timeout(20):
        await (kept.sweeper(most=1) if bound else kept.sweeper(PolicyConfig(ttl_s=1))).sweep()
    await other.execute("rollback")
    assert await kept.names() == {"3"}
    await other.close()


async def test_room_of_evicted_answers_is_used_again(kept: Kept) -> None:
    """The record on disk stops growing, however much goes through it."""
    text = "".join(map(str, range(400)))
    bound, sizes = 600 * 2**10, list[int]()
    sweeper = kept.sweeper(most=bound)
    for round_ in range(8):
        await kept.put(at(f"{round_} {number}", 1000 * round_ + number, text) for number in range(200))
        await sweeper.sweep()
        assert await kept.bytes() <= bound
        await kept.pool.execute("vacuum askonce.completions")  # which Postgres does by itself, some time
        sizes.append(await kept.pool.fetchval("select pg_total_relation_size('askonce.completions')"))
    assert max(sizes[4:]) <= 1.1 * max(sizes[:4])
    assert {name.split()[0] for name in await kept.names()} <= {"5", "6", "7"}
