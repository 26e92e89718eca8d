"""A tenant's rows for other programs: `askonce sql`, and its connection string, on a real `askonce serve`."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import asyncpg
import httpx
import pytest

from storage.embedded import clients
from storage.tenant_sql.selftest import attacks
from tests.acceptance.serving import ROOT, Served, short_folder

WORDS = {"acme": "oursq7w2", "rival": "theirsk4x9"}
"""What each of two tenants has asked."""
BUSY = "select count(*) from generate_series(1, 30000) a, generate_series(1, 30000) b"


class Site:
    """A server that listens for tenants' programs, two tenants, and an answer of each."""

    def __init__(self, server: Served) -> None:
        self.server = server
        for tenant, word in WORDS.items():
            key = self.key(tenant)
            chat = {"model": "gemma-3-askonce", "messages": [{"role": "user", "content": word}], "max_tokens": 2}
            headers = {"authorization": f"Bearer {key}"}
            said = httpx.post(f"{server.url}/v1/chat/completions", json=chat, headers=headers, timeout=60)
            assert said.status_code == 200, said.text
            deadline = time.monotonic() + 30
            while "(1 row)" not in self.tried("--tenant", tenant, "-c", "select from completions").stdout:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def key(self, tenant: str) -> str:
        """One of a tenant's."""
        words = [sys.executable, "-m", "gateway.cli", "keys", "create", "--data-dir", str(self.server.data_dir)]
        done = subprocess.run([*words, "--tenant", tenant], capture_output=True, text=True, check=True, cwd=ROOT)
        return done.stdout.split()[0]

    def sql(self, *words: str) -> str:
        """What `askonce sql` prints."""
        return self.server.run("sql", *words)

    def tried(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`askonce sql`, also when it fails."""
        command = self.server.command("sql", *words)
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    def dsn(self, tenant: str) -> str:
        """A tenant's connection string."""
        return self.sql("--dsn", tenant).strip()


def role(dsn: str) -> str:
    """As whom a connection string logs in."""
    return dsn.removeprefix("postgresql://").partition(":")[0]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One whose statements may take a second."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = short_folder()
    server = Served(folder, env={"ASKONCE_SQL_TIMEOUT_S": "1", "ASKONCE_SQL_PORT": str(port)})
    try:
        server.start()
        deadline = time.monotonic() + 60
        while f"127.0.0.1:{port}, for tenants" not in server.text:
            assert time.monotonic() < deadline, server.text
            time.sleep(0.1)
        yield Site(server)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def test_other_programs_see_a_tenants_rows_and_change_none(site: Site) -> None:
    """With the connection string, over the network of this machine; whatever they set in their session."""
    connection = await asyncpg.connect(site.dsn("acme"))
    try:
        assert [row["prompt_text"] for row in await connection.fetch("select prompt_text from completions")] == [
            WORDS["acme"]
        ]
        await connection.execute("set default_transaction_read_only = off; set search_path = askonce, api")
        assert await connection.fetchval("select count(*) from api.usage where tenant = 'rival'") == 0
        assert await connection.fetchval("select pg_is_in_recovery()") is True
        for harm in (
            "delete from completions",
            "create temp table t (n int)",
            "set row_security = off; table documents",
        ):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(harm)
    finally:
        await connection.close()


DRIVERS = (
    # SQLAlchemy, and so pandas.
    "select pg_catalog.version()",
    "select current_schema()",
    "show standard_conforming_strings",
    "select pg_catalog.pg_class.relname from pg_catalog.pg_class join pg_catalog.pg_namespace"
    " on pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace"
    " where pg_catalog.pg_class.relname = 'completions' and pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid)",
    # pgjdbc, and so Metabase: tables, and their columns.
    "select current_database() as table_cat, n.nspname, c.relname, d.description from pg_catalog.pg_namespace n,"
    " pg_catalog.pg_class c left join pg_catalog.pg_description d on (c.oid = d.objoid and d.objsubid = 0"
    " and d.classoid = 'pg_class'::regclass) where c.relnamespace = n.oid and n.nspname = 'api'",
    "select n.nspname, c.relname, a.attname, a.atttypid, a.attnotnull or (t.typtype = 'd' and t.typnotnull)"
    ", a.atttypmod, nullif(a.attidentity, ''), pg_catalog.pg_get_expr(def.adbin, def.adrelid) as adsrc, dsc.description"
    " from pg_catalog.pg_namespace n join pg_catalog.pg_class c on (c.relnamespace = n.oid)"
    " join pg_catalog.pg_attribute a on (a.attrelid = c.oid) join pg_catalog.pg_type t on (a.atttypid = t.oid)"
    " left join pg_catalog.pg_attrdef def on (a.attrelid = def.adrelid and a.attnum = def.adnum)"
    " left join pg_catalog.pg_description dsc on (c.oid = dsc.objoid and a.attnum = dsc.objsubid)"
    " where a.attnum > 0 and n.nspname = 'api'",
    # libpq, for servers that are read only.
    "show transaction_read_only",
    "select pg_catalog.pg_is_in_recovery()",
)


async def test_what_drivers_ask_is_answered(site: Site) -> None:
    """When they connect, and to find out what there is; a pool of asyncpg's gives connections back."""
    async with asyncpg.create_pool(site.dsn("acme"), min_size=1, max_size=2) as pool:
        for asked in DRIVERS:
            assert await pool.fetch(asked), asked


async def test_no_attack_gets_through_where_no_gate_is(site: Site) -> None:
    """As they are, without a cursor or a transaction around them: no row of the other tenant is told."""
    own, other = site.dsn("acme"), site.dsn("rival")
    connection = await asyncpg.connect(own)
    try:
        for attack in attacks():
            text = attack.sql
            for name, value in {"own": "acme", "other": "rival", "self": role(own), "role": role(other)}.items():
                text = text.replace(f"@{name}@", value)
            try:
                async with connection.transaction():
                    await connection.execute("set local statement_timeout = 300")
                    rows = await connection.fetch(text)
            except (asyncpg.PostgresError, asyncpg.InternalClientError, ValueError) as refused:
                told = repr(vars(refused)) + str(refused)
            else:
                told = repr([tuple(row.values()) for row in rows])
            assert WORDS["rival"] not in told, attack.sql
    finally:
        connection.terminate()


async def test_a_timeout_that_was_set_anew_is_kept_all_the_same(site: Site) -> None:
    """The statement ends, and the session goes on."""
    connection = await asyncpg.connect(site.dsn("acme"))
    try:
        await connection.execute("set statement_timeout = 0")
        with pytest.raises(asyncpg.QueryCanceledError):
            await connection.execute(BUSY)
        assert await connection.fetchval("select 1") == 1
    finally:
        await connection.close()


async def test_only_tenants_come_in_and_only_with_their_passwords(site: Site) -> None:
    """Not the role that owns everything, and not another database."""
    dsn, other = site.dsn("acme"), role(site.dsn("rival"))
    password, _, place = dsn.removeprefix(f"postgresql://{role(dsn)}:").partition("@")
    wrong = [
        f"postgresql://{role(dsn)}:x@{place}",
        f"postgresql://{other}:{password}@{place}",
        f"postgresql://askonce:{password}@{place}",
        f"postgresql://{role(dsn)}:{password}@{place.replace('/askonce', '/postgres')}",
    ]
    for one in wrong:
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(one)


def test_psql_opens_as_the_tenant(site: Site) -> None:
    """`askonce sql`, and any psql with the string; its own words about tables work."""
    assert WORDS["acme"] in site.sql("--tenant", "acme", "-c", "select prompt_text from completions")
    done = subprocess.run(
        [clients.psql_program(), site.dsn("rival"), "-Atc", "select prompt_text from completions"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == WORDS["rival"] + "\n"
    for described in ("\\d completions", "\\dv"):
        assert "completions" in site.sql("--tenant", "acme", "-c", described)


def test_who_is_no_tenant_has_none(site: Site) -> None:
    """And is told so."""
    done = site.tried("--dsn", "nobody")
    assert done.returncode == 1
    assert "there is no tenant 'nobody'" in done.stderr
