"""The oracle: a server with OpenAI's API, in a process of its own, whose every answer is a hash of what it was asked.

Its answers depend on the body it gets, the model and the weights it says it has, and on nothing else; `cached_tokens`
alone numbers its calls, so that the origin of every answer can be told.
"""

import asyncio
import itertools
import socket
import sys
from collections.abc import AsyncGenerator
from typing import Any, Final, Literal

import msgspec
import uvicorn

from gateway.bench.differential import answers, meaning
from gateway.bench.differential.answers import Step, Wants

Fault = Literal["429", "500", "503", "cut", "silent", "garbage", "error", "abort"]
PATHS: Final = {"/v1/chat/completions": meaning.CHAT, "/v1/completions": meaning.COMPLETION}
PAUSE_S: Final = 0.004


class Orders(msgspec.Struct, frozen=True):
    """What the generator wants: the weights of every model, and faults by digest, each for one call."""

    weights: dict[str, str] = {}
    faults: dict[str, list[Fault]] = {}


class Cut(Exception):
    """The connection is to break here."""


class Oracle:
    """The ASGI application."""

    def __init__(self) -> None:
        self._orders = Orders()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        body, path = await _body(receive), scope["path"]
        if path == "/orders":
            self._orders = msgspec.json.decode(body, type=Orders)
            await _whole(send, 200, {})
        elif path in PATHS:
            await self._complete(PATHS[path], msgspec.json.decode(body), send)
        elif path == "/v1/embeddings":
            await _whole(send, 200, self._embedded(msgspec.json.decode(body)))
        elif path == "/version":
            await _whole(send, 200, {"version": "1"})
        else:
            listed = [{"id": name, "root": weights} for name, weights in self._orders.weights.items()]
            await _whole(send, 200, {"object": "list", "data": listed})

    def _embedded(self, asked: dict[str, Any]) -> dict[str, Any]:
        model = asked["model"]
        digests = [
            meaning.digest(meaning.EMBEDDING, model, self._orders.weights[model], {**asked, "input": item})
            for item in asked["input"]
        ]
        data = [{"index": i, "embedding": answers.vector(digest, asked)} for i, digest in enumerate(digests)]
        return {"data": data, "usage": {"prompt_tokens": 3 * len(data)}}

    async def _complete(self, kind: str, asked: dict[str, Any], send: Any) -> None:
        model = asked["model"]
        if not asked.get("stream"):  # the gateway streams every question; this is how it asks who answers
            text = {"text": "", "message": {"role": "assistant", "content": ""}}
            choice = {"index": 0, "finish_reason": "length", **text}
            await _whole(send, 200, {"choices": [choice], "system_fingerprint": self._orders.weights[model]})
            return
        digest = meaning.digest(kind, model, self._orders.weights[model], asked)
        waiting = self._orders.faults.get(digest.hex())
        fault = waiting.pop(0) if waiting else None
        if fault in ("429", "500", "503"):
            await _whole(send, int(fault), {"error": {"message": "The oracle was told to refuse."}})
            return
        said = answers.answer(digest, Wants.of(kind, asked))
        usage = {
            "prompt_tokens": said.prompt_tokens,
            "completion_tokens": said.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": next(self._numbers)},
        }
        head = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        async for event in _faulty(_events(kind, said.steps, usage), len(said.steps), fault):
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if digest[0] % 8 == 0:  # these take their time, so that others can join them
                await asyncio.sleep(PAUSE_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _events(kind: str, steps: tuple[Step, ...], usage: dict[str, Any]) -> AsyncGenerator[bytes]:
    if kind == meaning.CHAT:
        yield _sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    for step in steps:
        yield _sse({"choices": [_chat(step) if kind == meaning.CHAT else _completion(step)]})
    yield _sse({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"


async def _faulty(events: AsyncGenerator[bytes], steps: int, fault: Fault | None) -> AsyncGenerator[bytes]:
    """`events`, up to the middle when there is to be a fault."""
    count = 0
    async for event in events:
        yield event
        count += 1
        if fault is None or count <= steps // 2:
            continue
        if fault == "cut":
            raise Cut
        if fault != "silent":
            yield _FAULTY[fault]
        return


_FAULTY: Final = {
    "garbage": b"data: {this is no JSON\n\n",
    "error": b'data: {"error":{"message":"The oracle was told to fail."}}\n\n',
    "abort": b'data: {"choices":[{"index":0,"delta":{},"text":"","finish_reason":"abort"}]}\n\ndata: [DONE]\n\n',
}


def _chat(step: Step) -> dict[str, Any]:
    delta = {
        "content": step.content,
        "reasoning_content": step.reasoning,
        "refusal": step.refusal,
        "tool_calls": list(step.tool_calls),
    }
    choice = {"index": step.index, "delta": {name: value for name, value in delta.items() if value}}
    return choice | {"logprobs": step.logprobs, "finish_reason": step.finish_reason}


def _completion(step: Step) -> dict[str, Any]:
    choice = {"index": step.index, "text": step.content}
    return choice | {"logprobs": step.logprobs, "finish_reason": step.finish_reason}


def _sse(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


async def _whole(send: Any, status: int, value: object) -> None:
    content = msgspec.json.encode(value)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def main() -> None:
    """Serve on the inherited socket that is named first."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    settings = uvicorn.Config(
        Oracle(),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="critical",  # it breaks connections on purpose
        server_header=False,
    )
    uvicorn.Server(settings).run(sockets=[listening])


if __name__ == "__main__":
    main()
