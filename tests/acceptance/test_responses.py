"""`/v1/responses` over HTTP: made, streamed, followed, and refused in words."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
import openai
import pytest
from openai.types.responses import Response

from gateway.canonical import Request
from storage.entry import Chunk, Usage
from tests.acceptance.in_thread import MODEL
from tests.acceptance.responding import HI, PATH, Asked, Make, events, words

CHAT = "/v1/chat/completions"


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway())


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


def test_items_may_be_referred_to(ask: Asked) -> None:
    """As some clients send a conversation: by ids. That is the same question, and what they meant is kept."""
    first = ask.made()
    listed = ask.found(first["id"], "/input_items").json()["data"]
    more = {"role": "user", "content": "More"}
    whole = ask.made(input=[{"role": "user", "content": "Hi there"}, *first["output"], more])
    meant = [{"id": listed[0]["id"]}, {"type": "item_reference", "id": first["output"][0]["id"]}, more]
    second = ask(input=meant)
    assert second.headers["x-askonce-cache"] == "hit"
    assert httpx.delete(f"{ask.url}/{first['id']}").status_code == 200
    last = {"previous_response_id": second.json()["id"], "input": "Even more"}
    assert ask.where(**last) == "miss"
    assert ask.where(**last | {"previous_response_id": whole["id"]}) == "hit"
    for name in (first["output"][0]["id"], "msg_1", "\x00"):
        refused = ask(input=[more, {"type": "item_reference", "id": name}])
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[1].id")


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
