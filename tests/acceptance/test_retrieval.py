"""A chat reads what was found in documents, says where it stands, and is kept under a name that depends on it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from gateway.proof import rebuilding
from tests.acceptance.extracting import Make
from tests.acceptance.in_thread import MODEL, Gateway
from tests.acceptance.searching import Meaning, keep
from tests.acceptance.test_tenants import Served
from tests.suites.embedded import embed_all

SCRIPT = '[[line]]\nreply = "The tyres are red, as in [1]."\n'
QUESTION = "What colour are the tyres?"
GARAGE = "The tyres in the garage are red."


class Asked:
    """A gateway whose documents are read, and the store they are in."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.documents = [keep(gateway, text) for text in (GARAGE, "Some tyres are black.", "Rain is expected.")]
        with gateway.client() as client:
            self.store = client.vector_stores.create(file_ids=self.documents).id

    def __call__(
        self, question: str = QUESTION, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        """The reply to a chat."""
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": question}],
            "retrieval": {"collection": self.store},
            "temperature": 0,
            **fields,
        }
        said = {name: value for name, value in body.items() if value is not None}
        return httpx.post(f"{self.gateway.url}/v1/chat/completions", json=said, headers=headers, timeout=30)

    def get(self, path: str, reply: httpx.Response) -> Any:
        """Something about a reply's answer."""
        self.gateway.flushed()
        return httpx.get(f"{self.gateway.url}/v1/cache/{reply.headers['x-askonce-key']}{path}").json()


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway(SCRIPT))


def cited(reply: httpx.Response) -> list[Any]:
    """The citations of a reply."""
    assert reply.status_code == 200, reply.text
    return reply.json()["citations"]


def test_the_model_reads_what_was_found(ask: Asked) -> None:
    """With numbers, in a system message; the reply says what stands behind each."""
    reply = ask(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}])
    first, second = cited(reply)
    assert reply.json()["choices"][0]["message"]["content"] == "The tyres are red, as in [1]."
    assert {first["document_id"], second["document_id"]} == set(ask.documents[:2])
    document = httpx.get(f"{ask.gateway.url}/v1/documents/{first['document_id']}").json()
    brief, sources, question = ask.get("", reply)["prompt"]["messages"]
    assert (brief["content"], sources["role"], question["content"]) == ("Be brief.", "system", QUESTION)
    assert f"[1] Untitled\n{document['text'][first['start'] : first['end']]}\n\n[2] Untitled\n" in sources["content"]
    assert "Rain" not in sources["content"]


def test_the_same_passages_are_a_hit(ask: Asked) -> None:
    """With the same citations, streamed as well; a changed document is another question."""
    first = ask()
    again = ask()
    assert [one.headers["x-askonce-cache"] for one in (first, again)] == ["miss", "hit"]
    assert cited(again) == cited(first)
    assert again.headers["x-askonce-key"] == first.headers["x-askonce-key"]
    assert ask(retrieval=None).headers["x-askonce-key"] != first.headers["x-askonce-key"]
    httpx.delete(f"{ask.gateway.url}/v1/documents/{ask.documents[0]}")
    changed = keep(ask.gateway, GARAGE.replace("red", "blue"))
    with ask.gateway.client() as client:
        client.vector_stores.files.create(ask.store, file_id=changed)
    other = ask()
    assert other.headers["x-askonce-cache"] == "miss"
    assert changed in {one["document_id"] for one in cited(other)}


def test_the_same_words_of_another_document_are_another_question(ask: Asked) -> None:
    """For they are cited otherwise."""
    one, other = (keep(ask.gateway, f"Zebras are striped.\n\n{'x' * 1000} {tail}") for tail in ("a", "b"))
    replies = [ask("zebras striped", retrieval={"document_ids": [name], "top_k": 1}) for name in (one, other)]
    assert [cited(reply)[0]["document_id"] for reply in replies] == [one, other]
    texts = [ask.get("", reply)["prompt"] for reply in replies]
    assert texts[0] == texts[1]
    assert [reply.headers["x-askonce-cache"] for reply in replies] == ["miss", "miss"]


@pytest.mark.parametrize("options", [None, {"include_usage": True}])
def test_a_stream_ends_with_its_citations(ask: Asked, options: Any) -> None:
    """In the last event before the end, for a hit as for a miss."""
    whole = cited(ask())
    for _ in range(2):
        *events, last, done = [
            one.removeprefix("data: ") for one in ask(stream=True, stream_options=options).text.split("\n\n") if one
        ]
        assert done == "[DONE]"
        assert json.loads(last)["citations"] == whole
        assert ("usage" in json.loads(last)) == bool(options)
        said = "".join(json.loads(one)["choices"][0]["delta"].get("content", "") for one in events)
        assert said == "The tyres are red, as in [1]."


def test_openais_client_reads_them(ask: Asked) -> None:
    """As a field beside those it knows."""
    with ask.gateway.client() as client:
        reply = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": QUESTION}],
            extra_body={"retrieval": {"collection": ask.store, "top_k": 1, "query": "expected rain"}},
        )
    [one] = (reply.model_extra or {})["citations"]
    assert one["document_id"] == ask.documents[2]
    assert set(one) == {"key", "document_id", "title", "chunk", "start", "end", "page", "score"}


def test_filters_and_vectors_choose(ask: Asked, database_url: str) -> None:
    """As in a search."""
    Meaning(ask.gateway)
    name = keep(ask.gateway, "The physician is ill.", ward=3)
    embed_all(ask.gateway, database_url)
    [first, *_] = cited(ask("Is the doctor well?", retrieval={"top_k": 1}))
    assert first["document_id"] == name
    filters = {"type": "ne", "key": "ward", "value": 3}
    assert name not in [one["document_id"] for one in cited(ask("doctor", retrieval={"filters": filters}))]


@pytest.mark.parametrize("question", ["What does grep -v do?", 'What does "grep -v" do or say?', "-v"])
def test_somebodys_own_words_are_no_operators(ask: Asked, question: str) -> None:
    """A hyphen in them leaves out nothing, in a chat and in a search of a vector store."""
    manual = keep(ask.gateway, "grep -v inverts the match: it prints the lines that do not match.")
    found = cited(ask(question, retrieval={"document_ids": [manual]}))
    assert [one["document_id"] for one in found] == [manual]
    with ask.gateway.client() as client:
        store = client.vector_stores.create(file_ids=[manual]).id
        assert [one.file_id for one in client.vector_stores.search(store, query=question)] == [manual]


def test_where_nothing_is_found_the_model_is_asked_as_it_is(ask: Asked) -> None:
    """And nothing is cited."""
    plain, sought = ask("Zzz?", retrieval=None), ask("Zzz?")
    assert cited(sought) == []
    assert (sought.headers["x-askonce-cache"], sought.headers["x-askonce-key"]) == (
        "hit",
        plain.headers["x-askonce-key"],
    )


def test_it_is_explained_recorded_and_proven(ask: Asked) -> None:
    """Its prompt is what the model read, and asked again it gives the same."""
    reply = ask()
    keys = [one["key"] for one in cited(reply)]
    ask.gateway.flushed()
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "retrieval": {"collection": ask.store},
        "temperature": 0,
    }
    explained = httpx.post(f"{ask.gateway.url}/v1/cache/explain", json=body).json()
    assert explained["key"] == reply.headers["x-askonce-key"]
    assert explained["parts"]["context_keys"] == ",".join(keys)
    record = ask.get("", reply)
    assert record["params"]["context"] == keys
    entry = ask.gateway.run(ask.gateway.parts.tiers.find(bytes.fromhex(explained["key"]))).found.entry
    assert rebuilding.is_own_key(entry.query)
    verified = httpx.post(f"{ask.gateway.url}/v1/cache/{reply.headers['x-askonce-key']}/verify", timeout=60)
    assert verified.status_code == 200, verified.text
    assert verified.json()["outcome"] == "identical", verified.text


@pytest.mark.parametrize(
    ("retrieval", "status", "param"),
    [
        ("vs_1", 400, "retrieval"),
        ({"collection": "vs_none"}, 404, "collection"),
        ({"top_k": 21}, 400, "retrieval.top_k"),
        ({"filters": {"type": "eq"}}, 400, "retrieval.filters"),
        ({"store": "vs_1"}, 400, "retrieval.store"),
        ({"mode": "vector"}, 400, "mode"),
    ],
)
def test_what_cannot_be_retrieved_is_said(ask: Asked, retrieval: Any, status: int, param: str) -> None:
    """Before the model is asked, streamed or not."""
    for stream in (False, True):
        refused = ask(retrieval=retrieval, stream=stream)
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), refused.text


def test_it_is_a_field_of_chats_alone(ask: Asked) -> None:
    """Elsewhere it would be waited for in vain."""
    body = {"model": MODEL, "prompt": "Hi", "retrieval": {}}
    refused = httpx.post(f"{ask.gateway.url}/v1/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "retrieval")
    refused = ask(extract={"recipe": "clinic-notes"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "extract")


@pytest.fixture
def tenants(gateway: Make) -> Iterator[tuple[openai.OpenAI, openai.OpenAI]]:
    """Two tenants of one gateway."""
    served = Served(gateway(SCRIPT))
    made = [
        openai.OpenAI(base_url=f"{served.gateway.url}/v1", api_key=served.key(name), max_retries=0)
        for name in ("acme", "rival")
    ]
    yield made[0], made[1]
    for one in made:
        one.close()


def test_nobody_reads_anothers_documents(tenants: tuple[openai.OpenAI, openai.OpenAI]) -> None:
    """Another tenant's store is not there, and without one only one's own documents are searched."""
    acme, rival = tenants
    file = acme.files.create(file=("a.txt", GARAGE.encode()), purpose="assistants")
    store = acme.vector_stores.create(file_ids=[file.id])

    def ask(client: openai.OpenAI, **retrieval: Any) -> Any:
        messages: Any = [{"role": "user", "content": QUESTION}]
        reply = client.chat.completions.create(model=MODEL, messages=messages, extra_body={"retrieval": retrieval})
        return (reply.model_extra or {})["citations"]

    assert [one["document_id"] for one in ask(acme, collection=store.id)] == [file.id]
    assert [one["title"] for one in ask(acme)] == ["a.txt"]
    assert ask(rival) == []
    assert ask(rival, document_ids=[file.id]) == []
    with pytest.raises(openai.NotFoundError):
        ask(rival, collection=store.id)
