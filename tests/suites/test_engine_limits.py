"""What an engine would take and do nothing with, or do otherwise than the others: refused, or said in its own words."""

import json
from typing import Any

import pytest

from gateway.canonical import Request
from gateway.errors import BackendRefused, UnfitAnswer
from gateway.wire import reply
from tests.suites.faulty import Peer, faulty
from tests.suites.test_backend_faults import ending, piece
from tests.suites.test_tool_ways import HELLO, TOOLS, Model, ask, build, words

FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}
OF_CHATS = [
    ("tools", TOOLS),
    ("tool_choice", "required"),
    ("reasoning_effort", "high"),
]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *[(kind, *one) for kind in ("vllm", "llamacpp", "ollama") for one in OF_CHATS],
        ("llamacpp", "response_format", FORMAT),
        ("ollama", "response_format", {"type": "json_object"}),
    ],
)
async def test_a_completion_is_not_asked_what_only_a_chat_can_be(kind: str, field: str, value: Any) -> None:
    """Engines take it, and answer with any text."""
    model = Model(kind)
    with pytest.raises(BackendRefused) as refused:
        await ask(model, text=True, **{field: value})
    assert (refused.value.status, refused.value.param, model.chats()) == (400, field, [])


@pytest.mark.parametrize("field", ["prompt_logprobs", "return_token_ids"])
async def test_what_no_reply_has_a_place_for_is_refused(field: str) -> None:
    """vLLM would compute it for nobody."""
    with pytest.raises(BackendRefused) as refused:
        await ask(Model("vllm"), **{field: 1})
    assert refused.value.param == field


async def test_an_answer_that_has_begun_goes_on() -> None:
    """With every engine: vLLM is told that the last turn is not over, where it is the assistant's."""
    begun = [*HELLO, {"role": "assistant", "content": "The capital"}]
    model = Model("vllm")
    await ask(model, messages=begun)
    await ask(model, messages=HELLO)
    first, second = model.chats()
    assert (first["continue_final_message"], first["add_generation_prompt"]) == (True, False)
    assert "continue_final_message" not in second


async def test_log_probabilities_that_an_engine_does_not_give_are_refused() -> None:
    """An older Ollama takes the field, and says nothing of it."""
    with pytest.raises(BackendRefused) as refused:
        await ask(Model("ollama"), logprobs=True)
    assert (refused.value.status, refused.value.param) == (400, "logprobs")


async def test_an_end_by_the_clients_own_word_is_told() -> None:
    """What does not fit then may be whole without it."""
    with pytest.raises(UnfitAnswer, match="one of 'stop'"):
        await ask(Model("vllm", words('{"city": ')), response_format={"type": "json_object"}, stop=["}"])


async def test_a_model_that_does_not_embed_is_named() -> None:
    """And another backend of its name may be asked, so it is no 400."""

    async def none(peer: Peer) -> None:
        await peer.head("404 Not Found", "application/json")
        await peer.say(json.dumps({"detail": "Not Found"}))

    async with faulty(none) as server:
        backend = build("vllm", server.url)
        with pytest.raises(BackendRefused, match="does not embed") as refused:
            await backend.embed([Request("embedding", "m", {"input": "Paris"}, {}, {})])
        await backend.aclose()
    assert (refused.value.status, refused.value.code) == (404, "model_does_not_embed")


async def test_what_stops_nothing_is_no_fault() -> None:
    """The other fields are the only difference."""
    said = piece("vllm", "{}") + ending("vllm")
    steps = await ask(Model("vllm", said), response_format={"type": "json_object"}, stop=["}}"])
    assert reply.message(steps)["content"] == "{}"
