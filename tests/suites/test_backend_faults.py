"""One suite for every backend against servers that break: a named error in time, and nothing is ever kept."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from gateway import app
from gateway.canonical import Request
from gateway.config import BackendConfig
from gateway.errors import BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from gateway.pipeline import Pipeline
from gateway.router import Backend, Router
from storage.entry import Chunk, Entry
from tests.engines.child import free_port
from tests.suites.faulty import Peer, faulty

KINDS = ("openai", "vllm", "llamacpp", "ollama")
SILENCE_S = 0.4
Fault = Callable[[Peer, str], Awaitable[None]]
QUESTION = Request(
    kind="chat", model="m", prompt={"messages": [{"role": "user", "content": "Hi"}]}, params={"n": 1}, extra={}
)


class Kept:
    """Tiers that write down what they are given."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    async def get(self, key: bytes) -> None:
        """Nothing is there."""
        del key

    def put(self, entry: Entry) -> None:
        """Write it down."""
        self.entries.append(entry)


def build(kind: str, url: str) -> Backend:
    """A backend as the composition root makes it, whose identity nobody has to be asked for."""
    config: dict[str, Any] = {"kind": kind, "model": "m", "url": url, "model_version": "w"}
    return app.BUILD[kind](BackendConfig(**config, read_timeout_s=SILENCE_S, connect_timeout_s=SILENCE_S))


async def ask(backend: Backend, request: Request = QUESTION) -> tuple[list[Chunk], BackendError | None, list[Entry]]:
    """Ask through the pipeline: what was heard, how it failed, and what was kept."""
    kept, heard, fault = Kept(), list[Chunk](), None
    pipeline = Pipeline(kept, Router({"m": backend}))
    try:
        answer = await pipeline.answer(request, "s", "id")
        async with aclosing(answer.chunks) as steps:
            async for step in steps:
                heard.append(step)
    except BackendError as error:
        fault = error
    await backend.aclose()
    return heard, fault, kept.entries


@asynccontextmanager
async def closing(backend: Backend) -> AsyncIterator[None]:
    """Close `backend` after the block, also when it fails."""
    try:
        yield
    finally:
        await backend.aclose()


def piece(kind: str, text: str) -> str:
    """One step, as the server writes it."""
    if kind == "ollama":
        return json.dumps({"message": {"role": "assistant", "content": text}, "done": False}) + "\n"
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n"


def ending(kind: str) -> str:
    """The end of an answer."""
    if kind == "ollama":
        line = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
        return json.dumps(line | {"prompt_eval_count": 1, "eval_count": 2}) + "\n"
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    return f"data: {json.dumps(finish)}\n\ndata: {json.dumps(usage)}\n\ndata: [DONE]\n\n"


async def works(peer: Peer, kind: str) -> None:
    """The good case, so that the others fail for the right reason."""
    await peer.head()
    await peer.say(": ping\n\n" * (kind != "ollama") + piece(kind, "a") + piece(kind, "b") + ending(kind))


async def closes_at_once(peer: Peer, kind: str) -> None:
    """No reply at all."""


async def is_no_http(peer: Peer, kind: str) -> None:
    """Another protocol."""
    await peer.say("220 mail ready\r\n")


async def ends_after_its_head(peer: Peer, kind: str) -> None:
    """200, and an empty body."""
    await peer.head()


async def ends_too_early(peer: Peer, kind: str) -> None:
    """A clean end of the connection, though nothing said that the answer had ended."""
    await peer.head()
    await peer.say(piece(kind, "a"))


async def ends_in_an_event(peer: Peer, kind: str) -> None:
    """The last line is cut."""
    await peer.head()
    await peer.say(piece(kind, "a") + piece(kind, "b")[:-12])


async def ends_in_a_character(peer: Peer, kind: str) -> None:
    """Between its bytes."""
    await peer.head()
    await peer.say(piece(kind, "a").encode() + piece(kind, "é").replace("\\u00e9", "é").encode().split(b"\xa9")[0])


async def cuts_a_chunked_body(peer: Peer, kind: str) -> None:
    """The transfer itself is incomplete, though every event is whole."""
    await peer.head(chunked=True)
    await peer.chunk(piece(kind, "a"))


async def fails_midway(peer: Peer, kind: str) -> None:
    """An error, as these servers send it in the middle of a stream."""
    await peer.head()
    error: Any = "out of memory" if kind == "ollama" else {"message": "out of memory", "code": 500}
    line = json.dumps({"error": error})
    await peer.say(piece(kind, "a") + (f"{line}\n" if kind == "ollama" else f"data: {line}\n\ndata: [DONE]\n\n"))


async def says_garbage_midway(peer: Peer, kind: str) -> None:
    """Something that is not JSON."""
    await peer.head()
    await peer.say(piece(kind, "a") + ("{oops}\n" if kind == "ollama" else "data: {oops}\n\n") + ending(kind))


async def says_bytes_midway(peer: Peer, kind: str) -> None:
    """Something that is not text."""
    await peer.head()
    await peer.say(piece(kind, "a").encode() + piece(kind, "X").encode().replace(b"X", b"\xff") + ending(kind).encode())


async def says_html(peer: Peer, kind: str) -> None:
    """A proxy's page, with a status that claims success."""
    await peer.head(kind="text/html")
    await peer.say("<html><body>Welcome</body></html>\n")


async def is_a_broken_proxy(peer: Peer, kind: str) -> None:
    """A proxy's page, with its status."""
    await peer.head("502 Bad Gateway", "text/html")
    await peer.say("<html>bad gateway</html>")


async def has_nothing_to_say(peer: Peer, kind: str) -> None:
    """A stream of no choices."""
    await peer.head()
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}
    await peer.say("{}\n" if kind == "ollama" else f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n")


async def is_done_at_once(peer: Peer, kind: str) -> None:
    """The end of a stream without an answer."""
    await peer.head()
    await peer.say('{"done": true}\n' if kind == "ollama" else "data: [DONE]\n\n")


async def forgets_to_finish(peer: Peer, kind: str) -> None:
    """The end of the stream, but not of the answer."""
    await peer.head()
    await peer.say(piece(kind, "a") + ("" if kind == "ollama" else "data: [DONE]\n\n"))


BREAKS: tuple[Fault, ...] = (
    closes_at_once,
    is_no_http,
    ends_after_its_head,
    ends_too_early,
    ends_in_an_event,
    ends_in_a_character,
    cuts_a_chunked_body,
    fails_midway,
    says_garbage_midway,
    says_bytes_midway,
    says_html,
    is_a_broken_proxy,
    has_nothing_to_say,
    is_done_at_once,
    forgets_to_finish,
)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of backend in turn."""
    return request.param


def serving(fault: Fault, kind: str) -> Any:
    """A server of this kind with this fault."""
    return faulty(lambda peer: fault(peer, kind))


async def test_a_server_that_works_is_heard_and_kept(kind: str) -> None:
    """The faults below are the only difference."""
    async with serving(works, kind) as server:
        heard, fault, kept = await ask(build(kind, server.url))
    assert fault is None
    assert "".join(step.content for step in heard) == "ab"
    assert [entry.text() for entry in kept] == ["ab"]
    assert (kept[0].usage.prompt_tokens, kept[0].usage.completion_tokens) == (1, 2)


@pytest.mark.parametrize("break_", BREAKS, ids=lambda fault: fault.__name__)
async def test_a_server_that_breaks_is_an_error_and_nothing_is_kept(kind: str, break_: Fault) -> None:
    """However much it had said before, and in one sentence that can be shown."""
    if kind == "ollama" and break_ is says_bytes_midway:
        return  # its client reads such bytes as U+FFFD, which is what Ollama itself would have sent
    async with serving(break_, kind) as server:
        heard, fault, kept = await ask(build(kind, server.url))
    assert isinstance(fault, BackendError)
    assert fault.status in {502, 503}
    assert str(fault)
    assert "Traceback" not in str(fault)
    assert kept == []
    assert all(step.finish_reason is None for step in heard)


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
                await Pipeline(kept, Router({"m": backend})).embed([question], "s", "id")
    assert caught.value.status == 502
    assert kept.entries == []


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


@pytest.mark.parametrize(
    ("props", "reads"),
    [
        ({"chat_template": "{{ messages }}", "chat_template_caps": {"supports_tools": False}}, False),
        ({"chat_template": "{{ messages }}", "chat_template_caps": {"supports_tools": True}}, True),
        ({"chat_template": "{{ messages }}"}, False),
        ({"chat_template": "{% if tools %}{{ tools }}{% endif %}"}, True),
    ],
)
async def test_tools_need_a_template_that_shows_them(props: dict[str, Any], *, reads: bool) -> None:
    """llama.cpp would answer without them, and say nothing; its properties tell, and are asked for once."""
    paths: list[str] = []

    async def serve(peer: Peer, kind: str) -> None:
        paths.append(peer.path)
        await (peer.head() if peer.path != "/props" else peer.head(kind="application/json"))
        await peer.say(json.dumps(props) if peer.path == "/props" else piece(kind, "a") + ending(kind))

    question = Request("chat", "m", QUESTION.prompt | {"tools": [{"type": "function"}]}, {"n": 1}, {})
    async with serving(serve, "llamacpp") as server:
        backend = build("llamacpp", server.url)
        async with closing(backend):
            for _ in range(2):
                if reads:
                    assert [step async for step in backend.complete(question)]
                    continue
                with pytest.raises(BackendRefused) as refused:
                    _ = [step async for step in backend.complete(question)]
                assert (refused.value.status, refused.value.param) == (400, "tools")
                assert refused.value.code == "unsupported_parameter"
    assert paths.count("/props") == 1
    assert paths.count("/v1/chat/completions") == (2 if reads else 0)


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


async def test_a_choice_that_never_ends_is_not_kept() -> None:
    """Of two choices one is complete: that is no answer."""
    question = Request("chat", "m", QUESTION.prompt, {"n": 2}, {})
    for kind in ("openai", "vllm", "llamacpp"):
        async with serving(works, kind) as server:
            _, fault, kept = await ask(build(kind, server.url), question)
        assert fault is not None
        assert "before the answer did" in str(fault)
        assert kept == []


async def test_a_server_that_is_down_is_unavailable(kind: str) -> None:
    """Nobody listens: 503, with a hint."""
    started = time.monotonic()
    _, fault, kept = await ask(build(kind, f"http://127.0.0.1:{free_port()}"))
    assert type(fault) is BackendUnavailable
    assert str(fault) == "Backend 'm' cannot be reached. Is it running?"
    assert kept == []
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("said", ["nothing", "its head", "one step"])
async def test_a_server_that_hangs_is_too_slow(kind: str, said: str) -> None:
    """Before its reply, before the first step, or between two: 504 after the configured silence."""

    async def hang(peer: Peer, kind: str) -> None:
        if said != "nothing":
            await peer.head()
        if said == "one step":
            await peer.say(piece(kind, "a"))
        await peer.silence()

    async with serving(hang, kind) as server:
        started = time.monotonic()
        heard, fault, kept = await ask(build(kind, server.url))
    assert type(fault) is BackendTimeout
    assert "did not answer in time" in str(fault)
    assert [step.content for step in heard] == (["a"] if said == "one step" else [])
    assert kept == []
    assert SILENCE_S <= time.monotonic() - started < SILENCE_S + 2


async def test_a_slow_server_is_not_a_hanging_one(kind: str) -> None:
    """The limit is on silence, not on the whole answer."""

    async def slow(peer: Peer, kind: str) -> None:
        await peer.head()
        for _ in range(6):
            await asyncio.sleep(SILENCE_S / 2)
            await peer.say(piece(kind, "a"))
        await peer.say(ending(kind))

    async with serving(slow, kind) as server:
        heard, fault, kept = await ask(build(kind, server.url))
    assert fault is None
    assert "".join(step.content for step in heard) == "aaaaaa"
    assert len(kept) == 1


async def test_closing_early_reaches_the_server(kind: str) -> None:
    """Its connection is closed at once, whatever was still to come."""

    async def endless(peer: Peer, kind: str) -> None:
        await peer.head()
        await peer.say(piece(kind, "a"))
        await peer.silence()

    async with serving(endless, kind) as server:
        backend = build(kind, server.url)
        async with aclosing(backend.complete(QUESTION)) as steps:
            assert (await anext(steps)).content == "a"
            assert not server.left.is_set()
        async with asyncio.timeout(SILENCE_S / 2):
            await server.left.wait()
        await backend.aclose()


async def test_cancelling_before_the_first_step_reaches_the_server(kind: str) -> None:
    """A client who leaves while the prompt is being read frees the server too."""

    async def endless(peer: Peer, kind: str) -> None:
        await peer.silence()

    async with serving(endless, kind) as server:
        backend = build(kind, server.url)
        steps = backend.complete(QUESTION)
        task = asyncio.ensure_future(anext(steps))
        async with asyncio.timeout(2):
            while not server.asked:  # noqa: ASYNC110 -- the server tells nobody
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(SILENCE_S / 2):
            await server.left.wait()
        await backend.aclose()


async def test_a_refusal_is_passed_on(kind: str) -> None:
    """With the server's own status and words."""

    async def refuse(peer: Peer, kind: str) -> None:
        await peer.head("400 Bad Request", "application/json")
        error: Any = (
            "top_k must be positive" if kind == "ollama" else {"message": "top_k must be positive", "param": "top_k"}
        )
        await peer.say(json.dumps({"error": error}))

    async with serving(refuse, kind) as server:
        _, fault, kept = await ask(build(kind, server.url))
    assert type(fault) is BackendRefused
    assert fault.status == 400
    assert "top_k must be positive" in str(fault)
    assert fault.param == (None if kind == "ollama" else "top_k")
    assert kept == []


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_refused_credentials_are_the_gateways_own_affair(kind: str, status: str) -> None:
    """Servers like to quote the key they refuse, and clients must not see it."""

    async def refuse(peer: Peer, kind: str) -> None:
        await peer.head(status, "application/json")
        error = "Incorrect API key provided: sk-secret, maximum context length"
        await peer.say(json.dumps({"error": error if kind == "ollama" else {"message": error}}))

    async with serving(refuse, kind) as server:
        _, fault, kept = await ask(build(kind, server.url))
    assert isinstance(fault, BackendError)
    assert fault.status == 502
    assert "refused the gateway's credentials" in str(fault)
    assert "sk-secret" not in str(fault)
    assert kept == []


async def test_an_overload_is_unavailable(kind: str) -> None:
    """503 stays 503: try again later."""

    async def busy(peer: Peer, kind: str) -> None:
        await peer.head("503 Service Unavailable", "application/json")
        await peer.say('{"error": "server busy"}')

    async with serving(busy, kind) as server:
        _, fault, _ = await ask(build(kind, server.url))
    assert type(fault) is BackendUnavailable
    assert "server busy" in str(fault)


async def test_a_server_that_closes_between_requests_is_asked_all_the_same(kind: str) -> None:
    """llama.cpp closes after every stream without saying so; the next request must not notice."""

    async def close_silently(peer: Peer, kind: str) -> None:
        body = (piece(kind, "a") + ending(kind)).encode()
        await peer.say(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    async with serving(close_silently, kind) as server:
        backend = build(kind, server.url)
        for _ in range(20):
            steps = [step async for step in backend.complete(QUESTION)]
            assert steps[0].content == "a"
        assert server.asked == 20
        await backend.aclose()


async def test_identities_need_a_server_that_answers(kind: str) -> None:
    """As long as nobody knows who answers, nothing can be named, and so nothing asked."""
    config = BackendConfig(kind=kind, model="m", url=f"http://127.0.0.1:{free_port()}")  # type: ignore[arg-type]
    backend = app.BUILD[kind](config)
    with pytest.raises(BackendUnavailable):
        await backend.identity()
    await backend.aclose()


@pytest.mark.parametrize("said", ["[]", "5", '{"data": 5}', '{"models": 5}', "oops", "", "\xff"])
async def test_a_garbled_identity_is_a_backend_error(kind: str, said: str) -> None:
    """Not a mistake of ours."""

    async def garble(peer: Peer, kind: str) -> None:
        await peer.head(kind="application/json")
        await peer.say(said.encode("latin-1"))

    async with serving(garble, kind) as server:
        config = BackendConfig(kind=kind, model="m", url=server.url)  # type: ignore[arg-type]
        backend = app.BUILD[kind](config)
        with pytest.raises(BackendError):
            await backend.identity()
        await backend.aclose()
