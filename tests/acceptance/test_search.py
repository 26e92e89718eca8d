"""What is kept is found by its words and by what it means, by whom it belongs to, and with its place."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from tests.acceptance.extracting import Asked, Make
from tests.acceptance.in_thread import MODEL, Gateway
from tests.acceptance.searching import Meaning, found, keep, search
from tests.acceptance.test_documents import kept, pdf
from tests.acceptance.test_tenants import Served
from tests.suites.embedded import embed_all

NOTES = {
    "garage": "# The garage\n\nThe automobile needs new tyres before winter.",
    "clinic": "The physician saw two patients and wrote down what they took.",
    "bills": "Every invoice is paid within thirty days, dogs or no dogs.",
    "weather": "Storms are expected; whoever drives should take care.",
}


@pytest.fixture
def site(gateway: Make) -> Gateway:
    """A gateway with some documents."""
    made = gateway()
    for title, text in NOTES.items():
        keep(made, text, about=title)
    return made


def words_of(result: Any) -> list[str]:
    """What is marked in a result."""
    return [result["text"][start:end] for start, end in result["highlights"]]


def titles(results: list[Any]) -> list[str]:
    """Which of the notes were found."""
    return [next(title for title, text in NOTES.items() if one["text"] in text) for one in results]


def test_words_are_found_where_they_stand(site: Gateway) -> None:
    """In any form; what was found is the document's own text, and the words are marked in it."""
    [one, *_] = found(site, "invoices of a dog")
    document = httpx.get(f"{site.url}/v1/documents/{one['document_id']}").json()
    assert one["text"] == document["text"][one["start"] : one["end"]] == NOTES["bills"]
    assert words_of(one) == ["invoice", "dogs", "dogs"]
    assert one["scores"]["text"]["rank"] == 1
    assert len(bytes.fromhex(one["key"])) == 32


def test_who_has_all_words_comes_before_who_has_some(site: Gateway) -> None:
    """And who has none is not found."""
    keep(site, "An invoice is a paper.")
    keep(site, "A paper, and nothing else.")
    texts = [one["text"] for one in found(site, "Which invoice is paid in thirty days?")]
    assert texts == [NOTES["bills"], "An invoice is a paper."]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('"take care"', ["weather"]),
        ('"care take"', []),
        ("took -notes", ["clinic"]),
        ("tyres or physician", ["clinic", "garage"]),
        ("!!! ???", []),
        ("' & | <-> :* \\ \x01default", []),
    ],
)
def test_operators_of_search_engines(site: Gateway, query: str, expected: list[str]) -> None:
    """Quotes, minus and `or`; signs alone find nothing, and do no harm."""
    keep(site, "They took notes.")
    assert sorted(titles(found(site, query))) == expected


def test_other_languages_are_found_word_for_word(site: Gateway) -> None:
    """Also by words that mean nothing in English."""
    keep(site, "Der Wagen braucht neue Reifen, und das vor dem Winter.")
    first, *_ = found(site, "Reifen Winter Wagen")
    assert first["text"].startswith("Der Wagen")


def test_without_vectors_it_says_so(site: Gateway) -> None:
    """Words are searched, and who wants vectors alone is told why there are none."""
    reply = search(site, "invoice").json()
    assert (reply["searched"], list(reply["skipped"])) == (["text"], ["vector"])
    refused = search(site, "invoice", mode="vector")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_vectors")
    assert refused.json()["error"]["param"] == "mode"


def test_what_means_the_same_is_found(site: Gateway, database_url: str) -> None:
    """Though it has none of the words; and what both find comes first."""
    model = Meaning(site)
    embed_all(site, database_url)
    model.asked.clear()
    by_meaning = found(site, "Which vehicle?", mode="vector", limit=1)
    assert titles(by_meaning) == ["garage"]
    assert list(by_meaning[0]["scores"]) == ["vector"]
    reply = search(site, "vehicle payment dog", limit=2).json()
    assert reply["searched"] == ["text", "vector"]
    assert reply["skipped"] == {}
    assert titles(reply["data"])[0] == "bills"
    assert set(reply["data"][0]["scores"]) == {"text", "vector"}
    assert titles(found(site, "Which vehicle?", mode="vector", limit=1)) == ["garage"]
    assert model.asked.count("Which vehicle?") == 1  # the second time it was kept


def test_vectors_of_another_model_are_not_compared(site: Gateway, database_url: str) -> None:
    """Not even when they have as many numbers: words are searched meanwhile."""
    Meaning(site)
    embed_all(site, database_url)
    site.run(_execute(database_url, "update askonce.embedding_models set model_version = 'older'"))
    reply = search(site, "invoice").json()
    assert reply["searched"] == ["text"]
    assert "another version" in reply["skipped"]["vector"]


def test_the_index_finds_what_comparing_all_finds(site: Gateway, database_url: str, monkeypatch: Any) -> None:
    """With many vectors, of which most are another's."""
    Meaning(site)
    embed_all(site, database_url)
    exact = titles(found(site, "Which vehicle?", mode="vector"))
    monkeypatch.setattr("gateway.searching.searcher.MANY_VECTORS", 0)
    site.run(
        _execute(
            database_url,
            "do $$ declare m record; begin select * into m from askonce.embedding_models where is_current;"
            " execute format('create index on askonce.embeddings using hnsw ((embedding::halfvec(%s))"
            " halfvec_cosine_ops) where model_id = %s', m.dimensions, m.id); end $$",
        )
    )
    assert titles(found(site, "Which vehicle?", mode="vector")) == exact
    filters = {"type": "eq", "key": "about", "value": "bills"}
    assert titles(found(site, "Which vehicle?", mode="vector", filters=filters)) == ["bills"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"type": "eq", "key": "ward", "value": 3}, "a"),
        ({"type": "ne", "key": "ward", "value": 3}, "bcd"),
        ({"type": "gte", "key": "ward", "value": 4.5}, "b"),
        ({"type": "lt", "key": "day", "value": "2026-03"}, "ab"),
        ({"type": "in", "key": "ward", "value": [5, "x", 3]}, "abd"),
        ({"type": "nin", "key": "ward", "value": [5, 3]}, "cd"),
        ({"type": "in", "key": "ward", "value": []}, ""),
        ({"type": "eq", "key": "tags", "value": "red"}, "a"),
        ({"type": "eq", "key": 'a "key" \\ $', "value": True}, "c"),
        ({"type": "eq", "key": "ward", "value": "3"}, ""),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "ward", "value": 5},
                    {
                        "type": "and",
                        "filters": [
                            {"type": "eq", "key": "tags", "value": "blue"},
                            {"type": "ne", "key": "ward", "value": 5},
                        ],
                    },
                ],
            },
            "ab",
        ),
    ],
)
def test_filters(gateway: Make, filters: Any, expected: str) -> None:
    """OpenAI's, on what was said of a document: what nothing is said of is not equal to anything."""
    site = gateway()
    keep(site, "word a", ward=3, day="2026-01-31", tags=["red", "blue"])
    keep(site, "word b", ward=5, day="2026-02-01", tags="green")
    keep(site, "word c", **{'a "key" \\ $': True})
    keep(site, "word d", ward="x")
    assert "".join(sorted(one["text"][-1] for one in found(site, "word", filters=filters))) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"filters": {"type": "like", "key": "a", "value": "b"}}, "filters"),
        ({"filters": {"type": "eq", "key": "a", "value": {"b": 1}}}, "filters"),
        ({"filters": {"type": "and", "filters": [{"type": "eq", "value": 1}]}}, "filters.filters[0]"),
        ({"filters": {"type": "eq", "key": "a", "value": 1, "or": 2}}, "filters"),
        ({"limit": 51}, "limit"),
        ({"mode": "fuzzy"}, "mode"),
        ({"kinds": ["files"]}, "kinds[0]"),
        ({"kinds": ["completions"], "collection": "vs_1"}, "collection"),
        ({"kinds": ["completions"], "mode": "text"}, "mode"),
        ({"query": "  "}, "query"),
        ({"limits": 5}, "limits"),
    ],
)
def test_what_cannot_be_searched_is_said(site: Gateway, fields: dict[str, Any], param: str) -> None:
    """In OpenAI's envelope, with the field that is at fault."""
    refused = search(site, **{"query": "word", **fields})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


def test_only_some_documents(site: Gateway) -> None:
    """Those that are named."""
    name = keep(site, "Another invoice.")
    assert [one["document_id"] for one in found(site, "invoice", document_ids=[name])] == [name]
    assert found(site, "invoice", document_ids=[]) == []
    refused = search(site, "invoice", collection="vs_none")
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "collection")


def test_pages_of_a_pdf(site: Gateway) -> None:
    """What was found says on which it stands."""
    said = kept(Asked(site), pdf("Nothing here. " * 60, "The seal is blue. " * 50), "application/pdf").json()
    [one, *_] = found(site, "seal")
    assert (one["document_id"], one["page"]) == (said["id"], 2)


def test_records_are_found(gateway: Make) -> None:
    """By their text, with where they stand; passages of the same document beside them."""
    ask = Asked(gateway())
    run = ask.made()
    results = found(ask.gateway, "dose of Zanprol", kinds=["records"])
    assert [(one["kind"], one["text"], one["extraction_id"]) for one in results] == [("record", "Zanprol", run["id"])]
    assert results[0]["attributes"] == {"dose": "10 mg"}
    assert words_of(results[0]) == ["Zanprol"]
    document = httpx.get(f"{ask.gateway.url}/v1/documents/{results[0]['document_id']}").json()
    assert document["text"][results[0]["start"] : results[0]["end"]] == "Zanprol"


def test_answers_are_found_by_what_was_asked(gateway: Make, database_url: str) -> None:
    """By vectors alone."""
    site = gateway('[[line]]\nreply = "Said."\n')
    Meaning(site)
    for question in ("Where does a physician work?", "How much is a bill?"):
        site.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
    embed_all(site, database_url)
    [first, _] = found(site, "doctor", kinds=["completions"])
    assert (first["kind"], first["prompt"], first["text"]) == ("completion", "Where does a physician work?", "Said.")
    record = httpx.get(f"{site.url}/v1/cache/{first['key']}")
    assert record.status_code == 200


def test_nothing_of_another_tenant_is_found(gateway: Make, database_url: str) -> None:
    """Not by words, not by vectors, not by its documents' names, nor by what is said to be its tenant."""
    served = Served(gateway())
    Meaning(served.gateway)
    acme, rival = ({"authorization": f"Bearer {served.key(name)}"} for name in ("acme", "rival"))
    name = keep(served.gateway, "The secret password of acme.", headers=acme, owner="acme")
    keep(served.gateway, "A dog of the rival.", headers=rival)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "What is the secret password?"}]}
    assert httpx.post(f"{served.gateway.url}/v1/chat/completions", json=body, headers=acme).status_code == 200
    embed_all(served.gateway, database_url)

    def texts(headers: dict[str, str], **fields: Any) -> list[str]:
        reply = search(served.gateway, "secret password acme \x01acme", headers=headers, **fields)
        assert reply.status_code == 200, reply.text
        return [one["text"] for one in reply.json()["data"]]

    assert texts(acme) == ["The secret password of acme."]
    assert texts(rival) == ["A dog of the rival."]  # by vectors, as what is nearest there
    assert texts(rival, mode="text") == []
    assert texts(rival, document_ids=[name]) == []
    assert texts(rival, filters={"type": "eq", "key": "owner", "value": "acme"}) == []
    refused = search(served.gateway, "secret", headers=rival, kinds=["completions"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_vectors")


def test_what_is_not_wanted_is_not_found(gateway: Make, database_url: str) -> None:
    """In either way of searching, in whatever form a word is; a search for nothing else is refused."""
    Meaning(site := gateway())
    keep(site, "A dog and a cat.")
    keep(site, "A dog chased cats away.")
    keep(site, "A dog alone, in the rain.")
    embed_all(site, database_url)
    for mode in ("text", "vector", "hybrid"):
        texts = {one["text"] for one in found(site, "dog -cat", mode=mode)}
        assert texts == {"A dog alone, in the rain."}, mode
        texts = {one["text"] for one in found(site, 'dog -"a cat"', mode=mode)}
        assert texts == {"A dog chased cats away.", "A dog alone, in the rain."}, mode
    assert {one["text"] for one in found(site, "dog -“a cat”")} == texts
    assert {one["text"] for one in found(site, 'dog -"cat')} == {"A dog alone, in the rain."}
    refused = search(site, "-cat")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "query")


AWKWARD = r"O'Neil's file C:\temp\x' lies at https://example.com/a?b=c&d='<e>' or x<->y, \'quoted\' & T."


@pytest.mark.parametrize(
    "query",
    [
        "O'Neil's",
        r"C:\temp\x'",
        "https://example.com/a?b=c&d='<e>'",
        "x<->y",
        r"\'quoted\'",
        '"lies at" x',
        '"file C" or nothing',
        "lies -nothing",
        "- lies",
        "lies - x",
        "lies (-x",
        "-- lies",
        '-"at lies"',
        "-nothing",
    ],
)
def test_all_that_can_be_said_is_looked_for(site: Gateway, query: str) -> None:
    """Signs that mean something to Postgres mean nothing here; places of words and what is not wanted do."""
    keep(site, AWKWARD)
    assert AWKWARD in [one["text"] for one in found(site, f"{query} lies" if query[0] == "-" else query, mode="text")]


PRINTED = "He said “hello” to me—then left… it’s ‘fine’ – really, cher\u00a0ami; «bonjour» 東京です。"


@pytest.mark.parametrize("query", ["hello", "left", "fine", "“hello”", "then left", "ami", "bonjour", "東京です"])
def test_words_are_found_beside_any_punctuation(site: Gateway, query: str) -> None:
    """As books and web pages have it."""
    keep(site, PRINTED)
    assert PRINTED in [one["text"] for one in found(site, query, mode="text")]


@pytest.mark.parametrize("length", [300, 500, 2030, 2040, 2046, 4000])
def test_a_word_may_have_any_length(site: Gateway, length: int) -> None:
    """One that is longer than Postgres takes is not found; what stands beside it is."""
    word = "數" * (length // 3) if length % 4 else "b" * length
    keep(site, f"A herring {word} swims.")
    assert found(site, f"herring {word}", mode="text")
    assert not [one for one in found(site, word, mode="text") if word not in one["text"]]


def test_signs_alone_find_nothing(site: Gateway) -> None:
    """They say nothing that could be looked for."""
    keep(site, "A herring swims.")
    for query in ('"', "--", "-", '""', "- -"):
        assert search(site, query, mode="text").json()["data"] == []


SLOW_FOR_ACME = """
alter function askonce.owned_query(text, tsquery) rename to quick_query;
create function askonce.owned_query(tenant text, wanted tsquery) returns tsquery language sql as $$
  select askonce.quick_query(tenant, wanted) from pg_sleep(case tenant when 'acme' then 60 else 0 end)
$$
"""


def test_a_search_that_takes_too_long_stops_nobody_else(gateway: Make, database_url: str) -> None:
    """It is told so; the database is well, and everybody else goes on searching."""
    served = Served(gateway(database_deadline_s=0.1))
    acme, rival = ({"authorization": f"Bearer {served.key(name)}"} for name in ("acme", "rival"))
    keep(served.gateway, "A dog of the rival.", headers=rival)
    asyncio.run(_execute(database_url, SLOW_FOR_ACME))
    for _ in range(3):
        late = search(served.gateway, "dog", headers=acme, mode="text")
        assert (late.status_code, late.json()["error"]["code"]) == (504, "search_timeout")
        others = search(served.gateway, "dog", headers=rival, mode="text").json()
        assert [one["text"] for one in others["data"]] == ["A dog of the rival."]


async def _execute(database_url: str, statement: str) -> None:
    connection: Any = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
