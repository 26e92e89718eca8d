"""Views of a recipe's classes on a real Postgres: typed columns, nothing of others, and names are only names."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from storage import postgres, recipe_views
from storage.errors import StorageError
from storage.extractions import Extractions
from storage.migrate import LOCK
from storage.recipe_views import ensure
from tests.suites.extracted import WORKER, begun, call, digest, found, guard

TYPES: dict[str, Any] = {
    "dose": {"type": "string"},
    "kind": {"enum": ["a", "b"]},
    "times": {"type": "integer"},
    "weight": {"type": ["number", "null"]},
    "since": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "sure": {"type": "boolean"},
    "many": {"type": "array", "items": {"type": "string"}},
    "either": {"type": ["string", "integer"]},
    "level": {"enum": [1, 2]},
}
FIXED = [
    *("run_id", "tenant", "document_id", "edition", "text", "quote", "verbatim", "start_pos", "end_pos", "alignment"),
    *("key", "model", "created_at"),
]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database of this test's own."""
    made = await postgres.connect(database_url, 6)
    yield made
    made.terminate()


async def keep(pool: asyncpg.Pool, *attributes: dict[str, Any] | None, **fields: Any) -> None:
    """Have a record with each of these attributes, in one run."""
    store = Extractions(pool, (guard(), guard()), 5.0)
    made = await begun(store, "aspirin", **fields)
    await store.commit(made.id, [call(0, *(found("aspirin", "aspirin", attributes=one) for one in attributes))], WORKER)


def shape(**properties: Any) -> dict[str, Any]:
    """The JSON Schema of a class with these attributes."""
    return {"type": "object", "properties": properties}


async def columns(pool: asyncpg.Pool, view: str) -> dict[str, str]:
    """The columns of a view, and their types."""
    rows = await pool.fetch(
        "select attname, format_type(atttypid, atttypmod) as type from pg_attribute"
        " where attrelid = ('api.' || quote_ident($1))::regclass and attnum > 0 order by attnum",
        view,
    )
    return {row["attname"]: row["type"] for row in rows}


async def test_each_attribute_has_its_type(pool: asyncpg.Pool) -> None:
    """What may be null besides is of that type, and what may be several is JSON."""
    await ensure(pool, "clinic-notes", {"drug": shape(**TYPES), "side-effect": shape()})
    found_ = await columns(pool, "clinic_notes_drug")
    assert list(found_) == FIXED + list(TYPES)
    assert list(await columns(pool, "clinic_notes_side_effect")) == FIXED
    text, number = "text", "double precision"
    types = [text, text, "bigint", number, text, "boolean", "jsonb", "jsonb", "jsonb"]
    assert [found_[name] for name in TYPES] == types
    right = {"dose": "1", "kind": "a", "times": 2**60, "weight": 1.5, "since": "x", "sure": True, "many": ["x"]}
    await keep(pool, right | {"either": 1, "level": 2})
    [row] = await pool.fetch("select * from api.clinic_notes_drug")
    assert [row[name] for name in TYPES] == [*("1", "a", 2**60, 1.5, "x", True), '["x"]', "1", "2"]
    assert (row["text"], row["quote"], row["verbatim"], row["start_pos"]) == ("aspirin", "aspirin", True, 0)
    assert (row["run_id"], row["edition"], row["key"]) == ("ext_1", "1-abc", digest("key 0").hex())


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("x", {"dose", "kind", "since"}),
        ("1", {"dose", "kind", "since"}),
        (7, {"times", "weight"}),
        (-(2**63), {"times", "weight"}),
        (1.5, {"weight"}),
        (2**70, {"weight"}),
        (10**400, set[str]()),
        (True, {"sure"}),
        (None, set[str]()),
        ([], set[str]()),
        ({"a": 1}, set[str]()),
    ],
    ids=str,
)
async def test_a_value_of_another_type_is_null(pool: asyncpg.Pool, value: Any, fits: set[str]) -> None:
    """And never an error, however large it is."""
    await keep(pool, dict.fromkeys(TYPES, value))
    await ensure(pool, "clinic-notes", {"drug": shape(**TYPES)})
    [row] = await pool.fetch("select * from api.clinic_notes_drug")
    typed = list(TYPES)[:6]
    assert {name: row[name] for name in typed} == {name: value if name in fits else None for name in typed}


async def test_what_is_no_number_here_or_not_there_is_null(pool: asyncpg.Pool) -> None:
    """JSON has numbers beyond all types, and a record may have no attributes."""
    await keep(pool, None, {}, {"times": 0, "weight": 0})
    for number in ("1e9999", "-1e9999", "1e-9999", "1e-320", "-1.0"):
        attributes = f'{{"times": {number}, "weight": {number}}}'
        await pool.execute("update askonce.extractions set attributes = $1::text::jsonb where ord = 2", attributes)
        await ensure(pool, "clinic-notes", {"drug": shape(**TYPES)})
        rows = await pool.fetch("select times, weight from api.clinic_notes_drug order by times nulls last")
        expected = (-1, -1) if number == "-1.0" else (None, None)
        assert [tuple(row) for row in rows] == [expected, (None, None), (None, None)]


async def test_a_view_has_the_result_of_its_recipe_alone(pool: asyncpg.Pool) -> None:
    """Of every edition and tenant, but of no other recipe or class, and nothing that a run left out."""
    store = Extractions(pool, (guard(), guard()), 5.0)
    for name, recipe, edition in (("ext_1", "r", "1-a"), ("ext_2", "r", "2-b"), ("ext_3", "s", "1-a")):
        await begun(store, name=name, recipe=recipe, edition=edition, tenant=name.replace("_", "-"))
        records = (found("kept"), found("other", name="condition"), found("left out", kept=False))
        await store.commit(name, [call(0, *records)], WORKER)
    await ensure(pool, "r", {"drug": shape()})
    rows = await pool.fetch("select run_id, tenant, edition, text from api.r_drug order by run_id")
    assert [tuple(row) for row in rows] == [("ext_1", "ext-1", "1-a", "kept"), ("ext_2", "ext-2", "2-b", "kept")]


async def test_a_recipe_may_change(pool: asyncpg.Pool) -> None:
    """Columns come, go and become others; each time the view is what the recipe says, also of what was found before."""
    await keep(pool, {"dose": "1", "n": 5})
    for properties in (
        {"dose": {"type": "string"}},
        {"dose": {"type": "string"}, "n": {"type": "integer"}},
        {"n": {"type": "integer"}},
        {"n": {"type": "string"}},
        {"n": {"type": "integer"}, "dose": {"type": "string"}},
    ):
        await ensure(pool, "clinic-notes", {"drug": shape(**properties)})
        assert list(await columns(pool, "clinic_notes_drug")) == FIXED + list(properties)
    assert await pool.fetchval("select (n, dose)::text from api.clinic_notes_drug") == "(5,1)"


async def test_what_is_as_it_should_be_is_not_touched(pool: asyncpg.Pool) -> None:
    """Who reads it for long does not stop a start, and many may start at once."""
    await asyncio.gather(*(ensure(pool, "r", {"drug": shape(**TYPES)}) for _ in range(4)))
    before = await pool.fetchval("select xmin::text from pg_class where oid = 'api.r_drug'::regclass")
    async with pool.acquire() as reader, reader.transaction():
        await reader.execute("select * from api.r_drug")
        await ensure(pool, "r", {"drug": shape(**TYPES)})
    assert await pool.fetchval("select xmin::text from pg_class where oid = 'api.r_drug'::regclass") == before


@pytest.mark.parametrize("sort", ["view", "table", "materialized view"])
async def test_what_somebody_else_made_stays(pool: asyncpg.Pool, sort: str) -> None:
    """Also a view of our own, and that of another recipe whose name comes to the same."""
    await pool.execute(f"create {sort} api.r_drug as select 1 as mine")
    with pytest.raises(StorageError, match=r"something else called api\.r_drug"):
        await ensure(pool, "r", {"drug": shape()})
    assert await pool.fetchval("select mine from api.r_drug") == 1
    with pytest.raises(StorageError, match=r"something else called api\.extraction_runs"):
        await ensure(pool, "extraction", {"runs": shape()})
    await ensure(pool, "a-b", {"c": shape()})
    with pytest.raises(StorageError, match=r"something else called api\.a_b_c"):
        await ensure(pool, "a", {"b-c": shape()})


async def test_what_depends_on_a_view_is_named(pool: asyncpg.Pool) -> None:
    """It is not dropped with it."""
    await ensure(pool, "r", {"drug": shape(dose={"type": "string"})})
    await pool.execute("create view public.mine as select dose from api.r_drug")
    with pytest.raises(StorageError, match=r"columns of api\.r_drug have changed, but something else is made of them"):
        await ensure(pool, "r", {"drug": shape()})
    assert "dose" in await columns(pool, "r_drug")
    await ensure(pool, "r", {"drug": shape(dose={"type": "string"}, more={"type": "string"})})


async def test_odd_names_are_names(pool: asyncpg.Pool) -> None:
    """Whatever a file calls its attributes: each has a column of its own, and nothing of it is ever run."""
    long = "漢" * 30
    odd = [
        *("text", "text_", "Text", "key", "ctid", "xmin", "", "_", " ", "a b", 'quo"te', "quo'te", "back\\slash", "$1"),
        *("'; drop table askonce.extractions; --", '" from x; drop schema api cascade; --', "\x00", "\u2400"),
        *("\\'; select 1 / 0; --", long, long + "1", long + "2", "select", "dose--", "/*", "%I", "{}"),
    ]
    await ensure(pool, "r", {"drug": shape(**{name: {"type": "integer"} for name in odd})})
    await keep(pool, {name: number for number, name in enumerate(odd) if name != "\x00"}, recipe="r")
    [row] = await pool.fetch("select * from api.r_drug")
    own = list(row.items())[len(FIXED) :]
    assert len({name for name, _ in own}) == len(odd)
    assert all(0 < len(name.encode()) < 64 for name, _ in own)
    expected = [odd.index("\u2400") if name == "\x00" else number for number, name in enumerate(odd)]
    assert [value for _, value in own] == expected
    names = dict(zip(odd, (name for name, _ in own), strict=True))
    assert (names["text"], names["text_"], names["Text"], names["key"]) == ("text__", "text_", "Text", "key_")
    assert row["text"] == "aspirin"


async def test_long_and_odd_recipes_have_views_too(pool: asyncpg.Pool) -> None:
    """Of names that Postgres would cut, none takes another's place."""
    recipe, odd = "a" * 40, "o'd\"d; drop schema api cascade; --\\"
    classes = {"b" * 39 + "c": shape(), "b" * 39 + "d": shape()}
    await ensure(pool, recipe, classes)
    await ensure(pool, odd, {odd: shape()})
    await keep(pool, {}, recipe=recipe)
    names = [row[0] for row in await pool.fetch("select relname from pg_class where relname like 'aaaa%'")]
    assert len(names) == 2
    await ensure(pool, recipe, classes)
    assert await pool.fetchval("select count(*) from pg_views where schemaname = 'api' and viewname like 'o''d%'") == 1


async def test_views_show_what_the_reader_may_see(pool: asyncpg.Pool) -> None:
    """Rights are those of who asks, not of who made the view."""
    await ensure(pool, "r", {"drug": shape()})
    await pool.execute("create role guest; grant usage on schema api to guest; grant select on api.r_drug to guest")
    try:
        async with pool.acquire() as connection:
            await connection.execute("set role guest")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("select * from api.r_drug")
            await connection.execute("reset role")
    finally:
        await pool.execute("drop owned by guest; drop role guest")


async def test_a_lock_is_not_waited_for_for_ever(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who migrates, or reads a view that has to change, is named in one sentence."""
    monkeypatch.setattr(recipe_views, "_LOCK_WAIT", "200ms")
    await ensure(pool, "r", {"drug": shape(n={"type": "string"})})
    async with pool.acquire() as other, other.transaction():
        await other.execute("select pg_advisory_xact_lock($1)", LOCK)
        with pytest.raises(StorageError, match=r"api\.r_drug cannot be made .*lock timeout"):
            await ensure(pool, "r", {"drug": shape()})
    async with pool.acquire() as other, other.transaction():
        await other.execute("select * from api.r_drug")
        with pytest.raises(StorageError, match=r"api\.r_drug cannot be made .*lock timeout"):
            await ensure(pool, "r", {"drug": shape()})
    assert "n" in await columns(pool, "r_drug")
    await ensure(pool, "r", {"drug": shape()})
    assert "n" not in await columns(pool, "r_drug")


async def test_a_database_that_is_away_is_named(pool: asyncpg.Pool) -> None:
    """In one sentence."""
    pool.terminate()
    with pytest.raises(StorageError, match=r"api\.r_drug cannot be made"):
        await ensure(pool, "r", {"drug": shape()})
