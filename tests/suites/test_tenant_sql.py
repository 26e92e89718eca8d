"""Tenants' SQL on a real Postgres: nothing of others, nothing that lasts, nothing without a bound."""

import asyncio
import tracemalloc

import asyncpg
import pytest

from storage import postgres, recipe_views
from storage.tenant_sql import preparing, selftest
from storage.tenant_sql.connection import TenantConnection
from storage.tenant_sql.faults import SqlFault
from storage.tenant_sql.gate import Gate
from storage.tenant_sql.selftest import Attack
from storage.tenant_sql.statements import Limits
from tests.conftest import Servers
from tests.suites.gates import at
from tests.suites.tenants import Site, site

__all__ = ["site"]

BUSY = "select count(*) from generate_series(1, 30000) a, generate_series(1, 30000) b"


async def test_there_are_enough_attacks() -> None:
    """And no two are the same."""
    statements = [attack.sql for attack in selftest.attacks()]
    assert len(set(statements)) == len(statements) >= 500


async def test_no_attack_gets_through_in_a_session_of_the_tenants_own(site: Site) -> None:
    """As a tenant logs in, not as the test at each start has it; and all rows are there that could be told."""
    before = await site.pool.fetchrow(
        "select (select count(*) from askonce.completions), (select count(*) from pg_roles)"
    )
    role = site.pair.names["self"]
    connection = await asyncpg.connect(
        site.url, user=role, connection_class=TenantConnection, statement_cache_size=0,
        server_settings={"statement_timeout": "250ms"},
    )  # fmt: skip
    transaction = connection.transaction(readonly=True)
    await transaction.start()
    failures = [await selftest.tried(connection, attack, site.pair) for attack in selftest.attacks()]
    await transaction.rollback()
    await connection.close()
    assert [failure for failure in failures if failure] == []
    after = await site.pool.fetchrow(
        "select (select count(*) from askonce.completions), (select count(*) from pg_roles)"
    )
    assert before == after


async def test_the_test_at_the_start_leaves_nothing(site: Site) -> None:
    """No row, no role: it is rolled back."""
    query = "select (select count(*) from askonce.tenants) + (select count(*) from pg_roles)"
    before = await site.pool.fetchval(query)
    assert await selftest.run(site.url) == []
    assert await site.pool.fetchval(query) == before


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        ("drop policy tenants on askonce.completions", "without a policy of theirs"),
        ("alter table askonce.documents disable row level security", "without a policy of theirs"),
        ("grant execute on function pg_sleep(double precision) to public", "is not refused"),
        ("grant select on pg_stats to public", "is not refused"),
        ("alter view api.usage set (security_invoker = false)", "shows everybody's rows"),
        ("create view api.all_of_it as select * from askonce.completions; grant select on api.all_of_it to public",
         "tenants can read api.all_of_it"),
        ("grant create on schema api to public", "can make things in the schema api"),
    ],
)  # fmt: skip
async def test_what_somebody_broke_is_found(site: Site, harm: str, found: str) -> None:
    """So that nobody is let in."""
    await site.pool.execute(harm)
    failures = await selftest.run(site.url)
    assert any(found in failure for failure in failures), failures
    if "pg_sleep" in harm:  # what can be mended is, by preparing it again
        assert await preparing.prepare(site.url) == ""


async def test_a_result_has_columns_with_types(site: Site) -> None:
    """And values that JSON can say, with what it cannot as text."""
    result = await site.run("select 1 as one, 1.50 as two, null::text as three, '{\"a\": [1]}'::jsonb as four")
    assert [(column.name, column.type) for column in result.columns] == [
        ("one", "int4"), ("two", "numeric"), ("three", "text"), ("four", "jsonb"),
    ]  # fmt: skip
    assert await site.rows(
        "select 1, 1.5, 'NaN'::float8, 'infinity'::timestamptz, '4000-01-01 bc'::date, '24:00'::time, '[1]'::jsonb,"
        " array[1, null], '\\x00ff'::bytea, int4range(1, 2), true"
    ) == [
        [1, 1.5, "NaN", "infinity", "4000-01-01 BC", "24:00:00", [1], [1, None], "\\x00ff", "[1,2)", True]
    ]  # fmt: skip


async def test_parameters_are_of_the_types_that_the_statement_takes(site: Site) -> None:
    """Numbers, texts, lists and JSON; others are refused with their place."""
    assert await site.rows(
        "select $1::integer + 1, $2::timestamptz::date, $3::jsonb -> 'a', $4::text[], $5 + 0.5",
        *(1, "2026-01-02T00:00:00Z", {"a": 1}, ["x"], 2),
    ) == [[2, "2026-01-02", 1, ["x"], 2.5]]
    assert "Parameter $1" in str(await site.fault("select $1::integer", True))
    assert (await site.fault("select $1::integer")).code == "sql_params"
    assert (await site.fault("select $1::integer", "x")).code == "sql_params"


async def test_rows_bytes_and_time_have_bounds(site: Site) -> None:
    """What is more is left out, and told."""
    result = await site.run("select * from generate_series(1, 1000)")
    assert (result.count, result.truncated) == (100, True)
    result = await site.run("select * from generate_series(1, 100)")
    assert (result.count, result.truncated) == (100, False)
    result = await site.run("select repeat('x', 100000) from generate_series(1, 50)")
    assert (result.count, result.truncated) == (10, True)
    assert (await site.fault("select repeat('x', 2000000)")).code == "sql_too_large"
    assert (await site.fault(BUSY)).code == "sql_timeout"


async def test_a_huge_value_is_refused_before_it_is_here(site: Site) -> None:
    """It does not come into this process; and what came before it is given."""
    tracemalloc.start()
    try:
        for text in (
            "select repeat('x', 60000000)",
            "select 1, array_agg(repeat('x', 1000)) from generate_series(1, 60000)",
        ):
            assert (await site.fault(text)).code == "sql_too_large"
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()
    result = await site.run("select repeat('x', case n when 3 then 60000000 else 9 end) from generate_series(1, 5) n")
    assert (result.count, result.truncated) == (1, True)
    assert await site.rows("select 1") == [[1]]


@pytest.mark.parametrize(
    ("text", "code", "position"),
    [
        ("select nonsense from completions", "sql_syntax", 8),
        ("explain select nonsense from completions", "sql_syntax", 16),
        ("delete from completions", "sql_syntax", 1),
        ("select pg_sleep(1)", "sql_not_allowed", None),
        ("select text::integer from completions", "sql_failed", None),
        ("select 1 \0", "sql_syntax", None),
    ],
)
async def test_an_error_has_a_code_and_a_place_but_no_value(
    site: Site, text: str, code: str, position: int | None
) -> None:
    """Not even one of the tenant's own."""
    fault = await site.fault(text)
    assert (fault.code, fault.position) == (code, position)
    assert site.pair.own not in str(fault)


async def test_who_leaves_has_postgres_stop(site: Site) -> None:
    """And its place is free again once it has."""
    for _ in range(4):
        task = asyncio.create_task(site.run(BUSY))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await site.gate.aclose()
    assert await site.pool.fetchval("select count(*) from pg_stat_activity where application_name = 'askonce sql'") == 0
    assert await site.rows("select 1") == [[1]]


async def test_a_tenant_has_only_so_many_at_once(site: Site) -> None:
    """The next one waits a moment for them, and is told so then."""
    tasks = [asyncio.create_task(site.run(BUSY)) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert (await site.fault("select 1")).code == "sql_busy"
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_asks_one_after_the_other_is_never_too_many(site: Site) -> None:
    """However quickly: what is left of the last statement is waited for. Four at once are no more than a line."""
    for number in range(60):
        assert await site.rows(f"select {number}") == [[number]]
    assert await asyncio.gather(*(site.rows("select 1") for _ in range(4))) == [[[1]]] * 4


async def test_a_tenant_that_is_made_later_has_a_role_when_it_asks(site: Site) -> None:
    """And sees nothing yet; who is no tenant has none."""
    await site.pool.execute("insert into askonce.tenants (name) values ('later')")
    result = await site.gate.run("later", "select * from completions")
    assert result.count == 0
    with pytest.raises(SqlFault, match="no tenant 'nobody'"):
        await site.gate.run("nobody", "select 1")


async def test_the_role_of_a_tenant_goes_with_it(site: Site) -> None:
    """At the next start at the latest; until then it sees nothing."""
    role = site.pair.names["role"]
    await site.pool.execute("delete from askonce.tenants where name = $1", site.pair.names["other"])
    connection = await asyncpg.connect(site.url, user=role)
    assert await connection.fetchval("select count(*) from api.completions") == 0
    await connection.close()
    assert await preparing.prepare(site.url) == ""
    assert await site.pool.fetchval("select count(*) from pg_roles where rolname = $1", role) == 0


async def test_what_a_tenant_shares_is_seen(site: Site) -> None:
    """As long as it shares it."""
    shared = f"select count(*) from completions where scope = 'shared/{site.pair.names['shared']}'"
    assert await site.rows(shared) == [[0]]
    await site.pool.execute(
        "insert into askonce.namespace_members (namespace, tenant) values ($1, $2)",
        *(site.pair.names["shared"], site.pair.names["own"]),
    )
    assert await site.rows(shared) == [[1]]


async def test_a_view_of_a_recipe_is_the_tenants_too(site: Site) -> None:
    """Also one that is made later, or made anew; and only with the tenant's own rows."""
    for attributes in ({"x": {"type": "string"}}, {"y": {"type": "string"}}):
        await recipe_views.ensure(
            site.pool, site.pair.own, {site.pair.own: {"type": "object", "properties": attributes}}
        )
        view = f"{site.pair.own}_{site.pair.own}"
        assert await site.rows(f'select text from "{view}"') == [[site.pair.own]]


async def test_the_newest_answers_are_found_by_an_index(site: Site) -> None:
    """The policy does not stand before it: with many answers nothing is sorted, nor read that is not wanted."""
    more = """
      insert into askonce.completions
      select (jsonb_populate_record(c, jsonb_build_object(
        'key', '\\x' || encode(sha256(convert_to(n::text, 'utf8')), 'hex'),
        'created_at', c.created_at - n * interval '1 s'
      ))).*
      from askonce.completions c, generate_series(1, 3000) n
      where c.scope = $1
    """
    await site.pool.execute(more, site.pair.names["own"])
    await site.pool.execute("analyze askonce.completions")
    for view in ("completions", "messages"):
        plan = [line for [line] in await site.rows(f"explain select key from {view} order by created_at desc limit 5")]
        assert any("Index Scan Backward using completions_created_at" in line for line in plan), plan
        assert not any("Sort" in line or "Seq Scan" in line for line in plan), plan


async def test_before_it_is_prepared_nobody_is_let_in(database_url: str) -> None:
    """With the reason; and a database that is not our own is left as it is."""
    pool = await postgres.connect(database_url, 2)
    gate = Gate(pool, at(database_url), Limits())
    with pytest.raises(SqlFault, match="has not been prepared yet"):
        await gate.run("default", "select 1")
    assert "'off'" in await preparing.prepare(database_url, "off")
    with pytest.raises(SqlFault, match="the setting tenant_sql is 'off'"):
        await gate.run("default", "select 1")
    await pool.execute("update askonce.tenant_sql set tested = 'x', refused = ''")
    with pytest.raises(SqlFault, match="another version of askonce"):
        await gate.run("default", "select 1")
    pool.terminate()


async def test_where_sql_is_off_no_role_connects(site: Site) -> None:
    """Nor does it past the gate; once it is on again, all come in as before."""
    role = site.pair.names["self"]
    await (await asyncpg.connect(site.url, user=role)).close()
    assert "'off'" in await preparing.prepare(site.url, "off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(site.url, user=role)
    assert await preparing.prepare(site.url) == ""
    await (await asyncpg.connect(site.url, user=role)).close()


async def test_a_role_without_rights_is_told_why(site: Site, servers: Servers) -> None:
    """And serving goes on as before: who holds grants still reads and writes what it did."""
    del servers
    await site.pool.execute(
        "create role plain login; grant usage on schema askonce, api to plain;"
        " grant all on all tables in schema askonce to plain; grant connect on database "
        f'"{await site.pool.fetchval("select current_database()")}" to plain'
    )
    try:
        url = site.url.replace("//askonce@", "//plain@")
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select count(*) from askonce.completions") == 3
        await connection.close()
        assert "no superuser" in await preparing.prepare(url)
    finally:
        await site.pool.execute("drop owned by plain; drop role plain")


async def test_whoever_writes_meanwhile_does_not_fail_the_test(site: Site) -> None:
    """Answers are kept and views are made while it goes on; what it looks for is what it left behind itself."""
    over = asyncio.Event()

    async def write() -> int:
        count = 0
        while not over.is_set():
            await site.pool.execute("insert into askonce.tenants (name) values ($1)", f"late-{count}")
            await site.pool.execute(f"create view api.late_{count} with (security_invoker = true) as select 1 as one")
            count += 1
        return count

    writing = asyncio.create_task(write())
    assert await selftest.run(site.url) == []
    over.set()
    assert await writing > 10


async def test_a_busy_server_does_not_fail_the_test(site: Site) -> None:
    """A statement that takes its time is tried again with more of it; what is never done is told."""
    connection = await asyncpg.connect(site.url, connection_class=TenantConnection, statement_cache_size=0)
    try:
        async with connection.transaction():
            slow, endless = (
                Attack(f"select count(*) from generate_series(1, {count}) a, generate_series(1, 1000) b", "quiet")
                for count in (5_000, 5_000_000)
            )
            assert await selftest.tried(connection, slow, site.pair) is None
            assert "sql_timeout" in (await selftest.tried(connection, endless, site.pair) or "")
    finally:
        connection.terminate()
