"""OpenAI's own client makes vector stores, fills them, searches them and takes them away."""

import io
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import openai
import pytest

from tests.acceptance.extracting import Make
from tests.acceptance.in_thread import Gateway
from tests.acceptance.searching import Meaning, found, keep
from tests.acceptance.test_tenants import Served
from tests.suites.embedded import embed_all

TEXTS = {"garage.md": "# The garage\n\nThe automobile needs tyres.", "clinic.txt": "The physician saw two patients."}


@pytest.fixture
def site(gateway: Make) -> Gateway:
    """A gateway of this test's own."""
    return gateway()


@pytest.fixture
def client(site: Gateway) -> Iterator[openai.OpenAI]:
    """OpenAI's client for it."""
    with site.client() as client:
        yield client


def sent(client: openai.OpenAI, name: str = "garage.md") -> Any:
    """One of the texts, as a file."""
    return client.files.create(file=(name, TEXTS[name].encode()), purpose="assistants")


def test_a_file_is_a_document(client: openai.OpenAI, site: Gateway) -> None:
    """Sent, found, listed, read and deleted."""
    file = sent(client)
    assert (file.filename, file.bytes, file.status, file.purpose) == (
        "garage.md",
        len(TEXTS["garage.md"]),
        "processed",
        "assistants",
    )
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).text == TEXTS["garage.md"]
    assert client.files.list().data == [file]
    assert [one["document_id"] for one in found(site, "automobile")] == [file.id]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as missing:
        client.files.retrieve(file.id)
    assert missing.value.param == "file_id"
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("a.txt", b"a"), purpose="fine-tune")


@pytest.mark.parametrize("name", ["data.json", "table.csv", "run.py", "conf.toml", "notes.jsonl"])
def test_what_is_text_is_read_as_it_is(client: openai.OpenAI, name: str) -> None:
    """Whatever else it is: data, tables, code."""
    file = client.files.create(file=(name, b'{"a": 1}\n'), purpose="assistants")
    assert (file.filename, client.files.content(file.id).text.strip()) == (name, '{"a": 1}')


def test_a_store_lives(client: openai.OpenAI) -> None:
    """Made, found, changed, listed, deleted; its files stay."""
    file = sent(client)
    store = client.vector_stores.create(
        name="Notes", file_ids=[file.id], metadata={"of": "me"}, expires_after={"anchor": "last_active_at", "days": 7}
    )
    assert (store.name, store.status, store.metadata) == ("Notes", "completed", {"of": "me"})
    assert (store.file_counts.completed, store.file_counts.total, store.usage_bytes) == (1, 1, file.bytes)
    assert store.expires_after is not None
    assert store.expires_at == (store.last_active_at or 0) + 7 * 24 * 3600
    assert client.vector_stores.retrieve(store.id).id == store.id
    renamed = client.vector_stores.update(store.id, name="Papers", expires_after=None)
    assert (renamed.name, renamed.metadata, renamed.expires_after) == ("Papers", {"of": "me"}, None)
    assert [one.name for one in client.vector_stores.list()] == ["Papers"]
    assert client.vector_stores.delete(store.id).deleted
    assert client.files.retrieve(file.id).id == file.id
    with pytest.raises(openai.NotFoundError) as missing:
        client.vector_stores.delete(store.id)
    assert missing.value.param == "vector_store_id"


def test_files_come_and_go(client: openai.OpenAI) -> None:
    """With attributes, which can be said anew."""
    store = client.vector_stores.create()
    added = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("clinic.txt", io.BytesIO(TEXTS["clinic.txt"].encode())), attributes={"ward": 3}
    )
    assert (added.status, added.attributes) == ("completed", {"ward": 3.0})
    other = client.vector_stores.files.create_and_poll(sent(client).id, vector_store_id=store.id)
    assert (other.status, other.vector_store_id) == ("completed", store.id)
    client.vector_stores.files.update(other.id, vector_store_id=store.id, attributes={"ward": 4, "open": True})
    assert client.vector_stores.files.retrieve(other.id, vector_store_id=store.id).attributes == {
        "ward": 4.0,
        "open": True,
    }
    [page] = client.vector_stores.files.content(other.id, vector_store_id=store.id)
    assert page.text == TEXTS["garage.md"]
    listed = client.vector_stores.files.list(store.id, filter="completed")
    assert {one.id for one in listed} == {added.id, other.id}
    assert client.vector_stores.files.list(store.id, filter="in_progress").data == []
    assert client.vector_stores.files.delete(other.id, vector_store_id=store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.files.retrieve(other.id, vector_store_id=store.id)
    assert client.files.retrieve(other.id).id == other.id


def test_files_come_together(client: openai.OpenAI) -> None:
    """In a batch, of ids or with attributes for each."""
    store = client.vector_stores.create()
    files = [sent(client, name) for name in TEXTS]
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[one.id for one in files])
    assert (batch.status, batch.file_counts.completed) == ("completed", 2)
    assert {one.id for one in client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)} == {
        one.id for one in files
    }
    other = client.vector_stores.create()
    named: Any = [{"file_id": files[0].id, "attributes": {"ward": 1}}]
    client.vector_stores.file_batches.create(other.id, files=named)
    assert client.vector_stores.files.list(other.id).data[0].attributes == {"ward": 1.0}
    with pytest.raises(openai.BadRequestError, match="nothing to cancel"):
        client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.file_batches.create(store.id, file_ids=[files[0].id, "doc_none"])


def test_a_file_is_ready_once_it_is_embedded(client: openai.OpenAI, site: Gateway, database_url: str) -> None:
    """Where there is a model for that; who polls waits until then."""
    Meaning(site)
    embed_all(site, database_url)  # there is a model from now on
    file = sent(client)
    store = client.vector_stores.create(file_ids=[file.id])
    assert (store.status, store.file_counts.in_progress) == ("in_progress", 1)
    assert client.vector_stores.files.retrieve(file.id, vector_store_id=store.id).status == "in_progress"
    embed_all(site, database_url)
    site.run(_execute(database_url, "delete from askonce.embedding_queue"))
    assert client.vector_stores.retrieve(store.id).status == "completed"
    assert client.vector_stores.files.poll(file.id, vector_store_id=store.id).status == "completed"


def test_a_search_stays_in_its_store(client: openai.OpenAI, site: Gateway) -> None:
    """And in what its filters leave; the attributes of the store count."""
    files = [sent(client, name) for name in TEXTS]
    keep(site, "Another automobile, in no store.")
    store = client.vector_stores.create(name="Notes")
    for number, file in enumerate(files):
        client.vector_stores.files.create(store.id, file_id=file.id, attributes={"number": number})
    results = client.vector_stores.search(store.id, query="automobile").data
    assert [(one.filename, one.content[0].text) for one in results] == [("garage.md", TEXTS["garage.md"])]
    assert results[0].attributes == {"number": 0}
    assert 0 < results[0].score <= 1
    both = client.vector_stores.search(store.id, query=["automobile", "physician"], max_num_results=5).data
    assert {one.file_id for one in both} == {one.id for one in files}
    chosen = client.vector_stores.search(
        store.id, query="automobile physician", filters={"type": "eq", "key": "number", "value": 1}
    ).data
    assert [one.file_id for one in chosen] == [files[1].id]
    assert [one["document_id"] for one in found(site, "automobile", collection=store.id)] == [files[0].id]
    none = client.vector_stores.search(store.id, query="automobile", ranking_options={"score_threshold": 1.0})
    assert [one.score for one in none] in ([], [1.0])


def test_an_expired_store_is_not_searched(client: openai.OpenAI, site: Gateway, database_url: str) -> None:
    """It is still shown, and can be given more time."""
    store = client.vector_stores.create(
        file_ids=[sent(client).id], expires_after={"anchor": "last_active_at", "days": 1}
    )
    site.run(_execute(database_url, "update askonce.collections set used_at = now() - interval '2 days'"))
    assert client.vector_stores.retrieve(store.id).status == "expired"
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.search(store.id, query="automobile")
    client.vector_stores.update(store.id, expires_after={"anchor": "last_active_at", "days": 1})
    assert client.vector_stores.search(store.id, query="automobile").data


def test_lists_are_paged(client: openai.OpenAI) -> None:
    """By a cursor, in both orders, as OpenAI's client goes through them by itself."""
    made = [client.vector_stores.create(name=str(number)).id for number in range(7)]
    assert [one.id for one in client.vector_stores.list(limit=3)] == made[::-1]
    assert [one.id for one in client.vector_stores.list(limit=2, order="asc")] == made
    page = client.vector_stores.list(limit=3, after=made[3])
    assert ([one.id for one in page.data], page.has_more) == (made[2::-1], False)
    files = [client.files.create(file=(f"{n}.txt", f"Text {n}".encode()), purpose="assistants").id for n in range(5)]
    assert [one.id for one in client.files.list(limit=2, order="asc")] == files
    client.vector_stores.file_batches.create(made[0], file_ids=files)
    assert sorted(one.id for one in client.vector_stores.files.list(made[0], limit=2)) == sorted(files)
    assert client.vector_stores.list(after="vs_none").data == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 100}}}, "chunking_strategy"),
        ("", {"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
        ("", {"colour": "red"}, "colour"),
        ("/search", {"query": "a", "rewrite_query": True}, "rewrite_query"),
        ("/search", {"query": "a", "max_num_results": 51}, "max_num_results"),
        ("/search", {"query": []}, "query"),
        ("/search", {"query": "a", "filters": {"type": "eq"}}, "filters"),
        ("/files", {"file_id": "doc_1", "attributes": {"a": [1]}}, "attributes[...]"),
        ("/file_batches", {}, "file_ids"),
        ("/file_batches", {"file_ids": []}, "file_ids"),
    ],
)
def test_what_cannot_be_done_is_said(
    client: openai.OpenAI, site: Gateway, path: str, body: dict[str, Any], param: str
) -> None:
    """And not passed over."""
    store = client.vector_stores.create()
    url = f"{site.url}/v1/vector_stores" + (f"/{store.id}{path}" if path else "")
    refused = httpx.post(url, json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


def test_stores_and_files_are_their_tenants(gateway: Make) -> None:
    """For others they are not there, whatever is done with them."""
    served = Served(gateway())
    acme, rival = (
        openai.OpenAI(base_url=f"{served.gateway.url}/v1", api_key=served.key(name), max_retries=0)
        for name in ("acme", "rival")
    )
    file, own = sent(acme), sent(rival, "clinic.txt")
    store, others = acme.vector_stores.create(file_ids=[file.id]), rival.vector_stores.create()
    tries: list[Any] = [
        lambda: rival.vector_stores.retrieve(store.id),
        lambda: rival.vector_stores.update(store.id, name="mine"),
        lambda: rival.vector_stores.search(store.id, query="automobile"),
        lambda: rival.vector_stores.files.list(store.id),
        lambda: rival.vector_stores.files.retrieve(file.id, vector_store_id=store.id),
        lambda: rival.vector_stores.files.create(store.id, file_id=own.id),
        lambda: rival.vector_stores.files.create(others.id, file_id=file.id),
        lambda: rival.vector_stores.files.update(file.id, vector_store_id=store.id, attributes={"a": 1}),
        lambda: rival.vector_stores.files.delete(file.id, vector_store_id=store.id),
        lambda: rival.vector_stores.file_batches.create(store.id, file_ids=[own.id]),
        lambda: rival.vector_stores.create(file_ids=[file.id]),
        lambda: rival.vector_stores.delete(store.id),
        lambda: rival.files.retrieve(file.id),
        lambda: rival.files.content(file.id),
        lambda: rival.files.delete(file.id),
    ]
    for one in tries:
        with pytest.raises(openai.NotFoundError):
            one()
    assert [one.id for one in rival.files.list()] == [own.id]
    assert [one.id for one in rival.vector_stores.list()] == [others.id]
    assert rival.vector_stores.list(after=store.id).data == []
    assert acme.vector_stores.retrieve(store.id).file_counts.completed == 1
    for client in (acme, rival):
        client.close()


async def _execute(database_url: str, statement: str) -> None:
    connection: Any = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
