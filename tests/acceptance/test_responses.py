"""`/v1/responses` over HTTP: made, streamed, found again, followed, forgotten, and refused in words."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.canonical import Request
from gateway.config import PolicyConfig
from storage.entry import Chunk, Usage
from storage.keys import Wanted
from tests.acceptance.in_thread import MODEL, Gateway
from tests.conftest import Servers
from tests.suites.frozen import frozen

PATH, CHAT = "/v1/responses", "/v1/chat/completions"
HI: dict[str, Any] = {"model": MODEL, "input": "Hi there", "temperature": 0}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
Make = Callable[..., Gateway]


class Asked:
    """A gateway, asked for responses."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.url = gateway.url + PATH

    def __call__(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """The reply to a request with some fields changed."""
        return httpx.post(self.url, json=HI | fields, headers=headers, timeout=30)

    def made(self, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """The response."""
        reply = self(headers, **fields)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def found(self, name: str, rest: str = "", **params: Any) -> httpx.Response:
        """What is found under an id."""
        return httpx.get(f"{self.url}/{name}{rest}", params=params, timeout=30)

    def where(self, **fields: Any) -> str:
        """What the cache did."""
        return self(**fields).headers["x-askonce-cache"]


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway())


def events(text: str) -> list[Any]:
    """The events of a stream; each names its type twice, and numbers follow each other."""
    found = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        found.append(event)
    numbers = [event["sequence_number"] for event in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(found)))
    return found


def words(response: Any) -> str:
    """A response's text."""
    return Response.model_validate(response).output_text


def says(ask: Asked, *steps: Chunk) -> list[Request]:
    """Have the backend answer with these steps; what it will be asked."""
    asked: list[Request] = []

    async def complete(request: Request) -> AsyncGenerator[Chunk]:
        asked.append(request)
        for step in steps:
            await asyncio.sleep(0)
            yield step
        yield Chunk(usage=Usage(7, 3, 5))

    ask.gateway.backend.complete = complete
    return asked


def test_a_response_is_openais(ask: Asked) -> None:
    """Its own types take it whole, and it repeats what was asked."""
    made = ask.made(instructions="Be brief.", metadata={"for": "me"}, max_output_tokens=50, user="u")
    response = Response.model_validate(made, strict=True)
    assert response.output_text == "You said: Hi there"
    assert (response.status, response.object, response.model) == ("completed", "response", MODEL)
    assert (response.instructions, response.metadata, response.max_output_tokens) == ("Be brief.", {"for": "me"}, 50)
    assert (response.temperature, response.top_p, response.store, response.user) == (0, 1, True, "u")
    assert response.output[0].id.startswith("msg_")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    assert made["usage"]["askonce"] == {"provenance": "generated", "cached": False}


def test_it_is_the_same_question_as_a_chat_completion(ask: Asked) -> None:
    """In both directions, streamed or not; the marker and the headers are as on other routes."""
    body = {
        "model": MODEL,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}],
        "temperature": 0,
    }
    chat = httpx.post(ask.gateway.url + CHAT, json=body)
    reply = ask(instructions="Be brief.")
    assert chat.headers["x-askonce-cache"] == "miss"
    assert reply.headers["x-askonce-cache"] == "hit"
    assert reply.headers["x-askonce-key"] == chat.headers["x-askonce-key"]
    assert reply.headers["x-askonce-origin-id"] == chat.json()["id"]
    assert words(reply.json()) == chat.json()["choices"][0]["message"]["content"]
    assert reply.json()["usage"]["askonce"] == {"provenance": "exact", "cached": True, "cost_usd": 0}
    assert ask.where(instructions="Be brief.", stream=True) == "hit"
    assert ask.where(input="Other") == "miss"
    other = {**body, "messages": [{"role": "user", "content": "Other"}]}
    assert httpx.post(ask.gateway.url + CHAT, json=other).headers["x-askonce-cache"] == "hit"


def test_steering_is_as_on_other_routes(ask: Asked) -> None:
    """`only-if-cached`, `no-cache`, `max-age`, tags and namespaces mean what they mean there."""
    assert ask({"cache-control": "only-if-cached"}).status_code == 504
    ask.made()
    assert ask({"cache-control": "only-if-cached"}).headers["x-askonce-cache"] == "hit"
    assert ask({"cache-control": "no-cache"}).headers["x-askonce-cache"] == "bypass"
    assert ask({"x-askonce-replay": "slowly"}).status_code == 400
    assert ask({"x-askonce-namespace": "handbook"}).status_code == 403


def test_a_stream_is_every_typed_event(ask: Asked) -> None:
    """From created to completed, each step a delta; a hit is the same stream under another id."""
    first, again = ask(stream=True), ask(stream=True)
    assert first.headers["content-type"].startswith("text/event-stream")
    assert (first.headers["x-askonce-cache"], again.headers["x-askonce-cache"]) == ("miss", "hit")
    told = events(first.text)
    deltas = [event["delta"] for event in told if event["type"] == "response.output_text.delta"]
    assert deltas == ["You", " said:", " Hi", " there"]
    assert [event["type"] for event in told if event["type"] != "response.output_text.delta"] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert told[0]["response"]["status"] == "in_progress"
    assert told[0]["response"]["output"] == []
    whole = told[-1]["response"]
    assert words(whole) == "".join(deltas)
    assert whole["id"] == told[0]["response"]["id"] != events(again.text)[0]["response"]["id"]
    assert words(events(again.text)[-1]["response"]) == words(whole)


def test_calls_thoughts_and_refusals_have_items_of_their_own(ask: Asked) -> None:
    """Streamed and whole they are the same items."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"q"'}}
    says(
        ask,
        Chunk(reasoning="Let me"),
        Chunk(reasoning=" look."),
        Chunk(content="One moment."),
        Chunk(tool_calls=(call,)),
        Chunk(tool_calls=({"index": 0, "function": {"arguments": ': "x"}'}},)),
        Chunk(tool_calls=({"index": 1, "id": "call_2", "function": {"name": "stop", "arguments": "{}"}},)),
        Chunk(finish_reason="tool_calls"),
    )
    tools = [{"type": "function", "name": "find", "parameters": {"type": "object"}, "strict": False}]
    told = events(ask(stream=True, tools=tools).text)
    output = told[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Let me look."}]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in output[2:]] == [
        ("call_1", "find", '{"q": "x"}'),
        ("call_2", "stop", "{}"),
    ]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert sorted(done, key=lambda item: str(item["id"])) == sorted(output, key=lambda item: str(item["id"]))
    arguments = [event for event in told if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(event["delta"] for event in arguments if event["output_index"] == 2) == '{"q": "x"}'
    assert told[-1]["response"]["usage"]["input_tokens_details"]["cached_tokens"] == 5
    whole = ask.made(tools=tools)
    assert [{**item, "id": ""} for item in whole["output"]] == [{**item, "id": ""} for item in output]
    Response.model_validate(whole, strict=True)


def test_a_refusal_is_a_part_of_the_message(ask: Asked) -> None:
    """With its own deltas."""
    says(ask, Chunk(refusal="I "), Chunk(refusal="won't."), Chunk(finish_reason="stop"))
    told = events(ask(stream=True).text)
    assert [event["delta"] for event in told if event["type"] == "response.refusal.delta"] == ["I ", "won't."]
    assert told[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "I won't."}]


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_cut_short_is_incomplete(ask: Asked, finish: str, reason: str) -> None:
    """The last event says so, and why."""
    says(ask, Chunk(content="One two"), Chunk(finish_reason=finish))
    last = events(ask(stream=True).text)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": reason}
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert last["response"]["completed_at"] is None


def test_an_answer_that_breaks_off_failed(gateway: Make) -> None:
    """Before its first step it is an HTTP error, later an event; it is not kept."""
    early, late = Asked(gateway("[[line]]\nbreak_after = 0\n")), Asked(gateway("[[line]]\nbreak_after = 2\n"))
    assert (early(stream=True).status_code, late().status_code) == (502, 502)
    last = events(late(stream=True).text)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "server_error"
    assert "breaks off" in last["response"]["error"]["message"]
    assert last["response"]["store"] is False
    assert late.found(last["response"]["id"]).status_code == 404


def test_a_response_is_found_again_as_it_was_given(ask: Asked) -> None:
    """At once, when it is written, after a new answer to the same question; its events too, from any on."""
    given = ask(stream=True)
    whole = events(given.text)[-1]["response"]
    name = whole["id"]
    assert ask.found(name).json() == whole
    ask.gateway.run(ask.gateway.parts.conversations._kept.flush(10))
    assert ask.found(name).json() == whole
    ask({"cache-control": "no-cache"})
    assert ask.found(name).json() == whole
    assert ask.found(name, stream="true").text == given.text
    after = events(ask.found(name, stream="true", starting_after=5).text)
    assert after == events(given.text)[6:]
    assert ask.found(name, stream="true", starting_after=1000).text == ""
    assert ask.found(name).headers["x-askonce-key"] == given.headers["x-askonce-key"]


def test_another_gateway_and_another_day(gateway: Make) -> None:
    """A response is found by every gateway of the database, as soon as its reply has been read, and by the next one."""
    one, other = Asked(gateway()), Asked(gateway())
    for number in range(5):
        made = one.made(input=f"Question {number}")
        assert other.found(made["id"]).json() == made
    made = one.made(input="Hello", stream=False)
    followed = other.made(input="And now?", previous_response_id=made["id"])
    assert followed["previous_response_id"] == made["id"]
    assert Asked(gateway()).found(followed["id"]).json() == followed


def test_the_input_is_listed(ask: Asked) -> None:
    """In pages, newest first unless asked otherwise; each item has an id."""
    items = [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": [{"type": "input_text", "text": "Three"}]},
    ]
    name = ask.made(input=items)["id"]
    listed = ask.found(name, "/input_items").json()
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert [item["content"][0]["text"] for item in listed["data"]] == ["Three", "Two", "One"]
    assert [item["content"][0]["type"] for item in listed["data"]] == ["input_text", "output_text", "input_text"]
    page = ask.found(name, "/input_items", order="asc", limit=2).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (page["data"][0]["id"], page["data"][1]["id"], True)
    rest = ask.found(name, "/input_items", order="asc", after=page["last_id"]).json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["Three"]
    for params in ({"limit": 0}, {"limit": "x"}, {"order": "up"}, {"after": "msg_none"}, {"what": 1}):
        refused = ask.found(name, "/input_items", **params)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(params)))


def test_a_conversation_is_followed(ask: Asked) -> None:
    """What went before is sent again, but not its instructions; following is the same question as sending it all."""
    call = {"index": 0, "id": "call_1", "function": {"name": "find", "arguments": "{}"}}
    tools = [{"type": "function", "name": "find", "parameters": {}, "strict": True}]
    says(ask, Chunk(tool_calls=(call,)), Chunk(finish_reason="tool_calls"))
    first = ask.made(instructions="Be brief.", tools=tools)
    asked = says(ask, Chunk(content="Found it."), Chunk(finish_reason="stop"))
    result = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    second = ask.made(previous_response_id=first["id"], input=[result], tools=tools, instructions="Be kind.")
    ask.made(previous_response_id=second["id"], input="Thanks")
    found = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": None, "tool_calls": [found]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ]
    assert asked[0].prompt["messages"] == [{"role": "system", "content": "Be kind."}, *turns]
    said = {"role": "assistant", "content": "Found it."}
    assert asked[1].prompt["messages"] == [*turns, said, {"role": "user", "content": "Thanks"}]
    items = [{"role": "user", "content": "Hi there"}, *first["output"], result, *second["output"]]
    assert ask.where(input=[*items, {"role": "user", "content": "Thanks"}]) == "hit"


def test_what_is_not_stored_is_not_there(gateway: Make) -> None:
    """`store: false`, `no-store` and a policy that keeps nothing all mean that; the response says so."""
    ask = Asked(gateway(policies=(PolicyConfig(keep_sampled=False),)))
    for made in (ask.made(store=False), ask.made({"cache-control": "no-store"}), ask.made(temperature=1)):
        assert made["store"] is False
        assert ask.found(made["id"]).status_code == 404
        refused = ask(previous_response_id=made["id"])
        assert refused.status_code == 404
        assert refused.json()["error"]["param"] == "previous_response_id"
    short = Asked(gateway(policies=(PolicyConfig(max_answer_bytes=10),)))
    assert short.made()["store"] is False


def test_a_response_is_forgotten(ask: Asked) -> None:
    """It is gone, also for those that follow it; its answer stays in the cache."""
    first = ask.made()
    second = ask.made(previous_response_id=first["id"], input="More")
    gone = httpx.delete(f"{ask.url}/{first['id']}")
    assert gone.json() == {"id": first["id"], "object": "response", "deleted": True}
    assert httpx.delete(f"{ask.url}/{first['id']}").status_code == 404
    assert ask.found(first["id"]).status_code == 404
    assert ask.found(second["id"]).status_code == 200
    broken = ask(previous_response_id=second["id"], input="Even more")
    assert (broken.status_code, broken.json()["error"]["param"]) == (400, "previous_response_id")
    assert ask.where() == "hit"


@pytest.mark.parametrize(
    "selector", ["/{key}", "?model=parrot", "?tag=draft", "?prompt_hash={prompt_hash}", "?all=true"]
)
def test_deleting_answers_takes_what_responses_have_of_them(ask: Asked, selector: str) -> None:
    """Whoever gave them: the first reply, a hit, also when a new answer has taken the old one's place."""
    tagged = {"x-askonce-tags": "draft"}
    first = ask(tagged)
    hit = ask.made()
    newer = ask.made({"cache-control": "no-cache", **tagged})
    names = [first.json()["id"], hit["id"], newer["id"]]
    assert {ask.found(name).status_code for name in names} == {200}
    key = first.headers["x-askonce-key"]
    ask.gateway.flushed()
    prompt_hash = httpx.get(f"{ask.gateway.url}/v1/cache/{key}").json()["prompt_hash"]
    path = "/v1/cache" + selector.format(key=key, prompt_hash=prompt_hash)
    assert httpx.delete(ask.gateway.url + path).status_code == 200
    assert {ask.found(name).status_code for name in names} == {404}


def test_a_response_to_what_is_deleted_meanwhile_is_gone(gateway: Make) -> None:
    """The deletion came while it was being given: it is not found afterwards."""
    ask = Asked(gateway("[[line]]\nreply = 'one two three'\n"))
    backend = ask.gateway.backend
    backend.hold_after = 2
    with httpx.stream("POST", ask.url, json=HI | {"stream": True}, timeout=30) as reply:
        lines = reply.iter_lines()
        name = json.loads(next(line for line in lines if line.startswith("data:"))[5:])["response"]["id"]
        assert httpx.delete(ask.gateway.url + "/v1/cache?all=true").status_code == 200
        backend.hold_after = None
        assert any("response.completed" in line for line in lines)
    ask.gateway.run(ask.gateway.parts.conversations._kept.flush(10))
    assert ask.found(name).status_code == 404


def test_a_client_that_leaves_leaves_no_response(gateway: Make) -> None:
    """Nothing partial is kept."""
    ask = Asked(gateway("[[line]]\nreply = 'one two three'\n"))
    ask.gateway.backend.hold_after = 2
    with httpx.stream("POST", ask.url, json=HI | {"stream": True}, timeout=30) as reply:
        name = json.loads(next(line for line in reply.iter_lines() if line.startswith("data:"))[5:])["response"]["id"]
    assert ask.gateway.backend.ended.wait(10)
    assert ask.found(name).status_code == 404


def test_a_response_is_its_tenants_alone(gateway: Make) -> None:
    """Another tenant, or a key that may not ask its model, finds nothing, follows nothing and forgets nothing."""
    ask = Asked(gateway())
    store: Any = ask.gateway.parts.access._kept._kept

    def key(**wanted: Any) -> dict[str, str]:
        text = ask.gateway.run(store.create(Wanted(scopes=("ask", "cache"), **wanted)))
        return {"authorization": f"Bearer {text}"}

    acme, rival, other_model = key(tenant="acme"), key(tenant="rival"), key(tenant="acme", models=("other",))
    while httpx.get(ask.gateway.url + "/v1/models").status_code != 401:
        pass
    name = ask.made(acme)["id"]
    assert httpx.get(f"{ask.url}/{name}", headers=acme).status_code == 200
    for headers in (rival, other_model):
        assert httpx.get(f"{ask.url}/{name}", headers=headers).status_code == 404
        assert httpx.get(f"{ask.url}/{name}/input_items", headers=headers).status_code == 404
        assert httpx.get(f"{ask.url}/{name}?stream=true", headers=headers).status_code == 404
        assert ask(headers, previous_response_id=name).status_code == 404
        assert httpx.delete(f"{ask.url}/{name}", headers=headers).status_code == 404
    assert httpx.get(f"{ask.url}/{name}", headers=acme).status_code == 200


def test_while_the_database_is_down(gateway: Make, servers: Servers) -> None:
    """The answer is given, and this gateway still finds it; others say that they cannot know. Later all do."""
    one, other = Asked(gateway(database_deadline_s=0.2)), Asked(gateway(database_deadline_s=0.2))
    one.made()
    with frozen(servers.postgres_process):
        made = one.made()
        assert one.found(made["id"]).json() == made
        unknown = other.found(made["id"])
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "storage_unavailable")
        assert other(previous_response_id=made["id"], input="More").status_code == 503
    assert one.gateway.run(one.gateway.parts.conversations._kept.flush(10))
    deadline = time.monotonic() + 10
    while (found := other.found(made["id"])).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)  # its breaker rests
    assert found.json() == made


def test_responses_end_with_their_time(ask: Asked) -> None:
    """Young ones stay."""
    name = ask.made()["id"]
    parts = ask.gateway.parts
    ask.gateway.run(parts.conversations._kept.flush(10))
    pool: Any = parts.conversations._kept._pool

    async def swept(ttl_s: float, policies: tuple[PolicyConfig, ...] = ()) -> None:
        from gateway.sweeping import Sweeper

        sweeper = Sweeper(pool, parts.invalidations, policies, marks_needed_s=1e6, responses_ttl_s=ttl_s)
        await sweeper.sweep()
        await sweeper.aclose()

    ask.gateway.run(swept(1000, (PolicyConfig(ttl_s=1000),)))
    assert ask.found(name).status_code == 200
    ask.gateway.run(swept(1000, (PolicyConfig(model="other", ttl_s=0.001),)))
    assert ask.found(name).status_code == 200
    ask.gateway.run(swept(1000, (PolicyConfig(ttl_s=0.001),)))
    assert ask.found(name).status_code == 404
    other = ask.made(input="Other")["id"]
    ask.gateway.run(parts.conversations._kept.flush(10))
    ask.gateway.run(swept(0.001))
    assert ask.found(other).status_code == 404


def test_equal_responses_at_the_same_time_are_one_call(gateway: Make) -> None:
    """The second hears the first's steps, under an id of its own; both are kept."""
    ask = Asked(gateway("[[line]]\nreply = 'one two three'\n"))
    backend = ask.gateway.backend
    backend.hold_after = 2
    with (
        httpx.stream("POST", ask.url, json=HI | {"stream": True}, timeout=30) as one,
        httpx.stream("POST", ask.url, json=HI | {"stream": True}, timeout=30) as two,
    ):
        backend.hold_after = None
        told = [events(reply.read().decode()) for reply in (one, two)]
    assert two.headers["x-askonce-cache"] == "coalesced"
    assert len(backend.ends) == 1
    for stream in told:
        assert words(stream[-1]["response"]) == "one two three"
        assert ask.found(stream[-1]["response"]["id"]).json() == stream[-1]["response"]


def test_explain_takes_a_response(ask: Asked) -> None:
    """With the key it has, also when it follows another."""
    first = ask()
    url = f"{ask.gateway.url}/v1/cache/explain?path={PATH}"
    assert httpx.post(url, json=HI).json()["key"] == first.headers["x-askonce-key"]
    follows = HI | {"input": "More", "previous_response_id": first.json()["id"]}
    explained = httpx.post(url, json=follows).json()
    assert explained["key"] == ask(**follows).headers["x-askonce-key"]
    assert httpx.post(url, json={**follows, "previous_response_id": "resp_" + "0" * 32}).status_code == 404


def test_what_cannot_be_honoured_is_named(ask: Asked) -> None:
    """400 in OpenAI's envelope, with the field; the model is not asked."""
    for fields, param in (({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"prompt": {"id": "p"}}, "prompt")):
        refused = ask(**fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        assert refused.json()["error"]["code"] == "unsupported_parameter"
    assert ask.gateway.backend.calls == 0


def test_ids_that_are_none(ask: Asked) -> None:
    """404, whatever they hold; following them too."""
    for name in ("resp_" + "0" * 32, "resp_1", "%00", "msg_" + "a" * 32, "x" * 3000):
        assert ask.found(name).status_code == 404, name
    assert ask(previous_response_id="\x00").status_code == 404
    assert ask.found("resp_" + "0" * 32, "/cancel").status_code == 404


def test_the_clients_own_ways(ask: Asked) -> None:
    """OpenAI's client makes, streams, parses, finds again, resumes, lists, follows and forgets."""
    client = ask.gateway.client()
    made = client.responses.create(model=MODEL, input="Hi there", temperature=0)
    assert client.responses.retrieve(made.id).output_text == made.output_text == "You said: Hi there"
    with client.responses.stream(model=MODEL, input="Hi there", temperature=0) as stream:
        seen = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert seen == final.output_text == made.output_text
    resumed = list(client.responses.retrieve(final.id, stream=True, starting_after=3))
    assert resumed[0].sequence_number == 4
    assert resumed[-1].type == "response.completed"
    listed = list(client.responses.input_items.list(made.id, include=["message.output_text.logprobs"] * 2))
    assert [item.content[0].text for item in listed] == ["Hi there"]  # type: ignore[union-attr] -- a message's
    followed = client.responses.create(model=MODEL, input="More", previous_response_id=made.id)
    assert followed.previous_response_id == made.id
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.create(model=MODEL, input="Hi", background=True)
