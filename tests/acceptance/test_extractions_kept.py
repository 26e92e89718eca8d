"""Whose extractions are whose, what is left of them in files, pages and SQL, and what other gateways see of them."""

import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import langextract as lx
import pytest

from storage.keys import Wanted
from tests.acceptance.extracting import FIRST, NOTE, PATH, RECIPE, Asked, Make, chunk_of, words
from tests.acceptance.in_thread import MODEL
from tests.extraction.gold import note as gold_note

TOML = """
title = "Medicines"
version = {version}
description = "Extract the medicines."
[classes.medicine]
{attributes}
[[examples]]
text = "Took Fooprol 5 mg."
"""
PLAIN = 'dose = { type = "string" }'


@pytest.fixture
def ask(gateway: Make, tmp_path: Path) -> Asked:
    """A gateway of this test's own, with a folder of recipes."""
    return Asked(gateway(recipes_dir=tmp_path / "recipes", data_dir=tmp_path))


def key(ask: Asked, tenant: str, **wanted: Any) -> dict[str, str]:
    """The headers of a tenant's key."""
    store: Any = ask.gateway.parts.access._kept._kept
    text = ask.gateway.run(store.create(Wanted(tenant=tenant, scopes=("ask", "cache"), **wanted)))
    return {"authorization": f"Bearer {text}"}


def rows(database_url: str, query: str, *args: Any) -> list[dict[str, Any]]:
    """What the database says."""
    import asyncio

    async def fetched() -> list[Any]:
        connection = await asyncpg.connect(database_url)
        try:
            return await connection.fetch(query, *args)
        finally:
            await connection.close()

    return [dict(row) for row in asyncio.run(fetched())]


def test_no_tenant_sees_anothers(ask: Asked) -> None:
    """Neither runs nor documents nor answers, by whatever door; the same text is each one's own document."""
    mine, theirs = key(ask, "acme"), key(ask, "rival")
    run = ask.made(mine)
    name, document = run["id"], f"{ask.gateway.url}/v1/documents/{run['document']['id']}"
    for rest in ("", "/events", "/view", "/jsonl"):
        assert ask.found(name, rest, theirs).status_code == 404
        assert ask.found(name, rest, mine).status_code == 200
        assert ask.found(name, rest).status_code == 401
    for action in ("cancel", "resume"):
        assert httpx.post(f"{ask.url}/{name}/{action}", headers=theirs).status_code == 404
    assert httpx.delete(f"{ask.url}/{name}", headers=theirs).status_code == 404
    assert httpx.get(document, headers=theirs).status_code == 404
    assert httpx.delete(document, headers=theirs).status_code == 404
    assert httpx.get(ask.url, headers=theirs).json()["data"] == []
    asked = len(ask.model.asked)
    other = ask.made(theirs)
    assert len(ask.model.asked) == 2 * asked, "a tenant was given another's answers"
    assert other["document"]["id"] != run["document"]["id"]
    assert ask.made(theirs, text=None, document_id=other["document"]["id"])["status"] == "completed"
    refused = ask(theirs, text=None, document_id=run["document"]["id"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "document_id")


def test_a_key_for_other_models_sees_no_run_of_this_one(ask: Asked) -> None:
    """Though it is the same tenant's."""
    run = ask.made(key(ask, "acme"))
    other = key(ask, "acme", models=("another",))
    assert ask(other).status_code == 404
    assert ask.found(run["id"], headers=other).status_code == 404
    assert httpx.get(ask.url, headers=other).json()["data"] == []
    document = f"{ask.gateway.url}/v1/documents/{run['document']['id']}"
    refused = httpx.delete(document, headers=other)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "document_id")
    assert ask.found(run["id"], headers=key(ask, "acme")).json()["id"] == run["id"]
    assert httpx.delete(document, headers=key(ask, "acme", models=(MODEL,))).status_code == 200


def test_places_are_the_same_in_sql(ask: Asked, database_url: str) -> None:
    """Whatever letters the text has: Postgres cuts out of it what Python does."""
    note = gold_note(3, 3000)
    ask.model.say = lambda request: _gold(note, chunk_of(request))
    run = ask.made(
        text=note.text, recipe={"description": "x", "classes": {"medication": {}, "condition": {}}}, attempts=1
    )
    assert run["counts"]["verbatim"] == len(note.records) > 10
    query = """
        select x.text, x.quote, substr(d.text, x.start_pos + 1, x.end_pos - x.start_pos) as said, x.verbatim, x.key
        from api.extractions x join api.documents d on d.id = x.document_id"""
    found = rows(database_url, query)
    assert len(found) == len(note.records)
    assert all(row["said"] == row["quote"] == row["text"] and row["verbatim"] for row in found)
    assert {row["key"] for row in found} == {one["provenance"]["key"] for one in run["records"]}


def _gold(note: Any, chunk: str) -> str:
    import json

    start = note.text.index(chunk)
    found = [one for one in note.records if start <= one.start and one.end <= start + len(chunk)]
    return json.dumps({"extractions": [{one.name: one.text, f"{one.name}_attributes": {}} for one in found]})


def test_a_saved_recipe_has_typed_views(ask: Asked, database_url: str, tmp_path: Path) -> None:
    """As soon as it is used; whoever edits the file has another edition at once, and another column."""
    file = tmp_path / "recipes" / "medicines.toml"
    file.parent.mkdir()
    file.write_text(TOML.format(version=1, attributes=PLAIN))
    first = ask.made(recipe="medicines")
    found = rows(database_url, "select * from api.medicines_medicine order by start_pos")
    assert [(row["text"], row["dose"], row["start_pos"]) for row in found] == words(first)
    assert {row["edition"] for row in found} == {first["recipe"]["edition"]}
    file.write_text(TOML.format(version=2, attributes=PLAIN + '\ndays = { type = "integer" }'))
    second = ask.made(recipe="medicines")
    assert second["recipe"]["edition"].startswith("2-")
    assert len(rows(database_url, "select dose, days from api.medicines_medicine where days is null")) == 2 * len(
        words(first)
    )
    listed = {one["name"]: one for one in httpx.get(f"{ask.gateway.url}/v1/recipes").json()["data"]}
    assert {"clinic-notes", "invoices", "contracts", "medicines"} <= listed.keys()
    assert listed["medicines"]["edition"] == second["recipe"]["edition"]
    shown = httpx.get(f"{ask.gateway.url}/v1/recipes/medicines").json()
    assert shown["classes"]["medicine"]["properties"].keys() == {"dose", "days"}
    assert shown["schema"]["properties"].keys() == {"extractions"}
    file.write_text("description = 1")
    broken = ask(recipe="medicines")
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_recipe")
    assert "medicines.toml" in broken.json()["error"]["message"]


def test_langextract_loads_what_is_saved(ask: Asked, tmp_path: Path) -> None:
    """With the records at their places."""
    run = ask.made()
    (tmp_path / "saved.jsonl").write_bytes(ask.found(run["id"], "/jsonl").content)
    (found,) = lx.io.load_annotated_documents_jsonl(tmp_path / "saved.jsonl", show_progress=False)
    assert (found.text, found.document_id) == (NOTE, run["document"]["id"])
    places = [(one.extraction_text, one.attributes["dose"], one.char_interval.start_pos) for one in found.extractions]
    assert places == words(run)


def test_the_page_shows_a_text_and_runs_nothing(ask: Asked) -> None:
    """Whatever the text says: it is escaped, and the page forbids scripts anyway."""
    text = f"<script>alert(1)</script><img src=x onerror=alert(1)> {FIRST}"
    run = ask.made(text=text)
    page = ask.found(run["id"], "/view")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert "<img" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert 'title="medicine\ndose: 10 mg">Zanprol</mark>' in page.text


def test_another_gateway_sees_it_and_can_end_it(ask: Asked, gateway: Make) -> None:
    """A run goes on in one process; every other tells of it, and hears of its records while they come."""
    other = Asked(gateway())
    ask.model.holds = lambda request: "Zanprol" not in chunk_of(request)
    begun = ask.made(background=True, parallel=1)
    while other.found(begun["id"]).json()["progress"]["done"] < 1:
        time.sleep(0.02)
    assert words(other.found(begun["id"]).json())[0][0] == "Zanprol"
    assert httpx.post(f"{other.url}/{begun['id']}/cancel").status_code == 200
    assert other.done(begun["id"], "cancelled")["counts"]["records"] == 1
    ask.model.holds = lambda _: False
    assert httpx.post(f"{other.url}/{begun['id']}/resume").status_code == 202
    assert [one[0] for one in words(other.done(begun["id"], "completed"))] == ["Zanprol", "Glyprol", "Glyprol"]


def test_a_gateway_that_stops_leaves_what_can_be_resumed(gateway: Make) -> None:
    """Not cancelled, for nobody wanted that; and nothing that was done is lost."""
    first, second = Asked(gateway()), Asked(gateway())
    first.model.holds = lambda request: "Zanprol" not in chunk_of(request)
    begun = first.made(background=True, parallel=1)
    while first.found(begun["id"]).json()["progress"]["done"] < 1:
        time.sleep(0.02)
    first.gateway.stop()
    run = second.done(begun["id"], "incomplete")
    assert [one[0] for one in words(run)] == ["Zanprol"]
    httpx.post(f"{second.url}/{begun['id']}/resume")
    assert len(words(second.done(begun["id"], "completed"))) == 3
    assert FIRST not in second.model.chunks


def test_what_comes_of_chunks_is_counted(ask: Asked) -> None:
    """By tenant and outcome."""
    ask.made()
    ask.made(text="Started Zanprol 10 mg.")
    ask.model.say = lambda _: "No."
    ask.made(text="Nothing here.")
    said = httpx.get(f"{ask.gateway.url}/metrics").text
    assert 'askonce_extraction_chunks_total{cache="miss",status="refused",tenant="default"} 1.0' in said
    assert 'askonce_extraction_records_total{place="verbatim",tenant="default"} 4.0' in said
    assert "askonce_loop_lag_seconds_bucket" in said


def test_openais_client_can_ask_for_it(ask: Asked) -> None:
    """Without any class for it."""
    body = {"model": MODEL, "recipe": RECIPE, "text": NOTE}
    run: Any = ask.gateway.client().post(PATH.removeprefix("/v1"), body=body, cast_to=object)
    assert [one[0] for one in words(run)] == ["Zanprol", "Glyprol", "Glyprol"]


def test_a_list_is_paged_without_loss(ask: Asked) -> None:
    """However many were begun in the same second."""
    made = {ask.made(text=f"Started Zanprol {number} mg.")["id"] for number in range(7)}
    for path in (ask.url, f"{ask.gateway.url}/v1/documents"):
        seen: list[str] = []
        more: dict[str, str] = {}
        while True:
            page = httpx.get(path, params={"limit": "3", **more}).raise_for_status().json()
            seen += [one["id"] for one in page["data"]]
            if not page["has_more"]:
                break
            more = {"after": page["last_id"]}
        assert len(seen) == len(set(seen)) == len(made)
    both = httpx.get(ask.url, params={"after": "x", "before": "2026-11-30T12:00:00Z"})
    assert (both.status_code, both.json()["error"]["param"]) == (400, "after")
