"""One suite for every backend against servers that break: a named error in time, and nothing is ever kept."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from gateway import building
from gateway.backends.server import Server
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.config import BackendConfig, ReplicaConfig
from gateway.errors import BackendError, BackendRefused, BackendTimeout, BackendUnavailable, BackendUnreachable
from gateway.flights.shared import SharedFlights
from gateway.pipeline import Pipeline
from gateway.routing.backend import Backend
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Chunk, Entry, Query, Usage
from storage.tiers import Looked
from tests.engines.child import free_port
from tests.suites.faulty import Peer, faulty

KINDS = ("openai", "vllm", "llamacpp", "ollama")
SILENCE_S = 0.4
PATIENCE_S = 30.0
"""For servers that answer."""
Fault = Callable[[Peer, str], Awaitable[None]]
QUESTION = Request(
    kind="chat",
    model="m",
    prompt={"messages": [{"role": "user", "content": "Hi"}]},
    params={"n": 1},
    extra={},
    stream=True,
)


class Kept:
    """Tiers that write down what they are given."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    epoch = 0

    def in_memory(self, key: bytes, max_age_s: float | None = None) -> Entry | None:
        """Nothing that was not there a moment ago."""
        del key, max_age_s
        return None

    def closed(self, query: Query) -> int:
        """Nothing was ever taken back."""
        del query
        return 0

    async def get(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """Nothing is there."""
        del key, max_age_s
        return Looked()

    def put(self, entry: Entry) -> bool:
        """Write it down."""
        self.entries.append(entry)
        return True


def build(kind: str, url: str, connect_timeout_s: float = PATIENCE_S) -> Backend:
    """A backend as the composition root makes it, whose identity nobody has to be asked for."""
    config: dict[str, Any] = {"kind": kind, "model": "m", "url": url, "model_version": "w", "name": "m"}
    return building.BUILD[kind](BackendConfig(**config, connect_timeout_s=connect_timeout_s))


async def ask(
    backend: Backend,
    request: Request = QUESTION,
    *,
    silence_s: float = PATIENCE_S,
    settings: ReplicaConfig | None = None,
) -> tuple[list[Chunk], BackendError | None, list[Entry]]:
    """Ask through the pipeline: what was heard, how it failed, and what was kept."""
    settings = settings or ReplicaConfig(first_token_timeout_s=silence_s, between_tokens_timeout_s=silence_s)
    kept, heard, fault = Kept(), list[Chunk](), None
    pipeline = Pipeline(kept, Router.of({"m": backend}, settings), SharedFlights())
    try:
        answer = await pipeline.answer(request, Caller(tenant="s"), Steering(), "id")
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


async def gives_up_in_a_call(peer: Peer, kind: str) -> None:
    """It says so in its own word for the end of an answer."""
    await peer.head()
    call = {"function": {"name": "f", "arguments": {} if kind == "ollama" else "{"}}
    said = piece(kind, "a").replace('"content": "a"', f'"content": "", "tool_calls": {json.dumps([call])}')
    await peer.say(said + ending(kind).replace('"stop"', '"abort"'))


BREAKS: tuple[Fault, ...] = (
    gives_up_in_a_call,
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


@pytest.mark.parametrize("chunked", [False, True], ids=["till it closes", "in chunks"])
async def test_a_server_that_dies_at_any_point_leaves_a_whole_answer_or_none(kind: str, *, chunked: bool) -> None:
    """Also between the last step and what it cost: a connection that its process takes along may look complete."""
    said = [piece(kind, "a"), piece(kind, "b"), *ending(kind).splitlines(keepends=True)]
    for count in range(len(said) + 1):

        async def dies(peer: Peer, kind: str, count: int = count) -> None:
            del kind
            await peer.head(chunked=chunked)
            for text in said[:count]:
                await (peer.chunk(text) if chunked else peer.say(text))

        async with serving(dies, kind) as server:
            heard, fault, kept = await ask(build(kind, server.url))
        assert "ab".startswith("".join(step.content for step in heard))
        assert (fault is None) == bool(kept), count
        assert [(entry.text(), entry.usage) for entry in kept] == [("ab", Usage(1, 2))] * len(kept)
        assert not kept or count >= len(said) - (kind != "ollama") * 3


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
    assert type(fault) is BackendUnreachable
    assert str(fault) == "Backend 'm' cannot be reached. Is it running?"
    assert kept == []
    assert time.monotonic() - started < PATIENCE_S / 2


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
        heard, fault, kept = await ask(build(kind, server.url), silence_s=SILENCE_S)
    assert type(fault) is BackendTimeout
    assert fault.code == ("between_tokens_timeout" if said == "one step" else "first_token_timeout")
    assert [step.content for step in heard] == (["a"] if said == "one step" else [])
    assert kept == []
    assert SILENCE_S <= time.monotonic() - started < PATIENCE_S


async def test_a_slow_server_is_not_a_hanging_one(kind: str) -> None:
    """The limit is on silence, not on the whole answer."""

    async def slow(peer: Peer, kind: str) -> None:
        await peer.head()
        for _ in range(6):
            await asyncio.sleep(SILENCE_S * 0.75)
            await peer.say(piece(kind, "a"))
        await peer.say(ending(kind))

    async with serving(slow, kind) as server:
        heard, fault, kept = await ask(build(kind, server.url), silence_s=3 * SILENCE_S)
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
        async with asyncio.timeout(PATIENCE_S / 2):
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
        async with asyncio.timeout(PATIENCE_S / 2):
            while not server.asked:  # noqa: ASYNC110 -- the server tells nobody
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(PATIENCE_S / 2):
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
    assert fault.param == "top_k"
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


async def test_a_request_that_cannot_be_made_is_unavailable() -> None:
    """A key or an address that gets past the settings is a sentence too, not a mistake of ours."""
    server = Server("m", "http://user:pw@127.0.0.1:9", api_key="k", connect_timeout_s=1)
    with pytest.raises(BackendUnavailable, match="address and key"):
        await server.read("/v1/models")
    await server.aclose()


async def test_identities_need_a_server_that_answers(kind: str) -> None:
    """As long as nobody knows who answers, nothing can be named, and so nothing asked."""
    config = BackendConfig(kind=kind, model="m", url=f"http://127.0.0.1:{free_port()}")  # type: ignore[arg-type]
    backend = building.BUILD[kind](config)
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
        backend = building.BUILD[kind](config)
        with pytest.raises(BackendError):
            await backend.identity()
        await backend.aclose()
