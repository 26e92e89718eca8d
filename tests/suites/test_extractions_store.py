"""What was extracted, on a real Postgres: kept whole, found by whom it belongs to, and gone when it is deleted."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from storage import postgres
from storage.errors import RefusedError, StorageError
from storage.extracted import Call, ChunkSpan, Outcome, Record
from storage.extractions import Extractions
from tests.suites.extracted import NOON, TENANT, WORKER, begun, call, digest, document, found, guard, run, spans

STRANGER = "stranger"
HARD = "漢字を服用。 A 👩‍👩‍👧 and e\u0301 took Aspirin® 100 mg;\x00 \U0010ffff then\nアスピリン 🙂."


async def calls_of(store: Extractions) -> list[Call]:
    """All calls of a run, in the order of the text."""
    return sorted(await store.calls_since("ext_1", 0), key=lambda one: (one.chunk, one.pass_number, one.attempt))


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database of this test's own."""
    made = await postgres.connect(database_url, 4)
    yield made
    made.terminate()


@pytest.fixture
async def store(pool: asyncpg.Pool) -> AsyncIterator[Extractions]:
    """What is tested."""
    made = Extractions(pool, (guard(), guard()), 5.0)
    yield made
    await made.aclose()


async def rows(pool: asyncpg.Pool, *tables: str) -> list[int]:
    """How many rows each of these tables has."""
    return [await pool.fetchval(f"select count(*) from askonce.{table}") for table in tables]


async def silent(pool: asyncpg.Pool, name: str = "ext_1") -> None:
    """Have a run's worker be silent for a while."""
    await pool.execute("update askonce.extraction_runs set seen_at = now() - interval '31 s' where id = $1", name)


async def test_the_same_text_is_the_same_document(store: Extractions) -> None:
    """The id stays; what is said about it is said anew, unless nothing is said."""
    first = await store.put_document(document(meta={"title": "a"}))
    again = await store.put_document(document(id="doc_other", created_at=NOON + 9))
    assert again == first == await store.document(first.id, TENANT)
    renamed = await store.put_document(document(id="doc_other", meta={"title": "b"}))
    assert renamed == msgspec.structs.replace(first, meta={"title": "b"})
    assert await store.document("doc_other", TENANT) is None


async def test_places_are_the_same_in_sql(store: Extractions, pool: asyncpg.Pool) -> None:
    """Of Chinese, of emoji that are made of others, and after NUL, which Postgres cannot hold."""
    kept = await store.put_document(document(HARD))
    assert kept.text == HARD.replace("\x00", "\u2400")
    assert await store.document(kept.id, TENANT) == kept
    words = ["漢字", "👩‍👩‍👧", "e\u0301", "Aspirin®", "mg;\x00 \U0010ffff", "アスピリン", "🙂"]
    await store.begin(run(kept), {}, [ChunkSpan(0, 0, len(HARD), digest(HARD))])
    await store.commit("ext_1", [call(0, *(found(word, HARD) for word in words))], WORKER)
    said = await pool.fetch(
        "select x.text, x.quote, x.verbatim, substr(d.text, x.start_pos + 1, x.end_pos - x.start_pos) as there"
        " from api.extractions x join api.documents d on d.id = x.document_id order by x.ord"
    )
    assert [row["quote"].replace("\u2400", "\x00") for row in said] == words
    assert all(row["there"] == row["quote"] == row["text"] and row["verbatim"] for row in said)


async def test_a_run_is_found_as_it_was_begun(store: Extractions) -> None:
    """With what the database says of it."""
    kept = await store.put_document(document())
    made = run(kept, metadata={"for": "me\x00"}, options={"seed": 2**60, "odd": [1.5, None]}, made_by="k", passes=3)
    await store.begin(made, {"description": "Extract\x00."}, spans(2))
    seen = await store.run(made.id, TENANT)
    assert seen is not None
    assert seen.seen_at > 0
    expected = msgspec.structs.replace(made, chunks=2, seen_at=seen.seen_at, metadata={"for": "me\u2400"})
    assert seen == expected


async def test_calls_and_records_come_back_as_they_were(store: Extractions) -> None:
    """In the order of the document, whatever order they were committed in, and nothing is lost but NUL."""
    await begun(store)
    records = (
        found("aspirin", "Took aspirin.", attributes={"dose": 1.5, "tags": ["a", {"b": None}], "漢": True}, group=3),
        Record(name="drug", text="", attributes=None, fits=False, kept=False),
    )
    calls = [
        call(1, status="failed", chosen=False, key=None, prompt_hash=None, error={"code": "x"}, answered_at=None),
        call(1, attempt=1, engine="vllm", problems=('It says "no"', "back\\slash, {}", ""), prompt_tokens=7),
        call(0, *records, pass_number=1, model_version="w", cache="hit", tier="redis", finish_reason="stop"),
        call(0, status="empty"),
    ]
    assert await store.commit("ext_1", calls, WORKER) == "in_progress"
    kept = await calls_of(store)
    assert [msgspec.structs.replace(one, serial=0) for one in kept] == [calls[3], calls[2], calls[0], calls[1]]
    dirty = call(
        1, Record(name="a\x00", text="b\x00", attributes={"c\x00": ["\x00"]}, quote="\x00"), problems=("\x00",)
    )
    await store.commit("ext_1", [dirty], WORKER)
    [_, _, clean] = await calls_of(store)
    assert clean.records == (
        Record(name="a\u2400", text="b\u2400", attributes={"c\u2400": ["\u2400"]}, quote="\u2400"),
    )
    assert clean.problems == ("\u2400",)


@pytest.mark.parametrize("number", [10**300, 1e-300, 1e300, 2**64, -0.5])
async def test_any_number_of_json_is_kept(store: Extractions, number: float) -> None:
    """However large, or near to 0."""
    await begun(store)
    await store.commit("ext_1", [call(0, found("a", attributes={"n": number}))], WORKER)
    [kept] = await calls_of(store)
    assert kept.records[0].attributes == {"n": pytest.approx(number, rel=1e-15)}


async def test_a_chunk_can_be_committed_again(store: Extractions, pool: asyncpg.Pool) -> None:
    """What it had is replaced, other chunks stay, and who follows hears of it."""
    await begun(store)
    await store.commit("ext_1", [call(0, found("a"), found("b")), call(0, attempt=1), call(1, found("c"))], WORKER)
    before = await calls_of(store)
    again = [call(0, found("d"))]
    for _ in range(2):
        await store.commit("ext_1", again, WORKER)
    assert await rows(pool, "chunk_calls", "extractions") == [2, 2]
    assert [one.records[0].text for one in await calls_of(store)] == ["d", "c"]
    news = await store.calls_since("ext_1", max(one.serial for one in before))
    assert [one.records[0].text for one in news] == ["d"]
    assert await store.calls_since("ext_1", news[-1].serial) == []


async def test_who_follows_misses_nothing(store: Extractions) -> None:
    """However many commit at the same time: a lower serial is never seen after a higher one."""
    await begun(store)
    heard: list[Any] = []

    async def follow() -> None:
        while len(heard) < 60:
            heard.extend(await store.calls_since("ext_1", heard[-1].serial if heard else 0))

    async with asyncio.timeout(30):
        await asyncio.gather(
            follow(), *(store.commit("ext_1", [call(i), call(i, attempt=1)], WORKER) for i in range(30))
        )
    assert [one.serial for one in heard] == sorted(one.serial for one in heard)
    assert {(one.chunk, one.attempt) for one in heard} == {(i, j) for i in range(30) for j in range(2)}
    assert all(one.chunk == two.chunk for one, two in zip(heard[::2], heard[1::2], strict=True))


async def test_a_chunk_is_done_when_no_pass_failed_for_good(store: Extractions) -> None:
    """Another attempt mends it, another pass does not; an attempt after an answer costs nothing."""
    await begun(store)
    failed = call(0, status="failed")

    async def done(*calls: Any) -> int:
        await store.commit("ext_1", calls, WORKER)
        seen = await store.run("ext_1", TENANT)
        assert seen is not None
        return seen.chunks_done

    assert await done(failed) == 0
    assert await done(failed, call(0, pass_number=1)) == 0
    in_vain = call(0, status="failed", chosen=False)
    assert await done(in_vain, call(0, attempt=1, status="refused")) == 1
    assert await done(call(1, chosen=False), call(1, attempt=1), call(1, pass_number=1)) == 2
    assert await done(call(1), call(1, attempt=1, status="failed", chosen=False)) == 2
    assert await done(call(1, chosen=False), call(1, attempt=1, status="failed")) == 1


async def test_no_tenant_sees_anothers(store: Extractions, pool: asyncpg.Pool) -> None:
    """Nor touches it; the same text is a document of each."""
    made = await begun(store)
    other = await begun(store, name="ext_2", tenant=STRANGER)
    assert other.document_id != made.document_id
    assert await store.document(made.document_id, STRANGER) is None
    assert await store.run("ext_1", STRANGER) is None
    assert [seen.id for seen in await store.runs(STRANGER, 10)] == ["ext_2"]
    assert await store.runs(STRANGER, 10, document_id=made.document_id) == []
    await silent(pool)
    assert await store.cancel("ext_1", STRANGER) is None
    assert await store.reopen("ext_1", STRANGER, WORKER) is None
    assert not await store.delete_run("ext_1", STRANGER)
    assert not await store.delete_document(made.document_id, STRANGER)
    seen = await store.run("ext_1", TENANT)
    assert seen is not None
    assert seen.status == "in_progress"


async def test_runs_are_listed_newest_first(store: Extractions) -> None:
    """A page at a time, of all documents or one."""
    for number in range(5):
        await begun(store, f"text {number % 2}", f"ext_{number}", created_at=NOON + number)
    page = await store.runs(TENANT, 2)
    assert [seen.id for seen in page] == ["ext_4", "ext_3"]
    assert [seen.id for seen in await store.runs(TENANT, 2, before=page[-1].created_at)] == ["ext_2", "ext_1"]
    assert [seen.id for seen in await store.runs(TENANT, 2, before=page[-1].id)] == ["ext_2", "ext_1"]
    own = await store.runs(TENANT, 9, document_id=page[0].document_id)
    assert [seen.id for seen in own] == ["ext_4", "ext_2", "ext_0"]


async def test_what_is_deleted_is_gone_with_all_that_belongs_to_it(store: Extractions, pool: asyncpg.Pool) -> None:
    """Its run's worker is told with its next word."""
    made = await begun(store)
    await begun(store, name="ext_2")
    for name in ("ext_1", "ext_2"):
        await store.commit(name, [call(0, found("a")), call(1, found("b"))], WORKER)
    assert await store.delete_run("ext_1", TENANT)
    assert not await store.delete_run("ext_1", TENANT)
    assert await rows(pool, "documents", "chunks", "extraction_runs", "chunk_calls", "extractions") == [1, 2, 1, 2, 2]
    assert await store.delete_document(made.document_id, TENANT)
    assert not await store.delete_document(made.document_id, TENANT)
    assert await rows(pool, "documents", "chunks", "extraction_runs", "chunk_calls", "extractions") == [0] * 5
    assert await store.commit("ext_2", [call(0, found("a"))], WORKER) is None
    assert await store.commit("ext_2", [], WORKER) is None
    assert await store.end("ext_2", Outcome("completed", {}, None, time.time()), WORKER) is None
    assert await rows(pool, "chunk_calls", "extractions") == [0, 0]


async def test_a_run_that_is_to_be_cancelled_is(store: Extractions, pool: asyncpg.Pool) -> None:
    """Its worker hears of it, writes what it has, and ends it; however it says that it ended, unless it is complete."""
    await begun(store)
    cancelled = await store.cancel("ext_1", TENANT)
    assert cancelled is not None
    assert (cancelled.status, cancelled.ended_at) == ("cancelling", None)
    assert await store.commit("ext_1", [], WORKER) == "cancelling"
    assert await store.commit("ext_1", [call(0)], WORKER) == "cancelling"
    assert await store.end("ext_1", Outcome("incomplete", {"calls": 1}, None, time.time()), WORKER) == "cancelled"
    ended = await store.run("ext_1", TENANT)
    assert ended is not None
    assert (ended.status, ended.counts) == ("cancelled", {"calls": 1})
    assert ended.ended_at is not None
    assert await store.end("ext_1", Outcome("failed", {}, {"code": "late"}, time.time()), WORKER) == "cancelled"
    assert await store.commit("ext_1", [call(1)], WORKER) == "cancelled"
    assert await store.cancel("ext_1", TENANT) == await store.run("ext_1", TENANT) == ended
    assert await rows(pool, "chunk_calls") == [1]


async def test_a_run_whose_worker_is_gone_is_cancelled_at_once(store: Extractions, pool: asyncpg.Pool) -> None:
    """There is nobody to hear of it."""
    await begun(store)
    await store.cancel("ext_1", TENANT)
    await silent(pool)
    cancelled = await store.cancel("ext_1", TENANT)
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    assert cancelled.ended_at is not None


async def test_a_run_goes_on_once(store: Extractions, pool: asyncpg.Pool) -> None:
    """One that is complete or alive does not; of several who want it to, one gets it."""
    await begun(store)

    async def reopened() -> list[str]:
        found = await asyncio.gather(*(store.reopen("ext_1", TENANT, WORKER) for _ in range(4)))
        return [run.status for run in found if run is not None]

    assert await reopened() == []
    for status in ("incomplete", "failed", "cancelled"):
        await store.end("ext_1", Outcome(status, {}, {"code": "x"}, time.time()), WORKER)
        assert await reopened() == ["in_progress"]
    again = await store.run("ext_1", TENANT)
    assert again is not None
    assert (again.error, again.ended_at) == (None, None)
    await silent(pool)
    assert await reopened() == ["in_progress"]
    await store.cancel("ext_1", TENANT)
    assert await reopened() == []
    await silent(pool)
    assert await reopened() == ["in_progress"]
    await store.end("ext_1", Outcome("completed", {}, None, time.time()), WORKER)
    await silent(pool)
    assert await reopened() == []


@pytest.mark.parametrize("turn", range(10))
async def test_cancelling_and_ending_at_once_agree(store: Extractions, turn: int) -> None:
    """Whoever is first: what is complete is complete, and who wanted to cancel it heard what was so then."""
    await begun(store)
    asked = [store.cancel("ext_1", TENANT), store.end("ext_1", Outcome("completed", {}, None, time.time()), WORKER)]
    said: list[Any] = await asyncio.gather(*(asked if turn % 2 else reversed(asked)))
    [cancelled, ended] = said if turn % 2 else reversed(said)
    final = await store.run("ext_1", TENANT)
    assert final is not None
    assert ended == final.status
    assert (cancelled.status, final.status) in {("completed", "completed"), ("cancelling", "completed")}


async def test_what_cannot_be_a_row_is_refused(store: Extractions, pool: asyncpg.Pool) -> None:
    """All of it, in words that quote nothing of it; and the database counts as well."""
    kept = await store.put_document(document())
    gone = msgspec.structs.replace(run(kept, "ext_9"), document_id="doc_gone")
    secret = "my secret"
    with pytest.raises(RefusedError):
        await store.begin(gone, {}, spans(1))
    assert await rows(pool, "recipes", "chunks") == [0, 0]
    await begun(store)
    for odd in (
        [call(0), call(0)],
        [call(0, Record(name=secret, text=secret, start=5, end=3))],
        [call(0, Record(name=secret, text=secret + "\ud800"))],
        [call(0, Record(name=secret, text=secret, attributes={secret: "\ud800"}))],
        [call(0, prompt_tokens=2**40)],
        [call(0, status=secret)],
    ):
        with pytest.raises(RefusedError) as error:
            await store.commit("ext_1", odd, WORKER)
        assert secret not in str(error.value)
    assert await rows(pool, "chunk_calls") == [0]


async def test_an_id_that_cannot_be_one_is_no_fault_of_the_database(pool: asyncpg.Pool) -> None:
    """A client who makes one up does not have everybody's database left alone."""
    reads = guard()
    store = Extractions(pool, (reads, guard()), 5.0)
    for name in ("\x00", "\ud800"):
        with pytest.raises(RefusedError):
            await store.run(name, TENANT)
    assert not reads.fault


async def test_words_of_any_length_can_be_kept(store: Extractions) -> None:
    """An index has bounds that a model does not know."""
    await begun(store)
    long = " ".join(f"{number:x}漢" for number in range(100_000))
    await store.commit("ext_1", [call(0, Record(name=long, text=long, attributes={long: long}, quote=long))], WORKER)
    [kept] = await calls_of(store)
    assert kept.records[0].text == long
    assert kept.records[0].name == long[:500]


async def test_a_database_that_is_away_is_named(pool: asyncpg.Pool) -> None:
    """Each call ends with an error that says so."""
    store = Extractions(pool, (guard(), guard()), 5.0)
    made = await begun(store)
    pool.terminate()
    for asked in (
        store.run("ext_1", TENANT),
        store.calls_since("ext_1", 0),
        store.commit("ext_1", [], WORKER),
        store.begin(made, {}, []),
    ):
        with pytest.raises(StorageError, match="postgres tier failed"):
            await asked


async def test_records_are_found_by_their_words_attributes_and_places(store: Extractions, pool: asyncpg.Pool) -> None:
    """In SQL, and only those that are part of the result."""
    text = "Took aspirin 100 mg, then ibuprofen."
    await begun(store, text)
    first = found("aspirin", text, attributes={"status": "taken"})
    second = found("aspirin 100 mg", text, name="dose", kept=False)
    await store.commit("ext_1", [call(0, first, found("ibuprofen", text)), call(0, second, pass_number=1)], WORKER)
    query = "select text from api.extractions where {} order by text"
    for condition, expected in {
        "class = 'drug'": ["aspirin", "ibuprofen"],
        'attributes @> \'{"status": "taken"}\'': ["aspirin"],
        "tsv @@ to_tsquery('simple', 'ibuprofen')": ["ibuprofen"],
        "span && int4range(0, 10)": ["aspirin"],
        f"key = '{digest('key 0').hex()}' and model = 'm'": ["aspirin", "ibuprofen"],
    }.items():
        assert [row["text"] for row in await pool.fetch(query.format(condition))] == expected
    calls = await pool.fetch("select chunk, pass, start_pos, end_pos, status from api.extraction_calls order by pass")
    assert [tuple(row) for row in calls] == [(0, 0, 0, 10, "ok"), (0, 1, 0, 10, "ok")]
    [seen] = await pool.fetch("select recipe, status, chunks, chunks_done from api.extraction_runs")
    assert tuple(seen) == ("clinic-notes", "in_progress", 2, 1)


async def test_a_worker_that_was_silent_for_long_writes_no_more(store: Extractions, pool: asyncpg.Pool) -> None:
    """Somebody else goes on with its run: what it says when it wakes changes nothing."""
    await begun(store)
    await store.commit("ext_1", [call(0)], WORKER)
    await silent(pool)
    resumed = await store.reopen("ext_1", TENANT, "another")
    assert resumed is not None
    assert resumed.worker == "another"
    assert (await store.commit("ext_1", [], WORKER), await store.commit("ext_1", [], "")) == (None, None)
    assert await store.commit("ext_1", [call(0, status="failed"), call(1)], WORKER) is None
    assert await store.end("ext_1", Outcome("cancelled", {}, None, time.time()), WORKER) is None
    assert [(one.chunk, one.status) for one in await calls_of(store)] == [(0, "ok")]
    assert await store.commit("ext_1", [call(1)], "another") == "in_progress"
    assert await store.end("ext_1", Outcome("completed", {}, None, time.time()), "another") == "completed"
