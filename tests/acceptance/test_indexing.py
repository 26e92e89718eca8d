"""What is kept is embedded in the background: found with SQL, shown as progress, made anew for another model."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import pytest

from gateway.config import BackendConfig
from storage.tenant_sql import preparing
from storage.vectors.models import Models
from storage.vectors.queue import Due, Queue
from tests.acceptance.in_thread import MODEL, Gateway
from tests.acceptance.serving import Served

Make = Callable[..., Gateway]
Rows = Callable[..., list[Any]]


def ask(gateway: Gateway, text: str, **more: Any) -> httpx.Response:
    """One chat completion."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body).raise_for_status()


def vector(gateway: Gateway, text: str) -> list[float]:
    """What /v1/embeddings says of a text."""
    reply = httpx.post(f"{gateway.url}/v1/embeddings", json={"model": MODEL, "input": text}).raise_for_status()
    return reply.json()["data"][0]["embedding"]


def progress(gateway: Gateway) -> dict[str, Any]:
    """How far it is."""
    return httpx.get(f"{gateway.url}/v1/vectors").raise_for_status().json()


def until(gateway: Gateway, **counts: int) -> dict[str, Any]:
    """Wait until so many of each kind are embedded, of as many."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        said = progress(gateway)
        if said["model"] and all(said[kind] == {"embedded": count, "of": count} for kind, count in counts.items()):
            return said
        time.sleep(0.05)
    raise AssertionError(progress(gateway))


@pytest.fixture
def rows(database_url: str) -> Callable[..., list[Any]]:
    """Look with SQL."""

    async def asked(query: str, *args: Any) -> list[Any]:
        connection = await asyncpg.connect(database_url)
        try:
            return await connection.fetch(query, *args)
        finally:
            await connection.close()

    return lambda query, *args: asyncio.run(asked(query, *args))


def test_prompts_are_embedded(gateway: Make, rows: Rows) -> None:
    """Their last turn's words, whatever comes before; with an index for this model alone."""
    here = gateway(embedding_model=MODEL)
    ask(here, "How old is the moon?")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And the sun?"}]
    ask(here, "", messages=turns)
    said = until(here, prompts=2)
    assert (said["model"], said["dimensions"]) == (MODEL, 8)
    found = rows(
        "select c.prompt_text, e.embedding::text as said, e.whole, e.scope from api.embeddings e"
        " join api.completions c on c.key = e.completion order by c.prompt_text"
    )
    assert [(row["prompt_text"], row["whole"], row["scope"]) for row in found] == [
        ("Be brief.\nAnd the sun?", True, "default"),
        ("How old is the moon?", True, "default"),
    ]
    for row, words in zip(found, ("And the sun?", "How old is the moon?"), strict=True):
        kept = [float(number) for number in row["said"].strip("[]").split(",")]
        assert kept == pytest.approx(vector(here, words), abs=1e-3)
    [index] = rows("select indexdef from pg_indexes where indexdef like '%hnsw%'")
    assert "halfvec_cosine_ops" in index["indexdef"]
    assert "WHERE (model_id = " in index["indexdef"]


def test_what_was_kept_before_is_embedded_too(gateway: Make, rows: Rows) -> None:
    """Once there is a model for it: prompts, parts of documents, and nothing that has no words."""
    before = gateway()
    for number in range(40):
        ask(before, f"What is {number}?")
    vector(before, "no prompt")
    document = httpx.post(f"{before.url}/v1/documents", json={"text": "The moon is old."}).raise_for_status().json()
    rows(
        "insert into askonce.passages (document_id, tenant, ordinal, start_pos, end_pos, key, text)"
        " values ($1, 'default', 0, 0, 16, sha256('x'), 'The moon is old.') on conflict do nothing",
        document["id"],
    )
    assert progress(before)["model"] is None
    before.flushed()
    said = until(gateway(embedding_model=MODEL), prompts=40, chunks=1)
    assert said["records"] == {"embedded": 0, "of": 0}


def test_another_model_has_vectors_of_its_own(gateway: Make, rows: Rows) -> None:
    """The old ones are left alone and never mixed with the new; everything is embedded again."""
    first = gateway(embedding_model=MODEL)
    ask(first, "How old is the moon?")
    until(first, prompts=1)
    first.stop()
    other = gateway('version = "2"\ndimensions = 16\n[[line]]\n', embedding_model=MODEL)
    ask(other, "How old is the sun?")
    said = until(other, prompts=2)
    assert said["dimensions"] == 16
    found = rows(
        "select current, dimensions, vector_dims(embedding) as size, count(*) from api.embeddings group by 1, 2, 3"
        " order by 1"
    )
    assert [tuple(row) for row in found] == [(False, 8, 8, 1), (True, 16, 16, 2)]
    assert rows("select count(*) from pg_indexes where indexdef like '%hnsw%'") == [(2,)]


def test_several_share_the_work(gateway: Make, rows: Rows) -> None:
    """Nothing is embedded twice."""
    both = [gateway(embedding_model=MODEL) for _ in range(2)]
    for number in range(60):
        ask(both[number % 2], f"What is {number}?")
    until(both[0], prompts=60)
    assert rows("select count(*) from askonce.embedding_queue") == [(0,)]


def test_one_tenants_import_holds_up_no_other(gateway: Make, rows: Rows, database_url: str) -> None:
    """Places take turns, and prompts go first."""
    here = gateway(embedding_model=MODEL)
    ask(here, "What is 0?")
    until(here, prompts=1)
    here.stop()
    document = (
        "insert into askonce.documents (id, tenant, sha256, text, characters, created_at)"
        " values ($1, $2, $3, '', 0, now())"
    )
    passages = (
        "insert into askonce.passages (document_id, tenant, ordinal, start_pos, end_pos, key, text)"
        " select $1, $2, n, 0, 1, sha256($2::text::bytea), 'x' from generate_series(1, $3::integer) n"
    )
    for number, (tenant, count) in enumerate((("large", 500), ("small", 2))):
        rows(document, tenant, tenant, bytes([number]) * 32)
        rows(passages, tenant, tenant, count)
    due = asyncio.run(_due(database_url, 8))
    assert [one.scope for one in due] == ["large"] * 4 + ["small"] * 2
    other = gateway()
    ask(other, "What is 1?")
    other.flushed()
    assert [one.scope for one in asyncio.run(_due(database_url, 9))] == ["default"] + ["large"] * 3 + ["small"] * 2


async def _due(url: str, most: int) -> list[Due]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        model = await Models(pool).current()
        assert model is not None
        return await Queue(pool).due(model.id, most)


def test_what_is_deleted_has_no_vector(gateway: Make, rows: Rows) -> None:
    """A vector goes with what it is of."""
    here = gateway(embedding_model=MODEL)
    reply = ask(here, "How old is the moon?")
    until(here, prompts=1)
    httpx.delete(f"{here.url}/v1/cache/{reply.headers['x-askonce-key']}").raise_for_status()
    assert rows("select count(*) from api.embeddings") == [(0,)]
    until(here, prompts=0)


def test_a_model_that_is_not_there_holds_up_nothing(gateway: Make) -> None:
    """Answers go on; what waits is embedded when it can be."""
    here = gateway(embedding_model="nobody")
    assert ask(here, "How old is the moon?").headers["x-askonce-cache"] == "miss"
    assert progress(here)["model"] is None


def test_what_is_nearest_to_a_text_is_found_with_sql(gateway: Make, database_url: str) -> None:
    """The text is a parameter, and is embedded by the model that what is kept was embedded by."""
    here = gateway(embedding_model=MODEL)
    for text in ("How old is the moon?", "How old is the sun?", "What is a cat?"):
        ask(here, text)
    until(here, prompts=3)
    assert here.run(preparing.prepare(database_url)) == ""
    statement = (
        "select c.prompt_text from embeddings e join completions c on c.key = e.completion"
        " where e.current order by e.embedding <=> $1 limit 1"
    )
    body = {"sql": statement, "params": [{"$embed": "How old is the sun?"}]}
    reply = httpx.post(f"{here.url}/v1/sql", json=body, timeout=30)
    assert reply.json()["rows"] == [["How old is the sun?"]]


@pytest.mark.engines
def test_what_is_too_long_is_embedded_as_far_as_it_goes(gateway: Make, sentences: Served, rows: Rows) -> None:
    """By a model that takes 512 tokens: a long prompt is found by its beginning, and never taken for another one."""
    backend = BackendConfig(kind="openai", model="all-minilm-l6-v2", url=sentences.url)
    here = gateway(embedding_model="all-minilm-l6-v2", backends=(backend,))
    ask(here, "The moon is old. " * 500)
    ask(here, "你好世界。" * 400)
    ask(here, "How old is the moon?")
    until(here, prompts=3)
    found = rows(
        "select e.whole, e.context is null as alone, left(c.prompt_text, 3) as said from askonce.embeddings e"
        " join askonce.completions c on c.key = e.completion"
    )
    assert {tuple(row) for row in found} == {(True, False, "How"), (False, True, "The"), (False, True, "你好世")}
    near = rows(
        "select left(d.prompt_text, 3) as said from askonce.embeddings a"
        " join askonce.completions d on d.key = a.completion, askonce.embeddings b"
        " join askonce.completions c on c.key = b.completion where not a.whole and c.prompt_text like 'How%'"
        " order by a.embedding <=> b.embedding"
    )
    assert [row["said"] for row in near] == ["The", "你好世"]
