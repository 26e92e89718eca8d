"""A model server that knows the answers: of every part of documents with gold it says the records, or a seeded fault.

It is a real HTTP server in a thread, and speaks as vLLM, as llama.cpp and as Ollama at once: whoever asks chooses by
the path. What it is asked about is the last question of the first message, in LangExtract's form; a part that is in
several places is the first of them. What it was asked is kept.
"""

import asyncio
import contextlib
import json
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import msgspec
import uvicorn

from gateway.config import BackendConfig
from tests.engines import asgi
from tests.engines import ollama_wire as wire
from tests.extraction import expected, faults
from tests.extraction.faults import Answer, Item, Plan
from tests.extraction.gold import Note

MODEL: Final = "oracle"
KINDS: Final = ("vllm", "llamacpp", "ollama")
RECIPE: Final[dict[str, Any]] = {
    "name": "gold-notes",
    "description": "Extract every medication and every condition of the note, in the order in which they stand there.",
    "classes": {
        "medication": {
            "dosage": {"type": "string"},
            "frequency": {"type": "string"},
            "status": {"enum": ["taken", "stopped"]},
        },
        "condition": {"status": {"enum": ["present"]}, "since": {"type": "string"}},
    },
    "examples": [
        {
            "text": "Takes Warfarin 5 mg once daily. History of gout.",
            "records": [
                {
                    "class": "medication",
                    "text": "Warfarin",
                    "attributes": {"dosage": "5 mg", "frequency": "once daily", "status": "taken"},
                },
                {"class": "condition", "text": "gout", "attributes": {"status": "present", "since": ""}},
            ],
        }
    ],
}
"""What the gold has, and nothing more: right answers fit it."""

_QUESTION: Final = re.compile(r"^Q: ", re.MULTILINE)
_ANSWER: Final = re.compile(r"\nA: ?\Z")
_PIECE: Final = re.compile(r".{1,24}", re.DOTALL)
_START_S: Final = 20.0

Body = dict[str, Any]


class Asked(msgspec.Struct, frozen=True):
    """One question."""

    path: str
    body: Body
    prompt: str
    """The first message."""
    part: str | None
    """What of the documents it is about; None where it is in none of them."""
    attempt: int
    """How often the model has answered before: in this conversation, or with less room for what it says."""
    seed: int | None


class Oracle:
    """The server. What is public may be changed while it serves."""

    def __init__(self, notes: Sequence[Note], plan: Plan | None = None, *, delay_s: float = 0.0) -> None:
        self.notes = list(notes)
        self.plan = plan or Plan()
        self.delay_s = delay_s
        """How long it thinks."""
        self.refusals: dict[int, int] = {}
        """The HTTP status of the n-th question, counted from 1."""
        self.asked: list[Asked] = []
        """Everything that it was asked."""
        self.calls: Counter[str] = Counter()
        """How often, by prompt."""
        self.left = 0
        """How many did not wait for their answer."""
        self.url = ""
        self.weights = secrets.token_hex(32)
        """The digest of its weights: no other oracle has them, so that no answer is taken for another's."""
        self._tries: Counter[tuple[str, int | None]] = Counter()
        self._limits: dict[tuple[str | None, int | None], int] = {}
        """How many tokens the first answer to a question could have."""

    def forget(self) -> None:
        """Be as new."""
        self.plan, self.delay_s = Plan(), 0.0
        for kept in (self.refusals, self.asked, self.calls, self._tries, self._limits):
            kept.clear()

    def backend(self, kind: Literal["vllm", "llamacpp", "ollama"], **settings: Any) -> BackendConfig:
        """It, as a backend of this kind."""
        return BackendConfig(kind=kind, model=MODEL, url=self.url, **settings)

    def bodies(self) -> list[Body]:
        """What it was sent."""
        return [asked.body for asked in self.asked]

    def parts(self) -> list[str]:
        """The parts that it was asked about, in the order of the questions."""
        return [asked.part for asked in self.asked if asked.part is not None]

    @contextmanager
    def serving(self) -> Generator["Oracle"]:
        """Serve until the block ends."""
        config = uvicorn.Config(
            self, lifespan="off", log_level="warning", access_log=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
            thread.start()
            try:
                deadline = time.monotonic() + _START_S
                while not server.started:
                    assert thread.is_alive(), "the oracle ended"
                    assert time.monotonic() < deadline, "the oracle did not start"
                    time.sleep(0.005)
                yield self
            finally:
                server.should_exit = True
                thread.join(_START_S)
                assert not thread.is_alive(), "the oracle did not stop"

    async def __call__(self, scope: dict[str, Any], receive: asgi.Receive, send: asgi.Send) -> None:
        """One request; nobody works on it once the client has left."""
        content = await asgi.read_body(receive)
        work = asyncio.create_task(self._replied(scope["path"], content, send))
        gone = asyncio.create_task(asgi.wait_until_gone(receive))
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not work.done():
            self.left += 1
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _replied(self, path: str, content: bytes, send: asgi.Send) -> None:
        if path in ("/v1/chat/completions", "/api/chat"):
            return await self._answered(path, content, send)
        if path == "/metrics":
            return await asgi.send_whole(send, 200, asgi.TEXT, b"process_start_time_seconds 1.0\n")
        told = self._told(path)
        if told is None:
            return await _refused(send, 404, "There is no such page.", path)
        return await asgi.send_json(send, 200, told)

    async def _answered(self, path: str, content: bytes, send: asgi.Send) -> None:
        """A chat."""
        body: Body = json.loads(content)
        asked = self._note(path, body)
        answer = self._answer(asked)
        await asyncio.sleep(self.delay_s)
        if answer.is_silent:
            await asyncio.Event().wait()
        if status := answer.refuse_status:
            return await _refused(send, status, f"The oracle refuses this with {status}.", path)
        if path == "/api/chat":
            return await _as_ollama(body, answer, send)
        return await _as_openai(body, answer, send)

    def _note(self, path: str, body: Body) -> Asked:
        """Write down what is asked."""
        messages: list[Body] = body["messages"]
        prompt = next(_text(message) for message in messages if message["role"] == "user")
        part, options = self._part(prompt), body.get("options", {}) if path == "/api/chat" else body
        seed = options.get("seed")
        limit = options.get("num_predict") or options.get("max_tokens") or options.get("max_completion_tokens") or 0
        has_more = limit > self._limits.setdefault((part, seed), limit)
        attempt = sum(message["role"] == "assistant" for message in messages) + has_more
        asked = Asked(path, body, prompt, part, attempt, seed)
        self.asked.append(asked)
        self.calls[prompt] += 1
        return asked

    def _answer(self, asked: Asked) -> Answer:
        if status := self.refusals.get(len(self.asked)):
            return Answer(refuse_status=status)
        if asked.part is None:
            return Answer(refuse_status=400)
        items = self.items(asked.part)
        planned = self.plan.of(asked.part, items, asked.seed)
        before = self._tries[asked.part, asked.seed]
        self._tries[asked.part, asked.seed] += 1
        right = faults.framed(items)
        if planned is None:
            return Answer(right)
        is_later = asked.attempt if planned.fault.is_said else before
        return Answer(right) if is_later and not planned.always else planned.fault.spoilt(right)

    def _part(self, prompt: str) -> str | None:
        """What is asked about. A document may have questions of its own, so the longest that is in one is meant."""
        end = _ANSWER.search(prompt)
        if end is None:
            return None
        said = (prompt[begin.end() : end.start()] for begin in _QUESTION.finditer(prompt))
        return next((part for part in said if any(part in note.text for note in self.notes)), None)

    def items(self, part: str) -> list[Item]:
        """The right answer: what stands within the first place of `part`."""
        note = next(note for note in self.notes if part in note.text)
        start = note.text.index(part)
        return expected.items(expected.inside(note, start, start + len(part)))

    def _told(self, path: str) -> Body | None:
        """What it says of itself."""
        details = {"family": "oracle", "parameter_size": "1B", "quantization_level": "F16"}
        meta = {"n_vocab": 1024, "n_ctx_train": 65536, "n_embd": 64, "n_params": 10**9, "size": 1000}
        pages: dict[str, Body] = {
            "/health": {"status": "ok"},
            "/version": {"version": "0.32.0"},
            "/v1/models": {
                "object": "list",
                "data": [{"id": MODEL, "object": "model", "root": self.weights, "max_model_len": 65536, "meta": meta}],
            },
            "/props": {
                "model_path": f"/srv/{self.weights}.gguf",
                "chat_template": "{{ messages }}",
                "media_marker": f"<__media_{self.weights[:8]}__>",
                "build_info": "b1-oracle",
                "default_generation_settings": {"n_ctx": 65536, "params": {"lora": []}},
            },
            "/v1/completions": {"choices": [], "system_fingerprint": self.weights},
            "/api/version": {"version": "0.33.0"},
            "/api/tags": {"models": [{"name": MODEL, "model": MODEL, "size": 1000, "digest": self.weights}]},
            "/api/show": {"capabilities": ["completion"], "details": details, "model_info": {}, "template": ""},
        }
        return pages.get(path)


def _text(message: Body) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def _refused(send: asgi.Send, status: int, message: str, path: str) -> None:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = message if path.startswith("/api/") else {"message": message, "type": kind, "code": status}
    await asgi.send_json(send, status, {"error": error})


async def _as_openai(body: Body, answer: Answer, send: asgi.Send) -> None:
    shared = {"id": f"chatcmpl-{secrets.token_hex(8)}", "created": int(time.time()), "model": body["model"]}
    pieces = _PIECE.findall(answer.text)
    count = len(json.dumps(body["messages"])) // 4
    usage = {"prompt_tokens": count, "completion_tokens": len(pieces), "total_tokens": count + len(pieces)}
    if not body.get("stream"):
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        await asgi.send_json(send, 200, shared | {"object": "chat.completion", "choices": [choice], "usage": usage})
        return
    await asgi.send_start(send, 200, "text/event-stream; charset=utf-8")
    shared["object"] = "chat.completion.chunk"
    for delta, reason, tokens in _deltas(pieces, answer.finish_reason):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        choice |= {"token_ids": tokens} if body.get("return_token_ids") else {}
        await _send_event(send, asgi.encoded(shared | {"choices": [choice]}))
    if (body.get("stream_options") or {}).get("include_usage"):
        await _send_event(send, asgi.encoded(shared | {"choices": [], "usage": usage}))
    await _send_event(send, b"[DONE]")
    await send({"type": "http.response.body"})


def _deltas(pieces: Sequence[str], finish_reason: str) -> Iterator[tuple[Body, str | None, list[int] | None]]:
    """The events of a stream: who speaks, what is said, how it ended."""
    yield {"role": "assistant", "content": ""}, None, None
    for number, piece in enumerate(pieces):
        yield {"content": piece}, None, [number]
    yield {}, finish_reason, []


async def _send_event(send: asgi.Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": True})


async def _as_ollama(body: Body, answer: Answer, send: asgi.Send) -> None:
    request = wire.decode(asgi.encoded(body), wire.ChatRequest)
    lines = [line async for line in _lines(request, answer)]
    if request.stream is False:
        return await asgi.send_json(send, 200, wire.folded(lines))

    async def said() -> AsyncIterator[Body]:
        for line in lines:
            yield line

    return await asgi.send_lines(send, said())


async def _lines(request: wire.ChatRequest, answer: Answer) -> AsyncIterator[Body]:
    pieces = _PIECE.findall(answer.text)
    for piece in pieces:
        yield wire.event(request, piece)
    took = {"prompt_ms": 1.0, "predicted_ms": 1.0}
    counts = {
        "tokens_evaluated": sum(len(one.content) for one in request.messages) // 4,
        "tokens_predicted": len(pieces),
    }
    stop = "limit" if answer.finish_reason == "length" else "eos"
    yield wire.event(request, "") | wire.ending({"timings": took, "stop_type": stop, **counts}, 2_000_000, 0)
