"""A double of Ollama: its documented native API, answered by the real llama.cpp.

Like Ollama itself it renders the prompt, asks llama.cpp's native endpoint and translates the stream. It cannot call
tools, think, see, pull or create models. Run as a program:  python -m tests.engines.ollama_double LLAMA_URL NAME PORT
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from tests.engines import asgi
from tests.engines import ollama_wire as wire
from tests.engines.child import free_port, running
from tests.engines.ollama_engine import LlamaCpp, Model

VERSION = "0.33.0"
START_WITHIN_S = 60.0

Lines = AsyncIterator[dict[str, Any]]
Reply = dict[str, Any] | str | Lines
Handler = Callable[[bytes], Awaitable[Reply]]


@contextmanager
def serving(llamacpp_url: str, name: str, scratch: Path) -> Generator[str]:
    """Serve the double, as a process of its own, over a llama.cpp server until the block ends."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = (sys.executable, "-m", "tests.engines.ollama_double", llamacpp_url, name, str(port))
    with running(command, ready_url=url, log=scratch / "ollama.log", deadline_s=START_WITHIN_S):
        yield url


class OllamaDouble:
    """The ASGI application."""

    def __init__(self, llama: LlamaCpp, model: Model) -> None:
        """List the routes."""
        self.llama = llama
        self.model = model
        self.routes: dict[tuple[str, str], Handler] = {
            ("GET", "/"): self.alive,
            ("GET", "/api/version"): self.version,
            ("GET", "/api/tags"): self.tags,
            ("GET", "/api/ps"): self.loaded,
            ("POST", "/api/show"): self.show,
            ("POST", "/api/chat"): self.chat,
            ("POST", "/api/generate"): self.generate,
            ("POST", "/api/embed"): self.embed,
        }

    async def __call__(self, scope: dict[str, Any], receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request, and stop working on it when the client leaves."""
        body = await asgi.read_body(receive)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        work = asyncio.create_task(self.answer(method, scope["path"], body, send))
        gone = asyncio.create_task(asgi.wait_until_gone(receive))
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not work.done():
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def answer(self, method: str, path: str, body: bytes, send: asgi.Send) -> None:
        """Find the handler and send what it returns; a refusal becomes Ollama's error object."""
        handler = self.routes.get((method, path))
        if handler is None:
            known = any(path == other for _, other in self.routes)
            status, text = (405, "405 method not allowed") if known else (404, "404 page not found")
            return await asgi.send_whole(send, status, asgi.TEXT, text.encode())
        try:
            reply = await handler(body)
        except wire.OllamaError as refusal:
            return await asgi.send_json(send, refusal.status, {"error": refusal.message})
        if isinstance(reply, str):
            return await asgi.send_whole(send, 200, asgi.TEXT, reply.encode())
        if isinstance(reply, dict):
            return await asgi.send_json(send, 200, reply)
        return await asgi.send_lines(send, with_error(reply))

    async def alive(self, _body: bytes) -> Reply:
        """GET /."""
        return "Ollama is running"

    async def version(self, _body: bytes) -> Reply:
        """GET /api/version."""
        return {"version": VERSION}

    async def tags(self, _body: bytes) -> Reply:
        """GET /api/tags."""
        return {"models": [{**self.model.listed(), "modified_at": wire.now()}]}

    async def loaded(self, _body: bytes) -> Reply:
        """GET /api/ps."""
        until = {"expires_at": wire.now(wire.KEEP_ALIVE), "size_vram": 0}
        return {"models": [{**self.model.listed(), **until, "context_length": self.model.context_tokens}]}

    async def show(self, body: bytes) -> Reply:
        """POST /api/show."""
        request = wire.decode(body, wire.ShowRequest)
        self.model.expect(request.model or request.name)
        return self.model.shown()

    async def chat(self, body: bytes) -> Reply:
        """POST /api/chat."""
        return await self.complete(wire.decode(body, wire.ChatRequest))

    async def generate(self, body: bytes) -> Reply:
        """POST /api/generate."""
        return await self.complete(wire.decode(body, wire.GenerateRequest))

    async def embed(self, body: bytes) -> Reply:
        """POST /api/embed."""
        began = time.monotonic_ns()
        request = wire.decode(body, wire.EmbedRequest)
        self.model.expect(request.model)
        texts = [request.input] if isinstance(request.input, str) else request.input
        vectors, tokens = await self.vectors([text for text in texts or [] if text])
        if request.dimensions:
            vectors = [wire.unit(vector[: request.dimensions]) for vector in vectors]
        took = {"total_duration": time.monotonic_ns() - began, "load_duration": 0}
        return {"model": request.model, "embeddings": vectors, **took, "prompt_eval_count": tokens}

    async def vectors(self, texts: list[str]) -> tuple[list[list[float]], int]:
        """Embed the texts with llama.cpp; no text needs no question."""
        if not texts:
            return [], 0
        reply = await self.llama.ask("/v1/embeddings", {"input": texts})
        return [entry["embedding"] for entry in reply["data"]], reply["usage"]["prompt_tokens"]

    async def complete(self, request: wire.ChatRequest | wire.GenerateRequest) -> Reply:
        """Answer a chat or a generate request, as a stream unless it says otherwise."""
        began = time.monotonic_ns()
        self.model.expect(request.model)
        wire.check(request)
        if not wire.says_something(request):
            return wire.at_once(request)
        prompt = await self.prompt(request)
        chunks = self.llama.completion(wire.completion(prompt, request))
        first = await anext(chunks)  # an error before the first chunk still has a status of its own
        lines = self.lines(request, prompt, chained(first, chunks), began)
        return lines if request.stream is not False else wire.folded([line async for line in lines])

    async def lines(self, request: wire.Request, prompt: str, chunks: Lines, began: int) -> Lines:
        """Translate llama.cpp's chunks."""
        load_ns = time.monotonic_ns() - began
        said: list[str] = []
        async for chunk in chunks:
            said.append(chunk["content"])
            logprobs = wire.token_logprobs(chunk, request.top_logprobs)
            line = wire.event(request, chunk["content"], logprobs)
            if chunk["stop"]:
                line |= wire.ending(chunk, time.monotonic_ns() - began, load_ns)
                if isinstance(request, wire.GenerateRequest) and not request.raw:
                    line["context"] = await self.tokens(prompt + "".join(said))
            yield line

    async def prompt(self, request: wire.ChatRequest | wire.GenerateRequest) -> str:
        """Render the prompt; the oldest turns go when it is too long, unless the request forbids it."""
        if isinstance(request, wire.GenerateRequest) and request.raw:
            return request.prompt
        turns = wire.messages(request)
        prompt = await self.rendered(turns)
        while request.truncate is not False and len(turns) > 1 and await self.is_too_long(prompt):
            turns = without_oldest(turns)
            prompt = await self.rendered(turns)
        context = request.context if isinstance(request, wire.GenerateRequest) else None
        return await self.text(context) + prompt if context else prompt

    async def rendered(self, turns: list[wire.Message]) -> str:
        """Apply the model's chat template."""
        shown = [{"role": turn.role, "content": turn.content} for turn in turns]
        return (await self.llama.ask("/apply-template", {"messages": shown}))["prompt"]

    async def is_too_long(self, prompt: str) -> bool:
        """Tell whether a prompt leaves no room for an answer."""
        return len(await self.tokens(prompt)) >= self.model.context_tokens

    async def tokens(self, text: str) -> list[int]:
        """Return a text's token ids."""
        body = {"content": text, "add_special": True, "parse_special": True}
        return (await self.llama.ask("/tokenize", body))["tokens"]

    async def text(self, tokens: list[int]) -> str:
        """Return the text of token ids."""
        return (await self.llama.ask("/detokenize", {"tokens": tokens}))["content"]


def without_oldest(turns: list[wire.Message]) -> list[wire.Message]:
    """Drop the oldest exchange: up to the next user's turn, since templates want users to begin. The system stays."""
    first = next((i for i, turn in enumerate(turns) if turn.role != "system"), 0)
    after = next((i for i in range(first + 1, len(turns)) if turns[i].role == "user"), len(turns) - 1)
    return [*turns[:first], *turns[after:]]


async def chained(first: dict[str, Any], rest: Lines) -> Lines:
    """Yield the first, then the others."""
    yield first
    async for other in rest:
        yield other


async def with_error(lines: Lines) -> Lines:
    """End a stream that breaks on the way with Ollama's error object."""
    try:
        async for line in lines:
            yield line
    except wire.OllamaError as refusal:
        yield {"error": refusal.message}


async def serve(llamacpp_url: str, name: str, port: int) -> None:
    """Answer until a signal ends the process."""
    llama = LlamaCpp(llamacpp_url)
    application: Any = OllamaDouble(llama, await llama.model(name))
    config = uvicorn.Config(application, "127.0.0.1", port, lifespan="off", log_level="warning")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
