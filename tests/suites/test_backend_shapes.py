"""One suite for every backend against servers whose answers nobody could read or encode, or that would ignore a field.

None of that may be kept: it would fail for everybody who asks the same.
"""

import json
from typing import Any

import pytest

from gateway.caller import Caller
from gateway.canonical import Request
from gateway.embedding.embedder import Embedder
from gateway.errors import BackendError, BackendRefused
from gateway.flights.shared import SharedFlights
from gateway.routing.router import Router
from gateway.steering import Steering
from tests.suites.faulty import Peer
from tests.suites.test_backend_faults import (
    KINDS,
    QUESTION,
    Kept,
    ask,
    build,
    closing,
    serving,
    works,
)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of backend in turn."""
    return request.param


def delta(**fields: Any) -> str:
    """One event of OpenAI's with a choice of these fields, the end of the answer."""
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"} | fields
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def called(call: Any) -> str:
    """An event with this as a tool call."""
    return delta(delta={"tool_calls": [call]}, finish_reason="tool_calls")


def counted(**counts: Any) -> str:
    """An answer with this usage."""
    return delta(delta={"content": "a"}) + f"data: {json.dumps({'choices': [], 'usage': counts})}\n\n"


def likely(**fields: Any) -> str:
    """An event with a log-probability like this."""
    entry = {"token": "a", "logprob": -1.5, "bytes": [97], "top_logprobs": []} | fields
    return delta(delta={"content": "a"}, logprobs={"content": [entry]})


MISSHAPEN = {
    "a call's place as text": called({"index": "x", "function": {"name": "f", "arguments": "{}"}}),
    "a call without a place": called({"index": None, "function": {"name": "f", "arguments": "{}"}}),
    "a call's place below 0": called({"index": -1, "function": {"name": "f", "arguments": "{}"}}),
    "a call's place beyond 2^31": called({"index": 2**70, "function": {"name": "f", "arguments": "{}"}}),
    "a call that is a text": called("f"),
    "a function that is a text": called({"index": 0, "function": "notadict"}),
    "a name that is a number": called({"index": 0, "function": {"name": 5, "arguments": "{}"}}),
    "arguments as an object": called({"index": 0, "function": {"name": "f", "arguments": {}}}),
    "a call's id as a number": called({"index": 0, "id": 5, "function": {"name": "f", "arguments": ""}}),
    "an unknown field beyond 64 bits": called({"index": 0, "function": {"name": "f"}, "x": [2**70]}),
    "a choice nobody asked for": delta(index=0) + delta(index=1, delta={"content": "b"}),
    "another choice instead": delta(index=1, delta={"content": "b"}),
    "a choice below 0": delta(index=-1, delta={"content": "b"}),
    "a choice beyond 64 bits": delta(index=2**70, delta={"content": "b"}),
    "probabilities as a list": delta(delta={"content": "a"}, logprobs=[]),
    "entries as a number": delta(delta={"content": "a"}, logprobs={"content": 5}),
    "an entry as a text": delta(delta={"content": "a"}, logprobs={"content": ["a"]}),
    "an entry without a token": delta(delta={"content": "a"}, logprobs={"content": [{"logprob": -1}]}),
    "a probability as a text": likely(logprob="-1"),
    "no probability": likely(logprob=None),
    "bytes that are none": likely(bytes=[256]),
    "bytes as a text": likely(bytes="a"),
    "alternatives as a text": likely(top_logprobs="a"),
    "an alternative as a number": likely(top_logprobs=[5]),
    "token lists as a text": delta(delta={"content": "a"}, logprobs={"tokens": "a"}),
    "more tokens than probabilities": delta(logprobs={"tokens": ["a"], "token_logprobs": "b"}),
    "an unknown number beyond 64 bits": delta(logprobs={"tokens": ["a"], "x": [2**70]}),
    "tokens below 0": counted(prompt_tokens=-1, completion_tokens=1),
    "tokens beyond 32 bits": counted(prompt_tokens=1, completion_tokens=2**31),
    "tokens beyond 64 bits": counted(prompt_tokens=2**70, completion_tokens=1),
    "kept tokens beyond 64 bits": counted(prompt_tokens=1, prompt_tokens_details={"cached_tokens": 2**70}),
    "tokens beyond 32 bits in two parts": counted(prompt_tokens=2**31 - 1) + counted(prompt_tokens=2**31 - 1),
    "a token id beyond 64 bits": delta(delta={"content": "a"}, token_ids=[2**70]),
    "a prompt's token id below 0": delta(delta={"content": "a"}, prompt_token_ids=[-1]),
}
"""Answers of OpenAI's kind that nobody could encode, or read."""


@pytest.mark.parametrize("said", MISSHAPEN.values(), ids=MISSHAPEN)
@pytest.mark.parametrize("kind", ["openai", "vllm", "llamacpp"], indirect=True)
async def test_a_step_of_the_wrong_shape_is_an_error_and_nothing_is_kept(kind: str, said: str) -> None:
    """It would be kept, and then fail for everybody who asks the same."""
    question = Request("chat", "m", QUESTION.prompt, {"n": 1, "logprobs": True, "top_logprobs": 1}, {})

    async def misshape(peer: Peer, kind: str) -> None:
        await peer.head()
        await peer.say(said + "data: [DONE]\n\n")

    async with serving(misshape, kind) as server:
        heard, fault, kept = await ask(build(kind, server.url), question)
    assert isinstance(fault, BackendError), heard
    assert fault.status == 502
    assert kept == []
    assert all(step.index == 0 for step in heard)


def line(**fields: Any) -> str:
    """One line of Ollama's, the end of the answer."""
    whole = {"message": {"role": "assistant", "content": "a"}, "done": True, "done_reason": "stop"}
    return json.dumps(whole | {"prompt_eval_count": 1, "eval_count": 1} | fields) + "\n"


def called_by_ollama(function: Any) -> str:
    """A line with this as a called function."""
    return line(message={"role": "assistant", "tool_calls": [{"function": function}]})


OLLAMA_MISSHAPEN = {
    "a function that is a text": called_by_ollama("notadict"),
    "a name that is a number": called_by_ollama({"name": 5, "arguments": {}}),
    "arguments that are none": called_by_ollama({"name": "f", "arguments": {"x": float("nan")}}),
    "half a character in an argument": called_by_ollama({"name": "f", "arguments": {"x": "\ud800"}}),
    "half a character": line(message={"role": "assistant", "content": "\ud800"}),
    "half a character of a thought": line(message={"role": "assistant", "thinking": "\ud800"}),
    "probabilities as a text": line(logprobs="a"),
    "a probability as a text": line(logprobs=[{"token": "a", "logprob": "x"}]),
    "a probability that is none": line(logprobs=[{"token": "a", "logprob": float("-inf")}]),
    "an alternative that is none": line(
        logprobs=[{"token": "a", "logprob": -1, "top_logprobs": [{"token": "b", "logprob": float("nan")}]}]
    ),
    "tokens below 0": line(eval_count=-1),
    "tokens beyond 32 bits": line(eval_count=2**31),
    "tokens beyond 64 bits": line(prompt_eval_count=2**70),
}


@pytest.mark.parametrize("said", OLLAMA_MISSHAPEN.values(), ids=OLLAMA_MISSHAPEN)
async def test_a_line_of_the_wrong_shape_is_an_error_and_nothing_is_kept(said: str) -> None:
    """The same of Ollama's client, which lets some of it through."""
    question = Request("chat", "m", QUESTION.prompt, {"n": 1, "logprobs": True, "top_logprobs": 1}, {})

    async def misshape(peer: Peer, kind: str) -> None:
        await peer.head()
        await peer.say(said)

    async with serving(misshape, "ollama") as server:
        _, fault, kept = await ask(build("ollama", server.url), question)
    assert isinstance(fault, BackendError)
    assert fault.status == 502
    assert kept == []


async def test_fields_nobody_knows_are_kept_in_calls() -> None:
    """Only their shape is looked at: what else a server says travels."""
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}", "y": 1}, "x": [1.5]}

    async def say(peer: Peer, kind: str) -> None:
        await peer.head()
        await peer.say(called(call) + "data: [DONE]\n\n")

    async with serving(say, "openai") as server:
        _, fault, kept = await ask(build("openai", server.url))
    assert fault is None
    assert kept[0].chunks[0].tool_calls == (call,)


BAD_VECTORS = {
    "too large for 32 bits": "[0.5, 1e300]",
    "minus that": "[0.5, -1e39]",
    "no number": '["a"]',
    "none": "[]",
    "null": "[null]",
    "NaN": "[NaN]",
    "infinity": "[Infinity]",
}


@pytest.mark.parametrize("vector", BAD_VECTORS.values(), ids=BAD_VECTORS)
async def test_an_embedding_of_no_numbers_is_an_error_and_nothing_is_kept(kind: str, vector: str) -> None:
    """Beyond what 32 bits hold it would be shown as null, for ever."""
    question = Request("embedding", "m", {"input": "a"}, {}, {})

    async def embed(peer: Peer, kind: str) -> None:
        await peer.head(kind="application/json")
        if kind == "ollama":
            await peer.say(f'{{"model": "m", "embeddings": [{vector}], "prompt_eval_count": 1}}')
        else:
            await peer.say(f'{{"data": [{{"index": 0, "embedding": {vector}}}], "usage": {{"prompt_tokens": 1}}}}')

    kept = Kept()
    async with serving(embed, kind) as server:
        backend = build(kind, server.url)
        async with closing(backend):
            with pytest.raises(BackendError) as caught:
                await Embedder(kept, Router.of({"m": backend}), SharedFlights()).embed(
                    [question], Caller(tenant="s"), Steering(), "id"
                )
    assert caught.value.status == 502
    assert kept.entries == []


@pytest.mark.parametrize(
    ("inputs", "rows", "params"),
    [(2, [[0.5, 0.5], [0.5]], {}), (1, [[0.5, 0.5]], {"dimensions": 1}), (1, [[0.5]], {"dimensions": 2})],
)
async def test_embeddings_have_one_length(kind: str, inputs: int, rows: list[list[float]], params: Any) -> None:
    """That which was asked for; an engine that does not know `dimensions` would ignore it."""
    questions = [Request("embedding", "m", {"input": str(number)}, params, {}) for number in range(inputs)]

    async def embed(peer: Peer, kind: str) -> None:
        await peer.head(kind="application/json")
        if kind == "ollama":
            await peer.say(json.dumps({"model": "m", "embeddings": rows, "prompt_eval_count": 1}))
        else:
            data = [{"index": index, "embedding": row} for index, row in enumerate(rows)]
            await peer.say(json.dumps({"data": data, "usage": {"prompt_tokens": 1}}))

    async with serving(embed, kind) as server:
        backend = build(kind, server.url)
        async with closing(backend):
            with pytest.raises(BackendError) as caught:
                await backend.embed(questions)
    assert caught.value.status == (400 if kind == "llamacpp" and params else 502)


@pytest.mark.parametrize("tokens", [-1, 2**31, 2**70])
async def test_an_embeddings_tokens_are_a_count(kind: str, tokens: int) -> None:
    """Or the reply is none."""
    question = Request("embedding", "m", {"input": "a"}, {}, {})

    async def embed(peer: Peer, kind: str) -> None:
        await peer.head(kind="application/json")
        if kind == "ollama":
            await peer.say(json.dumps({"model": "m", "embeddings": [[0.5]], "prompt_eval_count": tokens}))
        else:
            usage = {"prompt_tokens": tokens}
            await peer.say(json.dumps({"data": [{"index": 0, "embedding": [0.5]}], "usage": usage}))

    async with serving(embed, kind) as server:
        backend = build(kind, server.url)
        async with closing(backend):
            with pytest.raises(BackendError) as caught:
                await backend.embed([question])
    assert caught.value.status == 502


@pytest.mark.parametrize("field", ["n_cmpl", "n_probs", "post_sampling_probs", "response_fields", "t_max_predict_ms"])
async def test_llamacpps_other_shapes_are_refused(field: str) -> None:
    """`n_cmpl` is `n` by another name: three choices would come where one was asked for."""
    question = Request("chat", "m", QUESTION.prompt, {"n": 1}, {field: 3})
    async with serving(works, "llamacpp") as server:
        _, fault, kept = await ask(build("llamacpp", server.url), question)
        assert server.asked == 0
    assert isinstance(fault, BackendRefused)
    assert (fault.status, fault.code, fault.param) == (400, "unsupported_parameter", field)
    assert kept == []
