"""SQL over HTTP: a tenant's own rows in the form it wants, and errors that say what to do."""

import csv
import io
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from gateway import shell
from gateway.backends.scripted import Scripted
from gateway.canonical import Description
from gateway.routing.router import Router
from storage import postgres, recipe_views
from storage.tenant_sql import preparing
from tests.acceptance.in_thread import MODEL, Gateway
from tests.acceptance.test_tenants import Served

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text("utf-8")


@pytest.fixture
def served(gateway: Callable[..., Gateway], database_url: str, tmp_path: Path) -> Served:
    """A gateway whose tenants may use SQL."""
    made = Served(gateway(queries_dir=tmp_path / "queries"))
    assert made.gateway.run(preparing.prepare(database_url)) == ""
    return made


def ask(served: Served, key: str | None, sql: str, *params: Any, **fields: Any) -> httpx.Response:
    """One statement."""
    return served.ask(key, {"sql": sql, "params": list(params), **fields}, "/v1/sql")


def test_a_tenants_answers_are_rows(served: Served) -> None:
    """Its own, as JSON and as CSV; another tenant has none of them."""
    acme, rival = served.key("acme"), served.key("rival")
    served.ask(acme)
    served.gateway.flushed()
    said = ask(served, acme, "select model, prompt_tokens from completions where model = $1", MODEL)
    assert said.status_code == 200
    found = said.json()
    assert found["columns"] == [{"name": "model", "type": "text"}, {"name": "prompt_tokens", "type": "int4"}]
    assert found["rows"][0][0] == MODEL
    assert (found["row_count"], found["truncated"], said.headers["x-askonce-rows"]) == (1, False, "1")
    assert ask(served, rival, "select * from completions").json()["rows"] == []
    table = ask(served, acme, "select model, null as n, array[1, 2] as a, 'x\"y' as q from completions", format="csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert list(csv.reader(io.StringIO(table.text))) == [["model", "n", "a", "q"], [MODEL, "", "[1,2]", 'x"y']]


def test_the_schema_says_what_everything_is(served: Served, database_url: str) -> None:
    """Titles of views, and what each column holds; of a recipe's views too."""
    acme = served.key("acme")
    recipes = {"drug": {"type": "object", "properties": {"dose": {"type": "string"}}}}

    async def made() -> None:
        pool = await postgres.connect(database_url, 1)
        await recipe_views.ensure(pool, "my-rx", recipes)
        await pool.close()

    served.gateway.run(made())
    views = {view["name"]: view for view in served.ask(acme, None, "/v1/sql/schema").json()["data"]}
    assert {"completions", "usage", "documents", "extractions", "messages", "savings", "my_rx_drug"} <= set(views)
    made = {"name": "created_at", "type": "timestamp with time zone", "comment": "When it was made."}
    assert made in views["completions"]["columns"]
    assert views["usage"]["title"] == "Usage, cost and savings by the hour"
    assert views["my_rx_drug"]["title"] == "Records of the class 'drug' that the recipe 'my-rx' found"
    for view in views.values():
        silent = [column["name"] for column in view["columns"] if not column["comment"]]
        assert silent == (["dose"] if view["name"] == "my_rx_drug" else []), view["name"]


def test_saved_queries_are_run_by_name(served: Served, tmp_path: Path) -> None:
    """Those that come with askonce, with parameters where they take some; and those in the folder, as they are now."""
    acme = served.key("acme")
    served.ask(acme)
    served.gateway.flushed()
    listed = {one["name"]: one for one in served.ask(acme, None, "/v1/sql/queries").json()["data"]}
    assert listed["last_answers"]["title"] == "The last answers of a model ($1)"
    for name in re.findall(r'\{"query": "(\w+)"', PAGE):
        assert name in listed
    for name, one in listed.items():
        params = ["x"] if "$1" in one["sql"] else []
        said = served.ask(acme, {"query": name, "params": params}, "/v1/sql")
        assert said.status_code == 200, said.text
    said = served.ask(acme, {"query": "last_answers", "params": [MODEL], "format": "csv"}, "/v1/sql")
    assert said.headers["x-askonce-rows"] == "1"
    (folder := tmp_path / "queries").mkdir()
    (folder / "mine.sql").write_text("-- title: Mine\nselect 1 as one")
    assert served.ask(acme, {"query": "mine"}, "/v1/sql").json()["rows"] == [[1]]
    (folder / "mine.sql").write_text("select 2 as two")
    assert served.ask(acme, {"query": "mine"}, "/v1/sql").json()["rows"] == [[2]]
    assert "mine" in {one["name"] for one in served.ask(acme, None, "/v1/sql/queries").json()["data"]}
    for name in ("none", "../mine", ""):
        said = served.ask(acme, {"query": name}, "/v1/sql")
        assert (said.status_code, said.json()["error"]["code"]) == (404, "query_not_found")
    for neither in ({}, {"sql": "select 1", "query": "mine"}):
        assert served.ask(acme, neither, "/v1/sql").json()["error"]["code"] == "invalid_value"


def test_a_refusal_has_a_code_and_names_what_it_is_about(served: Served) -> None:
    """In OpenAI's envelope."""
    acme = served.key("acme")
    cases = [
        ("delete from completions", 400, "sql_syntax"),
        ("select pg_sleep(1)", 403, "sql_not_allowed"),
        ("select 'x'::text::integer from generate_series(1, 2)", 400, "sql_failed"),
    ]
    for text, status, code in cases:
        said = ask(served, acme, text)
        error = said.json()["error"]
        assert (said.status_code, error["code"], error["param"]) == (status, code, "sql")
    assert ask(served, acme, "select $1::integer").json()["error"]["param"] == "params"
    assert ask(served, acme, "select 1", format="xlsx").status_code == 400


TYPED = (
    "select n as int8, n::int4 as int4, n / 2.0 as num, n::float8 / 3 as double, n % 2 = 0 as even, 'é' || n as text,"
    " '2026-01-02 03:04:05.6+00'::timestamptz as at, '2026-01-02'::date as day, json_build_object('n', n) as json,"
    " array[n, null] as list, null::text as nothing, '[1,2.5]'::public.vector as vec"
    " from generate_series(1::bigint, 100) n"
)


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_rows_come_as_columns(served: Served, form: str) -> None:
    """With types that programs for tables know; also when there are none."""
    read = parquet.read_table if form == "parquet" else lambda data: pa.ipc.open_stream(data).read_all()
    acme = served.key("acme")
    said = ask(served, acme, TYPED, format=form)
    assert said.status_code == 200, said.text
    assert (said.headers["x-askonce-rows"], said.headers["content-type"][:15]) == ("100", "application/vnd")
    table = read(pa.BufferReader(said.content))
    assert {field.name: str(field.type) for field in table.schema} == {
        "int8": "int64", "int4": "int32", "num": "double", "double": "double", "even": "bool", "text": "string",
        "at": "timestamp[us, tz=UTC]", "day": "date32[day]", "json": "string", "list": list_of("int64", form),
        "nothing": "string", "vec": list_of("float", form),
    }  # fmt: skip
    row = table.slice(2, 1).to_pylist()[0]
    assert (row["int8"], row["num"], row["double"], row["even"], row["text"]) == (3, 1.5, 1.0, False, "é3")
    assert (row["at"].isoformat(), str(row["day"])) == ("2026-01-02T03:04:05.600000+00:00", "2026-01-02")
    assert (row["json"].replace(" ", ""), row["list"], row["nothing"]) == ('{"n":3}', [3, None], None)
    assert row["vec"] == [1.0, 2.5]
    empty = read(pa.BufferReader(ask(served, acme, "select 1 as one where false", format=form).content))
    assert (empty.num_rows, empty.column_names) == (0, ["one"])
    for odd in ("'infinity'::timestamptz", "array[array[1]]", "'4000-01-01 bc'::date"):
        error = ask(served, acme, f"select {odd} as odd", format=form).json()["error"]
        assert (error["code"], "The column 'odd'" in error["message"]) == ("sql_failed", True)


def list_of(kind: str, form: str) -> str:
    """How a list is called: in Parquet its items are called otherwise."""
    return f"list<{'element' if form == 'parquet' else 'item'}: {kind}>"


def test_a_text_as_a_parameter_is_embedded(served: Served) -> None:
    """By the model that embeds, and once only: `/v1/embeddings` asks for the same vector, and so does the next one."""
    acme = served.key("acme")
    vector = served.ask(acme, {"model": MODEL, "input": "some words"}, "/v1/embeddings").json()["data"][0]["embedding"]
    calls = served.gateway.backend.calls
    text = {"$embed": "some words"}
    [[dimensions, first]] = ask(served, acme, "select cardinality($1::float8[]), ($1::float8[])[1]", text).json()[
        "rows"
    ]
    assert dimensions == len(vector)
    assert first == pytest.approx(vector[0])
    near = "select $1::public.vector operator(public.<=>) $2::public.vector, $3::int"
    [[distance, plain]] = ask(served, acme, near, text | {"model": MODEL}, vector, 7).json()["rows"]
    assert (distance, plain) == (pytest.approx(0, abs=1e-6), 7)
    assert served.gateway.backend.calls == calls
    assert ask(served, acme, "select $1::float8[]", {"$embed": "other words"}).status_code == 200
    assert served.gateway.backend.calls == calls + 1
    example = json.loads(re.findall(r'^\{"sql".*"\$embed".*$', PAGE, re.MULTILINE)[0])
    example["params"][0]["model"] = MODEL
    assert served.ask(acme, example, "/v1/sql").json()["rows"] == [[dimensions]]
    rival = served.key("rival")
    assert ask(served, rival, "select $1::float8[]", text).status_code == 200
    assert served.gateway.backend.calls == calls + 2


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ({"$embed": ""}, 400, "invalid_value"),
        ({"$embed": 1}, 400, "invalid_value"),
        ({"$embed": "a", "modle": "b"}, 400, "invalid_value"),
        ({"$embed": "a", "model": "none"}, 404, "model_not_found"),
    ],
)
def test_a_text_that_cannot_be_embedded_is_refused(served: Served, text: Any, status: int, code: str) -> None:
    """With what is wrong about it."""
    said = ask(served, served.key("acme"), "select $1::float8[]", text)
    assert (said.status_code, said.json()["error"]["code"]) == (status, code)


def test_embedding_takes_a_key_that_may_ask_and_a_model_that_embeds(served: Served) -> None:
    """Which of several, has to be said; and where there is none, that is told."""
    refused = ask(served, served.key("acme", scopes=("cache",)), "select $1::float8[]", {"$embed": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    acme, parts = served.key("acme"), served.gateway.parts
    for backends, told in (
        ({"one": Scripted("one"), "two": Scripted("two")}, "Several models embed texts (one, two)"),
        ({"mute": Mute("mute")}, "No model here embeds texts"),
    ):
        parts.router._pools = Router.of(backends)._pools
        error = ask(served, acme, "select $1::float8[]", {"$embed": "a"}).json()["error"]
        assert (error["code"], error["param"]) == ("no_embedding_model", "params")
        assert told in error["message"]


class Mute(Scripted):
    """One that only generates."""

    async def described(self) -> Description:
        """As it is."""
        return Description(capabilities=("completion",))


def test_without_pyarrow_it_says_what_to_install(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement is not run."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for form in ("arrow", "parquet"):
        said = ask(served, served.key("acme"), "select nonsense", format=form)
        error = said.json()["error"]
        assert (said.status_code, error["code"], error["param"]) == (400, "format_not_available", "format")
        assert "pip install 'askonce[arrow]'" in error["message"]


def test_a_key_needs_the_scope_and_all_models(served: Served) -> None:
    """For SQL shows all that is kept for the tenant."""
    assert ask(served, served.key("acme", scopes=("ask",)), "select 1").json()["error"]["code"] == "insufficient_scope"
    said = ask(served, served.key("acme", models=(MODEL,)), "select 1")
    assert (said.status_code, said.json()["error"]["code"]) == (403, "insufficient_scope")
    assert ask(served, None, "select 1").status_code == 401


def test_a_client_that_leaves_has_its_statement_end(served: Served) -> None:
    """In Postgres, too."""
    acme = served.key("acme")
    busy = {"sql": "select count(*) from generate_series(1, 30000) a, generate_series(1, 30000) b"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.gateway.url}/v1/sql", json=busy, timeout=0.3, headers={"authorization": f"Bearer {acme}"})
    database: Any = served.gateway.parts.sql._database
    query = (
        "select count(*) from pg_stat_activity where application_name = 'askonce sql' and datname = current_database()"
    )
    deadline = time.monotonic() + 5
    while served.gateway.run(database.fetchval(query)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ask(served, acme, "select 1").json()["rows"] == [[1]]


def test_without_psql_there_is_a_plain_prompt(
    served: Served, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement ends with a semicolon; what is refused ends nothing. With a database of one's own there is an address
    with a password."""
    served.key("acme")
    monkeypatch.setenv("ASKONCE_DATABASE_URL", database_url)
    monkeypatch.setattr(shell, "_psql", lambda: None)
    asked = "select 1 as one,\n null as two;\nselect nonsense;\nselect array['x'];\n"
    done = CliRunner().invoke(shell.sql, ["--tenant", "acme"], input=asked)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["one | two", "1 | ", "array", '["x"]']
    assert "nonsense" in done.stderr
    dsn = CliRunner().invoke(shell.sql, ["--dsn", "acme"]).stdout
    assert dsn.startswith("postgresql://askonce_")
    assert "postgresql://askonce@" not in dsn
