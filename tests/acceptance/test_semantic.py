"""What is kept of a question is given to another one that means the same, where that is wanted, and to no other."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import asyncpg
import httpx
import openai
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config import BackendConfig, PolicyConfig
from tests.acceptance.in_thread import MODEL, Gateway
from tests.acceptance.serving import Served
from tests.acceptance.test_indexing import until
from tests.acceptance.test_tenants import Served as Tenants

Make = Callable[..., Gateway]
ASKED = "How old is the moon?"
NEAR = "Hello, how old is the moon?"
FAR = "Which rivers flow through Vienna and Budapest?"
ON = {"x-askonce-semantic": "on"}
SCRIPT = """
near = true
dimensions = 64
[[line]]
when = "First: .*Second: "
reply = "{word}"
[[line]]
"""


def policy(**settings: Any) -> PolicyConfig:
    """One with more time than a crowded machine takes."""
    return PolicyConfig(**{"semantic_deadline_s": 30, **settings})


def script(word: str = "yes") -> str:
    """One whose texts are near that share words, and that judges with this word."""
    return SCRIPT.replace("{word}", word)


def post(gateway: Gateway, text: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """One chat completion."""
    messages = more.pop("messages", [{"role": "user", "content": text}])
    body = {"model": MODEL, "messages": messages, **more}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers or {}, timeout=30)


def said(reply: httpx.Response) -> tuple[str, str]:
    """What it was to the cache, and what it says."""
    reply.raise_for_status()
    return reply.headers["x-askonce-cache"], reply.json()["choices"][0]["message"]["content"]


def rows(url: str, query: str) -> list[Any]:
    """Look with SQL."""

    async def asked() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    return asyncio.run(asked())


@pytest.fixture
def here(gateway: Make) -> Gateway:
    """A gateway that has answered one question, and embedded it."""
    made = gateway(script(), embedding_model=MODEL, policies=(policy(),))
    assert said(post(made, ASKED)) == ("miss", f"You said: {ASKED}")
    until(made, prompts=1)
    return made


def test_the_same_in_other_words_is_a_hit_where_it_is_wanted(here: Gateway) -> None:
    """With its similarity, and whose answer it is; the question itself gets no answer of its own."""
    reply = post(here, NEAR, ON)
    assert said(reply) == ("semantic", f"You said: {ASKED}")
    assert 0.9 <= float(reply.headers["x-askonce-similarity"]) < 1
    assert reply.headers["x-askonce-provenance"] == "semantic"
    source = post(here, ASKED)
    assert reply.headers["x-askonce-source-key"] == source.headers["x-askonce-key"]
    assert reply.headers["x-askonce-key"] != source.headers["x-askonce-key"]
    assert reply.headers["x-askonce-record"] == source.headers["x-askonce-record"]
    assert reply.headers["x-askonce-origin-id"] == source.headers["x-askonce-origin-id"]
    marked = reply.json()["usage"]["askonce"]
    assert marked == {"provenance": "semantic", "cached": True, "cost_usd": 0}
    assert said(post(here, NEAR)) == ("miss", f"You said: {NEAR}")


def test_without_a_wish_only_the_same_is_a_hit(here: Gateway) -> None:
    """It is off."""
    assert said(post(here, NEAR)) == ("miss", f"You said: {NEAR}")


def test_a_policy_has_it_for_a_model(gateway: Make) -> None:
    """And a request can still refuse it."""
    here = gateway(script(), embedding_model=MODEL, policies=(policy(model=MODEL, semantic="on"),))
    post(here, ASKED)
    until(here, prompts=1)
    assert said(post(here, NEAR)) == ("semantic", f"You said: {ASKED}")
    assert said(post(here, NEAR, {"x-askonce-semantic": "off"})) == ("miss", f"You said: {NEAR}")


def test_a_mode_that_is_none_is_refused(here: Gateway) -> None:
    """With the words that would do."""
    refused = post(here, NEAR, {"x-askonce-semantic": "0.2"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-askonce-semantic")


def test_no_client_chooses_how_near(gateway: Make) -> None:
    """The threshold is the policy's."""
    rules = policy(semantic_threshold=0.999)
    here = gateway(script(), embedding_model=MODEL, policies=(rules,))
    post(here, ASKED)
    until(here, prompts=1)
    assert said(post(here, NEAR, ON)) == ("miss", f"You said: {NEAR}")
    typed = f"  {ASKED}\n"
    assert said(post(here, typed, ON)) == ("semantic", f"You said: {ASKED}")


def test_the_guard_refuses(gateway: Make) -> None:
    """However near the model that embeds finds it."""
    here = gateway(script(), embedding_model=MODEL, policies=(policy(semantic="on", semantic_threshold=0.0),))
    post(here, ASKED)
    until(here, prompts=1)
    for text in (
        "How old is the moon not?",
        "How old is the moon in 2021?",
        "How old is the moon Titan?",
        "How young is the moon?",
    ):
        assert said(post(here, text, {"cache-control": "no-store"})) == ("miss", f"You said: {text}")


def test_nothing_but_the_words_may_differ(here: Gateway) -> None:
    """Neither the system prompt, earlier turns, tools and schemas, nor any parameter."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    asked = {"role": "user", "content": NEAR}
    others: list[dict[str, Any]] = [
        {"temperature": 0.3},
        {"max_tokens": 50},
        {"seed": 7},
        {"n": 2},
        {"never_heard_of": 1},
        {"response_format": {"type": "json_object"}},
        {"stop": ["x"]},
        {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]},
        {"messages": [{"role": "system", "content": "Be brief."}, asked]},
        {"messages": [*turns, asked]},
        {"messages": [{**asked, "name": "Ada"}]},
    ]
    for other in others:
        reply = post(here, NEAR, ON | {"cache-control": "no-store"}, **other)
        assert reply.headers["x-askonce-cache"] != "semantic", other
    assert said(post(here, NEAR, ON))[0] == "semantic"


def test_results_of_tools_are_never_reused(here: Gateway) -> None:
    """An agent's next step is about what it was just told."""
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    before = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    ]
    for text in (ASKED, NEAR):
        messages = [*before, {"role": "user", "content": text}]
        assert post(here, "", ON, messages=messages).headers["x-askonce-cache"] == "miss"


def test_streams_too(here: Gateway) -> None:
    """A stream is given what a whole reply would be, and counts its usage."""
    with here.client() as client:
        made = client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": NEAR}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=ON,
        )
        assert made.headers["x-askonce-cache"] == "semantic"
        steps = list(made.parse())
    assert "".join(step.choices[0].delta.content or "" for step in steps if step.choices) == f"You said: {ASKED}"
    assert steps[-1].usage is not None
    assert steps[-1].usage.model_extra is not None
    assert steps[-1].usage.model_extra["askonce"]["provenance"] == "semantic"


def test_clients_of_ollamas_api_too(here: Gateway) -> None:
    """Among their own questions: their defaults are others."""

    def chat(text: str) -> httpx.Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": False}
        return httpx.post(f"{here.url}/api/chat", json=body, headers=ON, timeout=30).raise_for_status()

    assert chat(NEAR).headers["x-askonce-cache"] == "miss"
    until(here, prompts=2)
    again = chat(f"  {NEAR}")
    assert again.headers["x-askonce-cache"] == "semantic"
    assert again.json()["message"]["content"] == f"You said: {NEAR}"


def test_what_takes_too_long_is_a_miss(gateway: Make) -> None:
    """The model is asked then, and it is counted."""
    here = gateway(script(), embedding_model=MODEL, policies=(policy(semantic="on", semantic_deadline_s=1e-9),))
    post(here, ASKED)
    until(here, prompts=1)
    assert said(post(here, NEAR)) == ("miss", f"You said: {NEAR}")
    assert 'outcome="late",tenant="default"} 2.0' in httpx.get(f"{here.url}/metrics").text


def test_wishes_are_kept(here: Gateway) -> None:
    """`no-cache` asks the model; `only-if-cached` asks no model for anything, not even for a vector."""
    assert said(post(here, NEAR, ON | {"cache-control": "no-cache"}))[0] == "bypass"
    typed = "Hey! How old is the moon?"
    calls = here.backend.calls
    assert post(here, typed, ON | {"cache-control": "only-if-cached"}).status_code == 504
    assert here.backend.calls == calls
    assert said(post(here, typed, ON))[0] == "semantic"
    assert said(post(here, typed, ON | {"cache-control": "only-if-cached"}))[0] == "semantic"
    assert said(post(here, typed, ON | {"cache-control": "max-age=0"}))[0] == "miss"


def test_what_is_deleted_is_given_to_nobody(here: Gateway) -> None:
    """Neither to the same question nor to another one."""
    reply = post(here, NEAR, ON)
    httpx.delete(f"{here.url}/v1/cache/{reply.headers['x-askonce-source-key']}").raise_for_status()
    assert said(post(here, NEAR, ON)) == ("miss", f"You said: {NEAR}")


def test_a_response_goes_with_the_answer_that_it_was_given(here: Gateway) -> None:
    """Stored responses are deleted with the answer of the other question."""
    with here.client() as client:
        first = client.responses.with_raw_response.create(model=MODEL, input=ASKED)
        key = first.headers["x-askonce-key"]
        assert (first.headers["x-askonce-cache"], first.parse().output_text) == ("hit", f"You said: {ASKED}")
        given = client.responses.with_raw_response.create(model=MODEL, input=NEAR, extra_headers=ON)
        assert (given.headers["x-askonce-cache"], given.headers["x-askonce-source-key"]) == ("semantic", key)
        found = given.parse()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                assert client.responses.retrieve(found.id).output_text == f"You said: {ASKED}"
                break
            except openai.NotFoundError:
                time.sleep(0.05)
        httpx.delete(f"{here.url}/v1/cache/{key}").raise_for_status()
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(found.id)


def test_no_tenant_is_given_anothers(gateway: Make) -> None:
    """And a key that may ask one model only has its questions embedded and judged all the same."""
    rules = policy(semantic="on", semantic_judge=MODEL)
    here = gateway(script(), embedding_model=MODEL, policies=(rules,))
    served = Tenants(here)
    acme, rival = served.key("acme", models=(MODEL,)), served.key("rival")
    chat = {"model": MODEL, "messages": [{"role": "user", "content": ASKED}]}
    near = {"model": MODEL, "messages": [{"role": "user", "content": NEAR}]}
    assert served.ask(acme, chat).headers["x-askonce-cache"] == "miss"
    deadline = time.monotonic() + 20
    while served.ask(acme, path="/v1/vectors", body=None).json()["prompts"]["embedded"] < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert said(served.ask(rival, near)) == ("miss", f"You said: {NEAR}")
    assert said(served.ask(acme, near)) == ("semantic", f"You said: {ASKED}")


@pytest.mark.parametrize(("word", "cache"), [("Yes.", "semantic"), ("no", "miss"), ("yes, if", "miss"), ("", "miss")])
def test_a_model_judges(gateway: Make, word: str, cache: str) -> None:
    """Anything but a clear yes is a no."""
    rules = policy(semantic="on", semantic_judge=MODEL)
    here = gateway(script(word), embedding_model=MODEL, policies=(rules,))
    post(here, ASKED)
    until(here, prompts=1)
    assert said(post(here, NEAR))[0] == cache


def test_a_judge_knows_other_words(gateway: Make) -> None:
    """It may overrule the guard where only the words are others, and nowhere else."""
    rules = policy(semantic="on", semantic_judge=MODEL, semantic_threshold=0.4)
    here = gateway(script("yes"), embedding_model=MODEL, policies=(rules,))
    post(here, ASKED)
    until(here, prompts=1)
    assert said(post(here, "How ancient is the moon?"))[0] == "semantic"
    assert said(post(here, "How old is the moon not?"))[0] == "miss"


def test_a_judge_that_is_not_there_says_no(gateway: Make) -> None:
    """The model answers then."""
    rules = policy(semantic="on", semantic_judge="nobody")
    here = gateway(script(), embedding_model=MODEL, policies=(rules,))
    post(here, ASKED)
    until(here, prompts=1)
    assert said(post(here, NEAR))[0] == "miss"


def test_it_counts_as_what_it_is(here: Gateway, database_url: str) -> None:
    """In the metrics and in the usage, apart from hits; what it saved is a saving."""
    post(here, NEAR, ON)
    shown = httpx.get(f"{here.url}/metrics").text
    assert f'cache="semantic",kind="chat",model="{MODEL}"' in shown
    assert 'askonce_semantic_total{model="parrot",outcome="served",tenant="default"} 1.0' in shown
    here.run(here.application.framework.state.parts.pipeline._ledger.flush())

    [row] = rows(database_url, "select * from api.usage where kind = 'chat'")
    assert (row["requests"], row["hits"], row["semantic"]) == (2, 0, 1)
    assert row["saved_tokens"] > 0


def trials(gateway: Gateway, url: str) -> list[Any]:
    """What was written down, once nothing waits."""
    comparing = gateway.parts.pipeline._reuse._comparer
    gateway.run(comparing.settled())
    return rows(url, "select * from api.semantic_trials order by id")


def test_a_shadow_gives_nothing_and_writes_it_down(here: Gateway, database_url: str) -> None:
    """Whose answer it would have been, how near, what speaks against it, and how alike the two answers are."""
    shadow = {"x-askonce-semantic": "shadow"}
    source = post(here, ASKED)
    assert trials(here, database_url) == []
    near = post(here, NEAR, shadow)
    assert said(near) == ("miss", f"You said: {NEAR}")
    assert said(post(here, NEAR, shadow))[0] == "hit"
    [row] = trials(here, database_url)
    assert (row["key"], row["source_key"]) == (near.headers["x-askonce-key"], source.headers["x-askonce-key"])
    assert (row["tenant"], row["model"], row["served"], list(row["reasons"])) == ("default", MODEL, True, [])
    assert 0.9 <= row["similarity"] < 1
    assert (row["same_answer"], row["judged_same"], row["label"]) == (False, None, None)
    assert 0.9 < row["answers_similarity"] < 1
    assert row["asked_at"] > row["source_at"]
    until(here, prompts=2)
    assert said(post(here, "How old is the moon not?", shadow))[0] == "miss"
    assert said(post(here, FAR, shadow))[0] == "miss"
    _, denied, far = trials(here, database_url)
    assert (denied["served"], "negation" in denied["reasons"]) == (False, True)
    assert (far["served"], far["source_key"], far["similarity"]) == (False, None, None)


def test_a_person_judges_what_a_shadow_found(here: Gateway, database_url: str, tmp_path: Path) -> None:
    """Sees the pairs, labels them, and has a report that believes the label before the likeness of the answers."""

    def said_by(*words: str) -> Result:
        return CliRunner().invoke(main, ["semantic", *words], env={"ASKONCE_DATABASE_URL": database_url})

    post(here, NEAR, {"x-askonce-semantic": "shadow"})
    [row] = trials(here, database_url)
    here.flushed()
    shown = said_by("pairs").output
    assert f"asked  {NEAR}" in shown
    assert f"kept   {ASKED}" in shown
    lines = json.loads(said_by("report", "--json").output)
    [line] = [line for line in lines if line["threshold"] == 0.9]
    assert (line["served"], line["by_label"], line["by_answers"], line["false"]) == (1, 0, 1, 0)
    assert said_by("label", str(row["id"]), "different").exit_code == 0
    picture = tmp_path / "report.svg"
    told = said_by("report", "--model", MODEL, "--svg", str(picture)).output
    assert "1 are judged by a person's label and 0 by their answers" in told
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
    assert said_by("pairs").output == "There is no such pair.\n"
    assert "different" in said_by("pairs", "--all").output
    assert "100.0 %" in told
    assert said_by("label", "9999", "same").exit_code == 1


def test_a_shadow_asks_the_judge(gateway: Make, database_url: str) -> None:
    """Whose no is written down."""
    rules = policy(semantic="shadow", semantic_judge=MODEL)
    here = gateway(script("no"), embedding_model=MODEL, policies=(rules,))
    post(here, ASKED)
    until(here, prompts=1)
    post(here, NEAR)
    [first, row] = trials(here, database_url)
    assert first["source_key"] is None
    assert (row["served"], row["judged_same"], list(row["reasons"])) == (False, False, [])


@pytest.mark.engines
def test_a_real_sentence_model_finds_it(gateway: Make, sentences: Served) -> None:
    """And the guard refuses what that finds near, too."""
    backend = BackendConfig(kind="openai", model="all-minilm-l6-v2", url=sentences.url)
    rules = policy(semantic="on", semantic_threshold=0.8)
    here = gateway(embedding_model="all-minilm-l6-v2", backends=(backend,), policies=(rules,))
    asked = "How do I bake bread with yeast?"
    post(here, asked)
    until(here, prompts=1)
    assert said(post(here, "how do i bake bread with yeast")) == ("semantic", f"You said: {asked}")
    other = "How do I bake bread without yeast?"
    assert said(post(here, other)) == ("miss", f"You said: {other}")
    assert said(post(here, FAR))[0] == "miss"
