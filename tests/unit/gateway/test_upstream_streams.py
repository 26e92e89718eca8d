"""What a server sends -> steps: event streams and JSON lines cut anywhere, and everything that is no answer."""

import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import building
from gateway.backends import dialect
from gateway.backends.ollama import Client, Ollama
from gateway.backends.openai_compatible import OpenAICompatible
from gateway.backends.server import meant
from gateway.backends.unbroken import UnbrokenLines
from gateway.canonical import Identity, Request
from gateway.config import BackendConfig
from gateway.errors import (
    BackendError,
    BackendGone,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    BackendUnreachable,
    may_pass,
)
from gateway.steps import together
from storage.entry import Chunk, Usage
from tests.suites.faulty import Peer, faulty

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ODD = st.sampled_from(
    ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r\n", "\n\n", "é漢😀", "data: [DONE]", "\x00"]
)
TEXTS = st.lists(TEXT | ODD, min_size=1, max_size=5)
QUESTION = Request(
    kind="chat", model="m", prompt={"messages": [{"role": "user", "content": "Hi"}]}, params={"n": 1}, extra={}
)


class Said:
    """A server that says `pieces`, just so cut, whatever it is asked."""

    here = True

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self.left = False

    @asynccontextmanager
    async def asked(self, path: str, content: bytes, **_: Any) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Its pieces, one by one."""
        json.loads(content)
        try:
            yield self._said()
        finally:
            self.left = True

    async def read(self, path: str, content: bytes | None = None) -> bytes:
        """Its pieces together."""
        return b"".join(self.pieces)

    async def headers(self, path: str) -> dict[str, str]:
        """None."""
        del path
        return {}

    async def tie(self) -> None:
        """There is nothing to hold on to."""

    def tied(self) -> bool:
        """No."""
        return False

    def signs(self) -> int:
        """It stays the same."""
        return 0

    async def aclose(self) -> None:
        """Nothing to close."""

    async def _said(self) -> AsyncGenerator[bytes]:
        for piece in self.pieces:
            yield piece


class Pieces(httpx.AsyncByteStream):
    """The same for Ollama's client."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """`data` cut at `places`."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def openai_over(body: bytes | Sequence[bytes], accent: Any = dialect.OPENAI) -> OpenAICompatible:
    """A backend whose server always says `body`."""
    server = Said([body] if isinstance(body, bytes) else body)
    return OpenAICompatible("there", server, "m", accent, Identity("e", "1", "w"))


def ollama_over(pieces: Sequence[bytes]) -> Ollama:
    """An Ollama backend whose server always says `pieces`."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Pieces(pieces)))
    client = Client("http://server", transport=UnbrokenLines(transport))
    return Ollama("there", client, Said(pieces), "m")


async def steps(backend: Any, request: Request = QUESTION) -> list[Chunk]:
    """Everything a backend says."""
    async with closing(backend), aclosing(backend.complete(request)) as arriving:
        return [step async for step in arriving]


@asynccontextmanager
async def closing(backend: Any) -> AsyncGenerator[None]:
    """Closes `backend`, also when it fails."""
    try:
        yield
    finally:
        await backend.aclose()


def sse(events: Sequence[Any], line_end: str, *, comments: bool) -> bytes:
    """A stream of events, as servers write them."""
    ping = f": ping{line_end}{line_end}" if comments else ""
    lines = [event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in events]
    return "".join(f"{ping}data: {line}{line_end}{line_end}" for line in lines).encode()


def delta(**fields: Any) -> dict[str, Any]:
    """One event of a chat."""
    finish = fields.pop("finish_reason", None)
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


END = [delta(finish_reason="stop"), {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, "[DONE]"]


@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
async def test_events_may_be_cut_anywhere(texts: list[str], places: list[int], line_end: str, comments: bool) -> None:
    """Between bytes of a character, between \\r and \\n, in a comment: the steps are the same."""
    data = sse([*(delta(content=text) for text in texts), *END], line_end, comments=comments)
    found = await steps(openai_over(cut(data, places)))
    assert [step.content for step in found if step.content] == [text for text in texts if text]
    assert found[-1] == Chunk(usage=Usage(3, 4))
    assert [step.finish_reason for step in found if step.finish_reason] == ["stop"]


@st.composite
def deltas(draw: st.DrawFn) -> dict[str, Any]:
    """An event of a chat: most often a text and nothing else."""
    event = delta(content=draw(st.none() | TEXT | ODD), **draw(st.just({}) | st.just({"reasoning": "Hm"})))
    choice = event["choices"][0] | draw(st.just({}) | st.sampled_from([{"index": 1}, {"token_ids": [1, 2]}]))
    ids = draw(st.just({}) | st.sampled_from([{"prompt_token_ids": [5]}, {"usage": {"prompt_tokens": 1}}]))
    return {"choices": [choice, *draw(st.just([]) | st.just([choice]))]} | ids


@given(st.lists(deltas(), max_size=8), st.lists(st.integers(0, 10_000), max_size=4), st.booleans())
async def test_what_an_event_says_is_read_in_one_way(
    events: list[dict[str, Any]], places: list[int], gives_token_ids: bool
) -> None:
    """One that says a text and nothing else is read in a quicker way than one that says besides what means nothing."""
    accent = dialect.VLLM if gives_token_ids else dialect.OPENAI
    ends = [{"choices": [{"index": index, "finish_reason": "stop"} for index in (0, 1)]}, *END[1:]]
    longer = msgspec.json.decode(msgspec.json.encode(events))
    for choice in itertools.chain.from_iterable(event["choices"] for event in longer):
        choice["delta"]["refusal"] = ""
    data = sse([*events, *ends], "\n", comments=False)
    quick = await steps(openai_over(cut(data, places), accent))
    assert quick == await steps(openai_over(sse([*longer, *ends], "\n", comments=False), accent))


async def test_the_first_step_does_not_wait_for_what_came_with_it() -> None:
    """Not even for a fault."""
    data = sse([delta(role="assistant"), delta(content="a"), delta(content="b")], "\n", comments=False)
    backend = openai_over(data + GARBAGE["no JSON"])
    async with closing(backend):
        batches = together(backend.complete(QUESTION))
        assert await anext(batches) == [Chunk(content="a")]
        assert await anext(batches) == [Chunk(content="b")]
        with pytest.raises(BackendError):
            await anext(batches)


async def test_an_event_may_lack_its_space_and_its_last_line_end() -> None:
    """`data:{…}` is an event, and so is one that the end of the body ends."""
    step = f"data:{json.dumps(delta(content='a', finish_reason='stop'))}\n\n"
    for end in ("data:[DONE]", f"data:{json.dumps(END[1])}"):
        found = await steps(openai_over((step + end).encode()))
        assert found[0] == Chunk(content="a", finish_reason="stop")


@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=8))
async def test_lines_of_json_may_be_cut_anywhere(texts: list[str], places: list[int]) -> None:
    """Ollama's client reads characters that only look like line ends as what they are."""
    lines: list[dict[str, Any]] = [{"message": {"role": "assistant", "content": text}, "done": False} for text in texts]
    lines.append(
        {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", "eval_count": 4}
    )
    data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    found = await steps(ollama_over(cut(data, places)))
    assert [step.content for step in found if step.content] == [text for text in texts if text]
    assert found[-1] == Chunk(usage=Usage(0, 4))


GARBAGE = {
    "no JSON": b"data: {oops\n\n",
    "no event": b"data: 5\n\n",
    "choices of text": b'data: {"choices": "text"}\n\n',
    "half a character": rb'data: {"choices":[{"delta":{"content":"\ud800"}}]}' + b"\n\n",
    "bytes that are no UTF-8": b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
    "deep nesting": b'data: {"choices":[{"delta":{"tool_calls":[{"a":' + b"[" * 100_000 + b"\n\n",
    "an error event": b'data: {"error": {"message": "out of memory", "code": 500}}\n\n',
    "an error text": b'data: {"error": "out of memory"}\n\n',
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_midway_is_a_backend_error(said: bytes) -> None:
    """Whatever came before it."""
    data = sse([delta(content="a")], "\n", comments=False) + said
    with pytest.raises(BackendError) as caught:
        await steps(openai_over(data))
    assert caught.value.status == 502


@pytest.mark.parametrize(("code", "status"), [(400, 400), ("422", 422), (429, 429), (418, 502), (500, 502)])
async def test_a_refusal_in_a_stream_is_one_all_the_same(code: Any, status: int) -> None:
    """vLLM's head says that all is well: a client's mistake is told as that, and no other replica is asked."""
    error = {"message": "out of vocabulary", "type": "BadRequestError", "param": "logit_bias", "code": code}
    with pytest.raises(BackendError, match="out of vocabulary") as caught:
        await steps(openai_over(sse([{"error": error}, "[DONE]"], "\n", comments=False)))
    assert caught.value.status == status
    if status < 500:
        assert isinstance(caught.value, BackendRefused)
        assert caught.value.param == "logit_bias"
        assert may_pass(caught.value) == (status == 429)


LINES = {
    "no JSON": b"{oops\n",
    "no object": b"[1]\n",
    "a number": b"5\n",
    "no message": b'{"done": true}\n',
    "half a character": rb'{"message": {"role": "assistant", "content": "\ud800"}, "done": false}' + b"\n",
    "no UTF-8": b'{"message": {"role": "assistant", "content": "\xff"}}\n',
    "an error": b'{"error": "out of memory"}\n',
    "an end without an answer": b'{"message": {"role": "assistant"}, "done": true, "done_reason": "unload"}\n',
    "an end too early": b'{"message": {"role": "assistant", "content": "a"}, "done": false}\n',
    "nothing": b"",
}


@pytest.mark.parametrize("said", LINES.values(), ids=LINES)
async def test_garbage_lines_are_a_backend_error(said: bytes) -> None:
    """Never a mistake of ours, whatever Ollama's client makes of it."""
    with pytest.raises(BackendError) as caught:
        await steps(ollama_over([said]))
    assert caught.value.status == 502


@pytest.mark.parametrize("kind", ["openai", "ollama"])
@pytest.mark.parametrize(
    ("status", "body", "error", "shown", "words"),
    [
        (400, b'{"error": {"message": "too long", "param": "messages"}}', BackendRefused, 400, "too long"),
        (404, b'{"error": "model not found"}', BackendRefused, 404, "model not found"),
        (422, b'{"detail": "no"}', BackendRefused, 422, "no"),
        (429, b"slow down", BackendRefused, 429, "slow down"),
        (401, b'{"error": "Unauthorized"}', BackendError, 502, "refused the gateway's credentials"),
        (500, b"", BackendError, 502, "500"),
        (502, b"<html>bad gateway \xff</html>", BackendError, 502, "bad gateway"),
        (503, b'{"error": {"message": "busy"}}', BackendUnavailable, 503, "busy"),
        (302, b"elsewhere", BackendError, 502, "elsewhere"),
    ],
)
async def test_refusals_are_told_apart(
    kind: str, status: int, body: bytes, error: type[BackendError], shown: int, words: str
) -> None:
    """The client's own mistakes keep their status; the rest is the backend's."""

    async def refuse(peer: Peer) -> None:
        await peer.head(f"{status} No", "application/json")
        await peer.say(body)

    async with faulty(refuse) as server:
        backend = building.BUILD[kind](BackendConfig(kind=kind, model="m", url=server.url))  # type: ignore[arg-type]
        with pytest.raises(BackendError) as caught:
            await steps(backend)
    assert type(caught.value) is error
    assert caught.value.status == shown
    assert words in str(caught.value)


TIMED_OUT = [aiohttp.ConnectionTimeoutError("slow"), aiohttp.SocketTimeoutError("slow"), httpx.ConnectTimeout("slow")]
TIMED_OUT += [httpx.ReadTimeout("slow"), httpx.PoolTimeout("busy")]
BROKEN = [aiohttp.ServerDisconnectedError(), aiohttp.ClientOSError("gone"), aiohttp.ClientPayloadError("cut")]
BROKEN += [httpx.ReadError("gone"), httpx.RemoteProtocolError("odd")]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (httpx.ConnectError("refused"), BackendUnreachable),
        *((fault, BackendTimeout) for fault in TIMED_OUT),
        *((fault, BackendGone) for fault in BROKEN),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_faults_of_the_connection_are_named(fault: Exception, kind: type[BackendError]) -> None:
    """As unavailable, too slow, or broken, whichever client library met them."""
    with pytest.raises(BackendError) as caught:
        await _meet(fault)
    assert type(caught.value) is kind
    assert "'there'" in str(caught.value)


async def _meet(fault: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise fault

    if isinstance(fault, (aiohttp.ClientError, OSError)):
        raise meant("there", fault)

    client = Client("http://server", transport=UnbrokenLines(httpx.MockTransport(fail)))
    await steps(Ollama("there", client, Said([]), "m"))


EMBEDDING = Request(kind="embedding", model="m", prompt={"input": "a"}, params={}, extra={})
WRONG_EMBEDDINGS = {
    "no JSON": b"oops",
    "no data": b'{"data": null}',
    "too few": b'{"data": [], "embeddings": []}',
    "too many": b'{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1]}], "embeddings": [[1], [1]]}',
    "twice the same": b'{"data": [{"index": 1, "embedding": [1]}], "embeddings": []}',
    "words": b'{"data": [{"index": 0, "embedding": ["a"]}], "embeddings": [["a"]]}',
}


@pytest.mark.parametrize("body", WRONG_EMBEDDINGS.values(), ids=WRONG_EMBEDDINGS)
async def test_embeddings_that_do_not_fit_are_a_backend_error(body: bytes) -> None:
    """As many vectors as inputs, or none at all."""
    for backend in (openai_over(body), ollama_over([body])):
        with pytest.raises(BackendError):
            await backend.embed([EMBEDDING])
        await backend.aclose()


async def test_closing_early_leaves_the_server() -> None:
    """A client who leaves frees it."""
    server = Said([sse([delta(content="a"), delta(content="b"), *END], "\n", comments=False)])
    backend = OpenAICompatible("there", server, "m", dialect.OPENAI, Identity("e", "1", "w"))
    async with aclosing(backend.complete(QUESTION)) as arriving:
        assert (await anext(arriving)).content == "a"
    assert server.left


async def test_alternatives_are_trimmed_to_what_was_asked() -> None:
    """llama.cpp gives at least one; vLLM's token ids and ranks are its own business."""
    entry = {"token": "a", "logprob": -1.0, "bytes": [97], "id": 5, "rank": 1}
    content = [{**entry, "top_logprobs": [entry, {**entry, "token": "b"}]}]
    event = {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": content}}]}
    for most in (0, 1, 2, 5):
        params = {"n": 1, "logprobs": True, "top_logprobs": most}
        found = await steps(openai_over(sse([event, *END], "\n", comments=False)), Request("chat", "m", {}, params, {}))
        assert found[0].logprobs is not None
        (shown,) = found[0].logprobs["content"]
        assert [other["token"] for other in shown["top_logprobs"]] == ["a", "b"][:most]
        assert set(shown) == {"token", "logprob", "bytes", "top_logprobs"}


async def test_reasoning_refusals_and_tool_calls_come_through() -> None:
    """Under either of their names."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    events = [delta(reasoning="a"), delta(reasoning_content="b"), delta(refusal="c"), delta(tool_calls=[call]), *END]
    found = await steps(openai_over(sse(events, "\n", comments=False)))
    assert [step.reasoning for step in found[:2]] == ["a", "b"]
    assert found[2].refusal == "c"
    assert found[3].tool_calls == (call,)


SAID = {"n": 1, "temperature": 1}


@pytest.mark.parametrize("accent", [dialect.OPENAI, dialect.VLLM, dialect.LLAMACPP], ids=lambda accent: accent.engine)
def test_what_a_client_may_not_set_is_held_back(accent: dialect.Dialect) -> None:
    """Slots, salts, ids and priorities are for the gateway to choose; everything else unknown travels on."""
    extra = dict.fromkeys(dialect.HELD_BACK, 1) | {"new_sampler": 2, "model": "other", "stream": False}
    body = dialect.wire_body(Request("chat", "alias", {"messages": []}, SAID, extra), "theirs", accent)
    assert not dialect.HELD_BACK & (body.keys() - {"return_token_ids"})
    assert (body["model"], body["stream"], body["new_sampler"]) == ("theirs", True, 2)
    assert body["stream_options"] == {"include_usage": True}


def test_the_part_of_the_engines_cache_is_the_gateways_to_name() -> None:
    """Whatever the client says; and nowhere where it is no word of the engine's."""
    asked = Request("chat", "m", {"messages": []}, SAID, {"cache_salt": "theirs"}, partition="ours")
    bodies = [dialect.wire_body(asked, "m", accent) for accent in (dialect.VLLM, dialect.LLAMACPP, dialect.OPENAI)]
    assert [body.get("cache_salt") for body in bodies] == ["ours", "ours", None]
    alone = dialect.wire_body(msgspec.structs.replace(asked, cold=True), "m", dialect.VLLM)
    assert alone["cache_salt"] not in {"ours", "theirs"}, "to be computed anew"


@pytest.mark.parametrize("seed", [0, 1, -1, 2**32 - 1, 2**63 - 1, -(2**63)])
def test_a_seed_fits_its_engine(seed: int) -> None:
    """Never a number that the engine takes for "random"."""
    body = dialect.wire_body(Request("chat", "m", {}, {"seed": seed}, {}), "m", dialect.LLAMACPP)
    assert 0 <= body["seed"] < 2**32 - 1
    assert 0 <= dialect.wire_body(Request("chat", "m", {}, {"seed": seed}, {}), "m", dialect.VLLM)["seed"] < 2**63


def test_samplers_are_said_in_the_engines_words() -> None:
    """OpenAI's defaults are said out loud; a client's own values win, under either name."""
    plain = Request("chat", "m", {}, SAID, {})
    assert dialect.wire_body(plain, "m", dialect.VLLM)["repetition_penalty"] == 1
    asked = Request("chat", "m", {}, SAID, {"repeat_penalty": 1.5, "top_k": 7})
    assert dialect.wire_body(asked, "m", dialect.VLLM)["repetition_penalty"] == 1.5
    assert "repeat_penalty" not in dialect.wire_body(asked, "m", dialect.VLLM)
    assert dialect.wire_body(asked, "m", dialect.LLAMACPP)["repeat_penalty"] == 1.5
    assert dialect.wire_body(asked, "m", dialect.LLAMACPP)["top_k"] == 7


async def test_completions_have_their_own_form_of_probabilities() -> None:
    """llama.cpp sends those of a chat; vLLM's are right already."""
    entry = {"token": "a", "logprob": -1.0, "bytes": [97], "id": 5}
    chatty = {"content": [{**entry, "top_logprobs": [entry, {**entry, "token": "b", "logprob": -2.0}]}]}
    plain = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}], "text_offset": [0]}
    for sent, shown in (
        (chatty, plain),
        (plain, plain),
    ):
        events = [{"choices": [{"text": "a", "logprobs": sent, "finish_reason": "stop"}]}, "[DONE]"]
        request = Request("completion", "m", {"prompt": "x"}, {"logprobs": 1}, {})
        found = await steps(openai_over(sse(events, "\n", comments=False)), request)
        assert found[0].logprobs == shown


async def test_tokens_of_a_completion_have_their_places_in_its_text() -> None:
    """Of each choice for itself, in characters; the pieces of one character are all where it begins."""

    def said(index: int, text: str, *tokens: str) -> dict[str, Any]:
        content = [{"token": token, "logprob": -1.0, "bytes": [], "top_logprobs": []} for token in tokens]
        return {"choices": [{"index": index, "text": text, "logprobs": {"content": content}}]}

    events = [
        said(0, "é a", "é", " a"),
        said(1, "bc", "bc"),
        said(0, "", "\ufffd"),
        said(0, "😀", "😀"),
        said(0, "!", "!"),
    ]
    ends = [{"choices": [{"index": index, "text": "", "finish_reason": "stop"}]} for index in (0, 1)]
    request = Request("completion", "m", {"prompt": "x"}, {"logprobs": 0, "n": 2}, {})
    found = await steps(openai_over(sse([*events, *ends, "[DONE]"], "\n", comments=False)), request)
    assert [step.logprobs["text_offset"] for step in found if step.logprobs] == [[0, 1], [0], [3], [3], [4]]


async def test_an_event_of_null_is_nothing() -> None:
    """llama.cpp begins so when there are several prompts."""
    found = await steps(openai_over(sse(["null", delta(content="a"), *END], "\n", comments=False)))
    assert [step.content for step in found if step.content] == ["a"]


@pytest.mark.parametrize(("field", "value"), [("best_of", 3), ("echo", True), ("suffix", "x")])
async def test_what_an_engine_would_ignore_is_refused_before_it_is_asked(field: str, value: Any) -> None:
    """With the name of the field."""
    prompt, params = {"prompt": "Hi"}, {"n": 1}
    (prompt if field == "suffix" else params)[field] = value
    with pytest.raises(BackendRefused, match=f"cannot do '{field}'") as caught:
        await steps(openai_over(b"", accent=dialect.LLAMACPP), Request("completion", "m", prompt, params, {}))
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, field, "unsupported_parameter")


async def test_token_ids_of_an_answer_are_whole() -> None:
    """vLLM's first event has only the prompt's; it must not make the answer's look partial."""
    first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "prompt_token_ids": [1, 2]}
    second = {"choices": [{"index": 0, "delta": {"content": "a"}, "token_ids": [3], "finish_reason": "stop"}]}
    found = await steps(openai_over(sse([first, second, "[DONE]"], "\n", comments=False), accent=dialect.VLLM))
    assert [step.token_ids for step in found[:-1]] == [(), (3,)]
    assert found[0].prompt_token_ids == (1, 2)
