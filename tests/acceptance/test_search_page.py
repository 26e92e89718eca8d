"""The examples of docs/search.md do what they say; and a real sentence model finds what they are about."""

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import BackendConfig
from tests.acceptance.extracting import Make
from tests.acceptance.in_thread import MODEL
from tests.acceptance.searching import Meaning, found, keep
from tests.acceptance.serving import Served

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text("utf-8")
MINILM = "all-minilm-l6-v2"
POSES = (
    "The physician examined the child and prescribed rest.",
    "Mix flour, eggs and sugar, then bake for half an hour.",
    "The striker scored twice before the referee ended the match.",
    "Interest rates rose, and shares of banks fell.",
)


def test_its_examples_run(gateway: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, one after the other, with the fields that the page shows."""
    site = gateway('[[line]]\nreply = "The office."\n')
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    code = "\n".join(blocks).replace("http://127.0.0.1:8080", site.url).replace("gemma-3-askonce", MODEL)
    made: dict[str, Any] = {}
    exec(code, made)
    made["client"].close()
    said = capsys.readouterr().out
    assert "Taxis are paid after nine" in said
    assert "rules.md # Cars\n\nParking is paid by the office." in said
    [body] = re.findall(r"-d '(\{.*?\n\})'", PAGE, re.DOTALL)
    reply = httpx.post(f"{site.url}/v1/search", json=json.loads(body)).json()
    [shown] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert reply.keys() == shown.keys()
    assert reply["skipped"] == shown["skipped"]
    [one], [other] = reply["data"], shown["data"]
    assert one.keys() == other.keys()
    told = ("kind", "score", "chunk", "start", "end", "page", "text", "highlights")
    assert {name: one[name] for name in told} == {name: other[name] for name in told}


def test_every_field_is_on_the_page() -> None:
    """Of a search; whether a query has operators follows from where it is asked."""
    from gateway.wire.search import Asked

    fields = set(Asked.__struct_fields__) - {"operators"}
    assert [name for name in fields if f"| `{name}` |" not in PAGE] == []


def test_what_is_kept_is_found_by_meaning_soon(gateway: Make) -> None:
    """It is embedded in the background, and OpenAI's client waits for it."""
    site = gateway(embedding_model=MODEL)
    Meaning(site)
    with site.client() as client:
        store = client.vector_stores.create()
        sent = [
            client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=(f"{number}.txt", text.encode()))
            for number, text in enumerate(("The automobile is new.", "The physician is old."))
        ]
    assert [one.status for one in sent] == ["completed", "completed"]
    [first, *_] = found(site, "doctor", mode="vector", collection=store.id)
    assert first["document_id"] == sent[1].id


@pytest.mark.engines
def test_a_real_model_finds_what_is_meant(gateway: Make, sentences: Served) -> None:
    """Sentences without a word of the question."""
    backend = BackendConfig(kind="openai", model=MINILM, url=sentences.url)
    site = gateway(embedding_model=MINILM, backends=(backend,))
    documents = [keep(site, text) for text in POSES]
    ends = time.monotonic() + 60
    while httpx.get(f"{site.url}/v1/vectors").json().get("chunks") != {"embedded": 4, "of": 4}:
        assert time.monotonic() < ends
        time.sleep(0.1)
    for question, document in (
        ("a doctor visiting a sick kid", documents[0]),
        ("recipe for a cake", documents[1]),
        ("football goals", documents[2]),
        ("stock market news", documents[3]),
    ):
        assert found(site, question, mode="vector", limit=1)[0]["document_id"] == document, question
        assert found(site, question, limit=2)[0]["document_id"] == document, question
