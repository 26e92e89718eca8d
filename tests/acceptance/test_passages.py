"""Documents are divided into passages: at once, or soon, and what is listed is what stands there."""

import time
from typing import Any

import asyncpg
import httpx
import pytest

from tests.acceptance.extracting import NOTE, Asked, Make
from tests.acceptance.test_documents import PAGES, kept, pdf
from tests.acceptance.test_tenants import Served


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway())


def chunks(ask: Asked, document_id: str, **params: Any) -> Any:
    """The passages of a document."""
    reply = httpx.get(f"{ask.gateway.url}/v1/documents/{document_id}/chunks", params=params)
    assert reply.status_code == 200, reply.text
    return reply.json()


def all_chunks(ask: Asked, document_id: str) -> list[Any]:
    """All of them, page by page."""
    found: list[Any] = []
    while (some := chunks(ask, document_id, **({"after": found[-1]["index"]} if found else {})))["has_more"]:
        found += some["data"]
    return found + some["data"]


def documents(ask: Asked, text: str) -> Any:
    """A text, kept."""
    reply = httpx.post(f"{ask.gateway.url}/v1/documents", json={"text": text}, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_kept_document_has_its_passages(ask: Asked) -> None:
    """When its reply is there; each is what stands in the document at its place."""
    text = "\n\n".join(f"# Part {number} 👩‍⚕️\x00\n\n" + "Some words are said here. " * 40 for number in range(60))
    document = documents(ask, text)
    found = all_chunks(ask, document["id"])
    told = httpx.get(f"{ask.gateway.url}/v1/documents/{document['id']}").json()["text"]
    assert [one["index"] for one in found] == list(range(len(found)))
    assert len(found) >= 60
    assert all(told[one["start"] : one["end"]] == one["text"] for one in found)
    assert max(len(one["text"]) for one in found) <= 1000
    assert len({one["key"] for one in found}) == len(found)
    documents(ask, text)
    assert all_chunks(ask, document["id"]) == found


def test_a_changed_document_has_none_of_its_old_keys(ask: Asked) -> None:
    """Whatever is made of a passage is not taken for what is made of another one."""
    one, other = (documents(ask, f"The dose is {dose} mg.")["id"] for dose in (5, 6))
    assert chunks(ask, one)["data"][0]["key"] != chunks(ask, other)["data"][0]["key"]


def test_passages_of_a_pdf_have_their_page(ask: Asked) -> None:
    """From 1 on."""
    pages = [" ".join([said] * 25) for said in PAGES]
    said = kept(ask, pdf(*pages), "application/pdf").json()
    found = chunks(ask, said["id"])["data"]
    assert {(one["page"], one["text"][:7]) for one in found} == {(1, "Started"), (2, "Glyprol")}


def test_a_document_of_an_extraction_is_divided_soon(ask: Asked) -> None:
    """And so is one that was there before there were passages."""
    run = ask.made()
    for _ in range(200):
        found = chunks(ask, run["document"]["id"])["data"]
        if found:
            break
        time.sleep(0.05)
    assert [one["text"] for one in found] == [NOTE.strip()]


def test_documents_from_before_are_divided_once(gateway: Make, database_url: str) -> None:
    """By whichever gateway comes first, and by one alone."""
    first, _ = Asked(gateway()), gateway()
    names = [documents(first, f"Number {number}. " * 90)["id"] for number in range(30)]
    expected = {name: chunks(first, name)["data"] for name in names}

    async def forgotten() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("delete from askonce.passages")
        await connection.execute("update askonce.documents set passages = ''")
        await connection.close()

    first.gateway.run(forgotten())
    ends = time.monotonic() + 30
    while {name: chunks(first, name)["data"] for name in names} != expected:
        assert time.monotonic() < ends
        time.sleep(0.2)


UNKEPT = """
create function refused() returns trigger language plpgsql as $$
  begin raise exception 'too odd' using errcode = 'data_exception'; end
$$;
create trigger odd before insert on askonce.passages for each row when (new.text like '%Zeppelin%')
  execute function refused();
"""


def test_one_whose_passages_cannot_be_kept_holds_up_no_other(ask: Asked, database_url: str) -> None:
    """It is there, and has none."""

    async def changed(statement: str) -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(statement)
        await connection.close()

    odd, after = (documents(ask, f"The {what} is in the garden.")["id"] for what in ("Zeppelin", "umbrella"))
    ask.gateway.run(changed("delete from askonce.passages; update askonce.documents set passages = ''" + f";{UNKEPT}"))
    ends = time.monotonic() + 30
    while not chunks(ask, after)["data"]:
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert not chunks(ask, odd)["data"]


FORTY_EACH = """
insert into askonce.documents (id, tenant, sha256, text, characters, created_at)
select 'doc_' || tenant || number, tenant, sha256((tenant || number)::bytea), 'Words of ' || tenant || number, 20,
  now() + number * interval '1 s' + case tenant when 'late' then interval '1 day' else interval '0' end
from unnest(array['early', 'late']) as tenant, generate_series(1, 40) as number
"""


def test_tenants_take_turns(gateway: Make, database_url: str) -> None:
    """One that keeps much holds up nobody: each has its first passages before the other has all."""
    site = gateway()

    async def filled() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(FORTY_EACH)
        await connection.close()

    async def order() -> list[str]:
        connection = await asyncpg.connect(database_url)
        rows = await connection.fetch("select tenant from askonce.passages order by id")
        await connection.close()
        return [row["tenant"] for row in rows]

    site.run(filled())
    ends = time.monotonic() + 30
    while len(found := site.run(order())) < 80:
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert found[:20].count("early") == found[:20].count("late")


def test_passages_are_their_tenants(gateway: Make) -> None:
    """For others there is no such document."""
    served = Served(gateway())
    acme, rival = served.key("acme"), served.key("rival")
    document = served.ask(acme, {"text": "Said by one."}, "/v1/documents").json()
    url = f"{served.gateway.url}/v1/documents/{document['id']}/chunks"
    found, none = (httpx.get(url, headers={"authorization": f"Bearer {key}"}) for key in (acme, rival))
    assert [one["text"] for one in found.json()["data"]] == ["Said by one."]
    assert (none.status_code, none.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("params", [{"after": "x"}, {"limit": "0"}, {"limit": "101"}, {"other": "1"}])
def test_what_cannot_be_listed_is_said(ask: Asked, params: dict[str, str]) -> None:
    """With the name of what is wrong."""
    document = documents(ask, "Some words.")
    reply = httpx.get(f"{ask.gateway.url}/v1/documents/{document['id']}/chunks", params=params)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, next(iter(params)))
