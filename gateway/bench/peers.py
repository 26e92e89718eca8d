"""The servers askonce is measured against, each its own process: one returns given bytes, one answers at once, one
step by step.
"""

import asyncio
import socket
import sys
from typing import Any

import msgspec
import uvicorn

STEPS = 100
MODEL = "instant"
"""What the answering server calls its model."""
STEADY_STEP_S = 0.02
"""A model that says fifty tokens a second."""


def text(steps: int = STEPS) -> list[str]:
    """An answer's pieces: as long as a model's tokens usually are."""
    words = ("Ask", " once", ",", " keep", " the", " answer", ".", " Next")
    return [words[i % len(words)] for i in range(steps)]


class Bare:
    """Any request -> the same bytes: the least an ASGI application can do."""

    def __init__(self, whole: bytes, stream: bytes) -> None:
        self._replies = {False: (b"application/json", whole), True: (b"text/event-stream; charset=utf-8", stream)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        body = await _body(receive)
        kind, content = self._replies[b'"stream":true' in body]
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Instant:
    """OpenAI's chat completions, answered at once or step by step: what a gateway adds to this is its own doing."""

    def __init__(self, steps: int = STEPS, step_s: float = 0.0) -> None:
        self._step_s = step_s
        pieces = text(steps)
        frame = {"id": "chatcmpl-0", "created": 1, "model": MODEL}
        usage = {"prompt_tokens": 40, "completion_tokens": len(pieces), "total_tokens": 40 + len(pieces)}
        message = {"role": "assistant", "content": "".join(pieces)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        whole = {**frame, "object": "chat.completion", "choices": [choice], "usage": usage}
        self._whole = msgspec.json.encode(whole)
        chunk = {**frame, "object": "chat.completion.chunk"}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": p} for p in pieces), {}]
        last = len(deltas) - 1
        self._events = [
            _sse({**chunk, "choices": [{"index": 0, "delta": d, "finish_reason": "stop" if i == last else None}]})
            for i, d in enumerate(deltas)
        ]
        self._usage = _sse({**chunk, "choices": [], "usage": usage})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        body = await _body(receive)
        if b'"stream":true' in body:
            await self._stream(send, with_usage=b'"include_usage":true' in body)
        else:
            await _whole(send, self._whole if scope["path"] == "/v1/chat/completions" else _MODELS)

    async def _stream(self, send: Any, *, with_usage: bool) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # One write a step, as engines do.
        for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if self._step_s and event is not self._events[0]:  # which only says who speaks
                await asyncio.sleep(self._step_s)
        end = (self._usage if with_usage else b"") + b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": end, "more_body": False})


_MODELS = msgspec.json.encode({"object": "list", "data": [{"id": MODEL, "object": "model", "root": MODEL}]})


async def _whole(send: Any, content: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _sse(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def main() -> None:
    """Serve on the inherited socket that is named first. Stdin has one line: `instant`, `steady`, or what to return."""
    said = sys.stdin.readline().strip()
    steps_s = {"instant": 0.0, "steady": STEADY_STEP_S}
    if said in steps_s:
        application: Any = Instant(step_s=steps_s[said])
    else:
        application = Bare(*msgspec.json.decode(said, type=tuple[bytes, bytes]))
    listening = socket.socket(fileno=int(sys.argv[1]))
    settings = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    uvicorn.Server(settings).run(sockets=[listening])


if __name__ == "__main__":
    main()
