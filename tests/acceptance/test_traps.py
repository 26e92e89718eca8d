"""What has hurt users of other gateways, tried here: those traps of docs/traps.md that no other test is about."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway.config import BackendConfig
from tests.acceptance.in_thread import MODEL, Gateway
from tests.acceptance.test_streams import events, forget, strip
from tests.suites.faulty import Faulty, Peer, Script, faulty

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
THERE = {"model": "there", "messages": HI, "temperature": 0}
Make = Callable[..., Gateway]


def event(delta: dict[str, Any], index: int = 0, **fields: Any) -> str:
    """One event of a model's stream."""
    return f"data: {json.dumps({'choices': [{'index': index, 'delta': delta, **fields}]})}\n\n"


USAGE = f"data: {json.dumps({'choices': [], 'usage': {'prompt_tokens': 3, 'completion_tokens': 2}})}\n\n"
END = event({}, finish_reason="stop") + USAGE + "data: [DONE]\n\n"


@asynccontextmanager
async def asked(gateway: Make, script: Script) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient, Faulty]]:
    """A gateway whose model `there` follows `script`, a client of it, and the model."""
    async with faulty(script) as server:
        there = BackendConfig(kind="openai", model="there", url=server.url, model_version="w")
        made = gateway(backends=(there,))
        async with httpx.AsyncClient(base_url=made.url, timeout=30) as client:
            yield made, client, server


class Held:
    """A model that says one step, and the next when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        """Answer."""
        await peer.head()
        await peer.say(event({"content": "one"}))
        await self.go_on.wait()
        await peer.say(event({"content": " two"}) + END)


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, **how: Any) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
    """A reply that has said its first word, and the rest of it."""
    body = THERE | {"stream": True} | how.get("body", {})
    async with client.stream("POST", CHAT, json=body, headers=how.get("headers", {})) as reply:
        pieces = reply.aiter_text()
        said = ""
        while '"one"' not in said:
            said += await anext(pieces)
        assert "two" not in said

        async def rest() -> AsyncIterator[str]:
            yield said
            async for piece in pieces:
                yield piece

        yield reply, rest()


async def heard(pieces: AsyncIterator[str]) -> str:
    """All of it."""
    return "".join([piece async for piece in pieces])


HEADERS = ("x-portkey-custom-host", "x-api-base", "x-forwarded-host", "helicone-target-url", "x-backend-url")
FIELDS = ("api_base", "base_url", "custom_host", "provider", "backend")


async def test_a_client_cannot_choose_who_answers(gateway: Make) -> None:
    """A header of its own changes nothing; a field of its own is another question, for the same model."""

    async def answers(peer: Peer) -> None:
        await peer.head()
        await peer.say(event({"content": "poison"}) + END)

    async with asked(gateway, answers) as (made, client, elsewhere):
        url, body = elsewhere.url, {"model": MODEL, "messages": HI}
        plain = await client.post(CHAT, json=body)
        for header in HEADERS:
            reply = await client.post(CHAT, json=body, headers={header: url})
            assert reply.headers["x-askonce-cache"] == "hit"
        for field in FIELDS:
            reply = await client.post(CHAT, json=body | {field: url})
            assert (reply.status_code, reply.headers["x-askonce-cache"]) == (200, "miss")
            assert reply.headers["x-askonce-key"] != plain.headers["x-askonce-key"]
            assert "poison" not in reply.text
        assert elsewhere.asked == 0
        assert made.backend.calls == 1 + len(FIELDS)


def test_a_key_is_as_long_as_any_other_whatever_was_asked(gateway: Make) -> None:
    """A digest of 256 bits; two long questions that differ in one letter are two."""
    made = gateway()
    keys: set[str] = set()
    for text in ("", "a", "a" * 1_000_000, "a" * 999_999 + "b"):
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        keys.add(httpx.post(made.url + CHAT, json=body, timeout=30).headers["x-askonce-key"])
    assert len(keys) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)


def probable(token: str) -> dict[str, Any]:
    """A step's log-probabilities, as OpenAI gives them."""
    return {"content": [{"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}]}


CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": '}}
MORE = {"index": 0, "function": {"arguments": "1}"}}
EVERYTHING = (
    event({"role": "assistant", "content": ""})
    + event({"reasoning_content": "Well,\n"})
    + event({"content": " a"}, logprobs=probable(" a"))
    + event({"refusal": "I would"}, index=1)
    + event({"reasoning_content": "  hm"}, index=1)
    + event({"tool_calls": [CALL]})
    + event({"refusal": " rather not"}, index=1)
    + event({"tool_calls": [MORE]}, finish_reason="tool_calls")
    + event({}, index=1, finish_reason="stop")
    + USAGE
    + "data: [DONE]\n\n"
)


async def test_a_hit_has_everything_that_the_answer_had(gateway: Make) -> None:
    """Reasoning, refusals, tool calls and log-probabilities of every choice, from every tier, streamed and whole."""

    async def answers(peer: Peer) -> None:
        await peer.head()
        await peer.say(EVERYTHING)

    async with asked(gateway, answers) as (made, client, server):
        body = THERE | {"n": 2, "logprobs": True}
        options = {"stream": True, "stream_options": {"include_usage": True}}
        new = bare(events(await client.post(CHAT, json=body | options)))
        whole: list[Any] = []
        for tier in ("memory", "redis", "postgres"):
            replayed = await client.post(CHAT, json=body | options)
            assert replayed.headers["x-askonce-tier"] == tier
            assert bare(events(replayed)) == new
            whole.append((await client.post(CHAT, json=body)).json()["choices"])
            await asyncio.to_thread(forget, made, tier)
        assert server.asked == 1
    said = json.dumps(new)
    assert all(word in said for word in ("Well,", "hm", "call_1", "I would", "rather not", '"logprob": -0.5'))
    one, other = whole[0]
    assert one["message"]["reasoning_content"] == "Well,\n"
    assert one["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a": 1}'}
    assert one["logprobs"]["content"][0]["token"] == " a"
    assert other["message"]["refusal"] == "I would rather not"
    assert other["message"]["reasoning_content"] == "  hm"
    assert whole == [whole[0]] * 3


def bare(stream: list[Any]) -> list[Any]:
    """A stream's events without what each reply has of its own: its head, and the marker of where it came from."""
    for one in stream:
        if isinstance(one, dict) and one.get("usage"):
            del one["usage"]["askonce"]
    return [strip(one, {"id", "created"}) for one in stream]


async def test_a_stream_is_valid_whoever_hears_it(gateway: Make) -> None:
    """Who asked, who follows and who is given a kept answer: each has one [DONE], at the end, and usage if it wants."""
    held = Held()
    wants = {"body": {"stream_options": {"include_usage": True}}}
    async with (
        asked(gateway, held) as (_, client, server),
        streaming(client) as (first, leader),
        streaming(client, **wants) as (second, follower),
    ):
        held.go_on.set()
        streams = [await heard(leader), await heard(follower)]
        kept = [await client.post(CHAT, json=THERE | {"stream": True} | how) for how in ({}, wants["body"])]
        assert server.asked == 1
    statuses = [reply.headers["x-askonce-cache"] for reply in (first, second, *kept)]
    assert statuses == ["miss", "coalesced", "hit", "hit"]
    for place, stream in enumerate([*streams, *(reply.text for reply in kept)]):
        assert re.fullmatch(r"(data: \{[^\n]+\}\n\n)+data: \[DONE\]\n\n", stream)
        said = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
        usages = [one["usage"]["total_tokens"] for one in said if one.get("usage")]
        assert usages == ([5] if place % 2 else [])


async def test_the_first_step_arrives_before_the_second_is_said(gateway: Make) -> None:
    """To who asked and to who follows: nothing is gathered, looked at or kept first."""
    held = Held()
    async with asked(gateway, held) as (_, client, server), streaming(client) as (_, leader):
        async with streaming(client) as (reply, follower):
            assert reply.headers["x-askonce-cache"] == "coalesced"
            assert not held.go_on.is_set()
            held.go_on.set()
            assert '" two"' in await heard(follower)
        assert '" two"' in await heard(leader)
        assert server.asked == 1


@pytest.mark.parametrize("directive", ["no-cache", "no-cache, no-store", "no-store"])
async def test_who_wants_no_kept_answer_follows_nobody(gateway: Make, directive: str) -> None:
    """Its own call, and an answer of its own, while somebody is being answered the same; others go on following."""
    held = Held()
    async with asked(gateway, held) as (_, client, server), streaming(client) as (_, leader):
        assert server.asked == 1
        async with streaming(client, headers={"cache-control": directive}) as (own, alone):
            assert own.headers["x-askonce-cache"] == ("miss" if directive == "no-store" else "bypass")
            assert server.asked == 2
            async with streaming(client) as (third, follower):
                assert third.headers["x-askonce-cache"] == "coalesced"
                held.go_on.set()
                assert all(['" two"' in await heard(pieces) for pieces in (leader, alone, follower)])
        assert server.asked == 2


@pytest.mark.parametrize("header", ["cache-control: no-cache", "cache-control: no-store, private", "pragma: no-cache"])
async def test_a_models_own_headers_do_not_forbid_keeping(gateway: Make, header: str) -> None:
    """They are meant for proxies of web pages, and engines send them with every stream."""

    async def answers(peer: Peer) -> None:
        await peer.say(f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{header}\r\nconnection: close\r\n\r\n")
        await peer.say(event({"content": "a"}) + END)

    async with asked(gateway, answers) as (_, client, server):
        statuses = [(await client.post(CHAT, json=THERE)).headers["x-askonce-cache"] for _ in range(2)]
        assert statuses == ["miss", "hit"]
        assert server.asked == 1


async def test_every_hit_has_an_id_of_its_own(gateway: Make) -> None:
    """However many come in one second, streamed or not; the id of the reply that was first given is beside it."""
    made = gateway()
    body = {"model": MODEL, "messages": HI}
    async with httpx.AsyncClient(base_url=made.url, timeout=30) as client:
        first = (await client.post(CHAT, json=body)).json()["id"]
        ids = {first}
        for count in range(40):
            reply = await client.post(CHAT, json=body | {"stream": count % 2 == 0})
            assert reply.headers["x-askonce-origin-id"] == first
            ids |= {json.loads(reply.text)["id"]} if count % 2 else {one["id"] for one in events(reply)[:-1]}
    assert len(ids) == 41
