"""Ollama's native API through its own client: Request -> stream of Chunk."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Protocol, cast

import httpx
import msgspec
import ollama

from gateway.backends import abilities, blame, describing, parameters, probabilities, shapes, upstream
from gateway.backends.dialect import HELD_BACK
from gateway.backends.forms import Manners
from gateway.backends.interpreter import Interpreter
from gateway.backends.known import KnownIdentity
from gateway.canonical import Description, Identity, Request, Vector
from gateway.errors import (
    BackendError,
    BackendGone,
    BackendTimeout,
    BackendUnavailable,
    BackendUnreachable,
    InvalidRequest,
)
from storage.entry import Chunk, Usage

_NAMES = parameters.names("ollama")
_NO_OPTIONS = frozenset({"n", "seed", "logprobs", "top_logprobs", "dimensions"})
"""Parameters that are said in another place."""
_BESIDE = frozenset({"think", "keep_alive", "truncate", "shift"})
"""Fields that Ollama takes beside its options. All others travel as options, which Ollama checks itself."""
_WHOLE = {"truncate": False, "shift": False}
"""Said always: Ollama would cut what is too long at its beginning, without a word."""
_EFFORTS = {"none": False, "low": "low", "medium": "medium", "high": "high"}
_ASK_S = 10.0
_OBJECT = msgspec.json.Decoder(dict[str, Any])
SAID = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
"""Said for clients of OpenAI's API: Ollama's own defaults (40, 0.05, 1.1), or a model's, would change the distribution
that they asked for. Clients of Ollama's API ask for just those.
"""
_RESHAPED = frozenset({"role", "content", "tool_calls", "tool_call_id", "reasoning_content", "reasoning"})
"""Fields of a message that Ollama writes in another way."""


class _Tag(msgspec.Struct):
    model: str = ""
    name: str = ""
    digest: str = ""


class _Tags(msgspec.Struct):
    models: list[_Tag] = []


_TAGS = msgspec.json.Decoder(_Tags)


class Server(Protocol):
    """The same server, for what the client has no call for."""

    @property
    def here(self) -> bool:
        """Whether it is on this machine."""
        ...

    async def read(self, path: str, content: bytes | None = None) -> bytes:
        """Post JSON, or get; the whole body of the reply. Raises `BackendError`."""
        ...

    async def tie(self) -> None:
        """Hold on to the process that answers now."""
        ...

    def tied(self) -> bool:
        """Whether it is still the same since then."""
        ...

    def signs(self) -> int:
        """How often it may have become another one."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class Client(ollama.AsyncClient):
    """Ollama's client, for bodies that are ready.

    Its own methods would rebuild them from the fields they know, and read images from the disk where a path fits.
    """

    def __init__(self, url: str, *, api_key: str = "", **settings: Any) -> None:
        super().__init__(url, headers={"authorization": f"Bearer {api_key}"} if api_key else {}, **settings)
        if not api_key:  # It would send the key in OLLAMA_API_KEY to every server.
            self._client.headers.pop("authorization", None)

    def said(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Any]:
        """The lines of the answer to `body`."""
        return cast("AsyncGenerator[Any]", self._said(path, body))

    async def vectors(self, body: dict[str, Any]) -> ollama.EmbedResponse:
        """The embeddings for `body`."""
        content = msgspec.json.encode(body)
        return await self._request(ollama.EmbedResponse, "POST", "/api/embed", content=content)

    async def _said(self, path: str, body: dict[str, Any]) -> AsyncIterator[Any]:
        shape: Any = ollama.ChatResponse if path == "/api/chat" else ollama.GenerateResponse
        content = msgspec.json.encode(body)
        parts: Any = await self._request(shape, "POST", path, content=content, stream=True)
        async with aclosing(parts):
            async for part in parts:
                yield part


class Ollama:
    """One model of one Ollama server, which is asked who it is unless `identity` says so."""

    def __init__(
        self,
        name: str,
        client: Client,
        server: Server,
        model: str,
        identity: Identity | None = None,
        *,
        manners: Manners | None = None,
    ) -> None:
        self.name = name
        self._client = client
        self._server = server
        self._model = model
        manners = manners or Manners(engine="ollama", constrains="format")
        self._interpreter = Interpreter(name, manners, lambda: abilities.of_ollama(name, server, model))
        self._of_process = -1, ""
        self._identity = KnownIdentity(self._ask_identity, given=identity, signs=server.signs)

    @property
    def known(self) -> Identity | None:
        """Who answered when that was last asked; None while it is not known."""
        return self._identity.known

    def certain(self) -> bool:
        """Whether that can be relied on now."""
        return self._identity.certain()

    def doubted(self) -> bool:
        """Whether there was a sign that it may be another one by now."""
        return self._identity.doubted()

    async def identity(self) -> Identity:
        """The server's version and the model's manifest digest, which covers weights, template and parameters.

        Raises `BackendError` while they have never been learnt.
        """
        return await self._identity.get()

    async def renew(self) -> Identity:
        """The same, asked for now. Raises `BackendError`."""
        return await self._identity.renew()

    async def confirms(self, identity: Identity) -> bool:
        """Whether what was answered until now was answered by `identity`."""
        return await self._identity.confirms(identity)

    async def _ask_identity(self) -> Identity:
        self._interpreter.forget()  # another model may have come
        try:
            async with asyncio.timeout(_ASK_S):
                await self._server.tie()
                process = self._server.signs() if self._server.tied() else -1
                tags = upstream.decoded(self.name, await self._server.read("/api/tags"), _TAGS)
                if self._of_process[0] != process or process < 0:
                    self._of_process = process, await self._version()
        except TimeoutError as error:
            message = f"Backend '{self.name}' did not say in time what it serves."
            raise BackendTimeout(message) from error
        models = {model.model or model.name: model.digest for model in tags.models}
        digest = models.get(self._model) or models.get(f"{self._model}:latest")
        if not digest:
            known = ", ".join(sorted(models)) or "none"
            message = f"Ollama has no model '{self._model}'; it has: {known}. Pull it with 'ollama pull {self._model}'."
            raise BackendUnavailable(message)
        return Identity("ollama", self._of_process[1], digest)

    async def ping(self) -> None:
        """Raise `BackendError` unless the server answers now."""
        await self._version()

    async def described(self) -> Description:
        """What Ollama itself shows of the model. Raises `BackendError`."""
        return await describing.of_ollama(self.name, self._server, self._model)

    def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Ask; the answer's steps, the usage last. Raises `BackendError`, also midway.

        Ollama makes one choice a call, so more choices are more calls, with seeds that follow each other.
        """
        return self._interpreter.answer(request, self._said)

    async def _said(self, request: Request, fields: Mapping[str, Any]) -> AsyncGenerator[Chunk]:
        """What the server says to `request` with `fields` more in the body."""
        usage = Usage()
        for index in range(request.choices):
            async with aclosing(self._choice(request, index, fields)) as steps:
                async for step in steps:
                    usage += step.usage or Usage()
                    if step.usage is None:
                        yield step
        yield Chunk(usage=shapes.usage(self.name, usage.shared(request.choices)))

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """One vector for each request, in order; all must share their parameters. Raises `BackendError`."""
        inputs = [_text(request.prompt["input"]) for request in requests]
        first = requests[0]
        self._interpreter.expect(first)
        body: dict[str, Any] = {"truncate": False, **_beside(first), **first.params}
        options = first.extra.get("options") or {}
        if not isinstance(options, dict):
            message = "'options' must be an object."
            raise InvalidRequest(message, param="options", code="invalid_value")
        body["options"] = options | _unknown(first, "options")
        with blame.naming(first), _translated(self.name):
            reply = await self._client.vectors(body | {"model": self._model, "input": inputs})
        self._identity.doubt()
        if len(reply.embeddings) != len(requests):
            message = f"Backend '{self.name}' returned {len(reply.embeddings)} embeddings for {len(requests)} inputs."
            raise BackendError(message)
        counted = shapes.usage(self.name, Usage(reply.prompt_eval_count or 0))
        dimensions = first.params.get("dimensions")
        return upstream.vectors(self.name, list(reply.embeddings), counted.prompt_tokens, dimensions)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._identity.aclose()
        await self._client.close()
        await self._server.aclose()

    async def _version(self) -> str:
        said = upstream.decoded(self.name, await self._server.read("/api/version"), _OBJECT)
        return str(said.get("version", ""))

    async def _choice(self, request: Request, index: int, fields: Mapping[str, Any]) -> AsyncGenerator[Chunk]:
        begun = ended = False
        path, body = _asked(request, index, self._model)
        with _translated(self.name):
            async with aclosing(self._client.said(path, body | dict(fields))) as parts:
                async for part in parts:
                    if not begun:
                        # A model can be pulled anew at any time. It is this one that answers, if it still is now.
                        begun = True
                        self._identity.check()
                    yield _step(part, index, request)
                    if part.done:
                        ended = True
                        yield Chunk(
                            usage=shapes.usage(self.name, Usage(part.prompt_eval_count or 0, part.eval_count or 0))
                        )
        if not ended:
            message = f"Backend '{self.name}' ended its stream before the answer did."
            raise BackendError(message)


def _asked(request: Request, index: int, model: str) -> tuple[str, dict[str, Any]]:
    """Where to ask, and the body to send. Raises `InvalidRequest` for what Ollama has no words for."""
    body: dict[str, Any] = {"model": model, "stream": True, "options": _options(request, index)}
    body |= _WHOLE | _beside(request)
    if (alternatives := probabilities.wanted(request)) is not None:
        body |= {"logprobs": True, "top_logprobs": alternatives}
    if request.kind == "completion":
        body |= {"prompt": _text(request.prompt["prompt"]), "raw": True}
        if suffix := request.prompt.get("suffix"):
            body["suffix"] = suffix
        return "/api/generate", body
    body["messages"] = _messages(request.prompt["messages"])
    if tools := request.prompt.get("tools"):
        body["tools"] = tools
    if effort := request.prompt.get("reasoning_effort"):
        body.setdefault("think", _think(effort))
    return "/api/chat", body


@contextmanager
def _translated(name: str) -> Generator[None]:
    try:
        yield
    except (ConnectionError, httpx.ConnectError) as error:
        message = f"Backend '{name}' cannot be reached. Is it running?"
        raise BackendUnreachable(message) from error
    except httpx.ConnectTimeout as error:
        message = f"Backend '{name}' took too long to connect to."
        raise BackendTimeout(message, code="connect_timeout") from error
    except httpx.TimeoutException as error:
        message = f"Backend '{name}' did not answer in time."
        raise BackendTimeout(message) from error
    except httpx.HTTPError as error:
        message = f"Backend '{name}' broke the connection."
        raise BackendGone(message) from error
    except ollama.ResponseError as error:
        if error.status_code < 400:  # an error line in the middle of a stream
            message = f"Backend '{name}' failed midway: {error.error}"
            raise BackendError(message) from error
        upstream.refuse(name, error.status_code, msgspec.json.encode({"error": error.error}))
    except (ValueError, TypeError, AttributeError) as error:  # the client's ways of saying: not JSON, not an object
        message = f"Backend '{name}' sent something else than the documented reply."
        raise BackendError(message) from error


def _options(request: Request, index: int) -> dict[str, Any]:
    request = request.of("ollama")
    known = {name: value for name, value in request.params.items() if name not in _NO_OPTIONS}
    fields = _unknown(request) | known
    said = SAID if request.unsaid is None else {}
    options = said | {_NAMES.get(name, name): value for name, value in fields.items()}
    if "seed" in request.params:
        options["seed"] = (request.params["seed"] + index) % 2**31
    return options


def _unknown(request: Request, *without: str) -> dict[str, Any]:
    return {
        name: value
        for name, value in request.extra.items()
        if name not in HELD_BACK and name not in _BESIDE and name not in without
    }


def _beside(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.extra.items() if name in _BESIDE}


def _think(effort: str) -> bool | str:
    if effort not in _EFFORTS:
        message = f"Ollama takes the reasoning efforts {', '.join(_EFFORTS)}."
        raise InvalidRequest(message, param="reasoning_effort", code="unsupported_parameter")
    return _EFFORTS[effort]


def _messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages in Ollama's shape; the results of tools name their tool."""
    calls = (call for message in messages for call in message.get("tool_calls") or ())
    names = {call.get("id"): (call.get("function") or {}).get("name") for call in calls}
    return [_message(message, names) for message in messages]


def _message(message: dict[str, Any], names: dict[Any, Any]) -> dict[str, Any]:
    """A message in Ollama's shape: text apart from images, tool arguments as objects. Unknown fields stay."""
    sent: dict[str, Any] = {name: value for name, value in message.items() if name not in _RESHAPED}
    sent["role"] = "system" if message["role"] == "developer" else message["role"]
    content = message.get("content")
    parts: list[dict[str, Any]] = (
        [{"type": "text", "text": content or ""}] if not isinstance(content, list) else content
    )
    sent["content"] = "".join(part.get("text") or "" for part in parts if part["type"] == "text")
    if images := [_image(part) for part in parts if part["type"] != "text"]:
        sent["images"] = images
    if calls := message.get("tool_calls"):
        sent["tool_calls"] = [_tool_call(call) for call in calls]
    if place := message.get("tool_call_id"):
        sent |= {"tool_call_id": place, "tool_name": message.get("name") or names.get(place) or place}
    if thought := message.get("reasoning_content") or message.get("reasoning"):
        sent["thinking"] = thought
    return sent


def _image(part: dict[str, Any]) -> str:
    url = (part.get("image_url") or {}).get("url", "")
    if part["type"] != "image_url" or not url.startswith("data:") or "," not in url:
        message = "Ollama takes images as data URLs only ('data:image/png;base64,…')."
        raise InvalidRequest(message, param="messages", code="unsupported_content")
    return url.partition(",")[2]


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = call.get("function") or {}
    try:
        arguments = msgspec.json.decode(function.get("arguments") or "{}")
    except msgspec.DecodeError as error:
        message = "A tool call's arguments are not JSON."
        raise InvalidRequest(message, param="messages", code="invalid_value") from error
    rest = {name: value for name, value in call.items() if name != "type"}
    return rest | {"function": function | {"arguments": arguments}}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    message = "Ollama takes one text here, not tokens or several texts."
    raise InvalidRequest(message, code="unsupported_content")


def _step(part: Any, index: int, request: Request) -> Chunk:
    """One line as a step. Raises `ValueError` for what could not be encoded again; the client lets it through."""
    message = getattr(part, "message", None)
    calls = (message.tool_calls or ()) if message else ()
    return Chunk(
        index=index,
        content=_whole((message.content if message else part.response) or ""),
        reasoning=_whole((message.thinking if message else part.thinking) or ""),
        tool_calls=tuple(_called(call) for call in calls),
        logprobs=_logprobs(part, request),
        finish_reason=_finish(part),
    )


def _called(call: Any) -> dict[str, Any]:
    """A whole call. It has no number and no id: each line begins to count anew."""
    arguments = json.dumps(dict(call.function.arguments), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    function = {"name": _whole(call.function.name), "arguments": _whole(arguments)}
    return {"function": function}


def _finish(part: Any) -> str | None:
    if not part.done:
        return None
    if part.done_reason not in ("stop", "length"):
        message = f"Ollama ended without an answer (done_reason {part.done_reason!r})."
        raise BackendError(message)
    return part.done_reason


def _logprobs(part: Any, request: Request) -> dict[str, Any] | None:
    if probabilities.wanted(request) is None or not part.logprobs:
        return None
    content = [
        _logprob(entry) | {"top_logprobs": [_logprob(e) for e in entry.top_logprobs or ()]} for entry in part.logprobs
    ]
    return probabilities.shown(content, request)


def _logprob(entry: Any) -> dict[str, Any]:
    return {"token": entry.token, "logprob": shapes.finite(entry.logprob), "bytes": list(entry.token.encode())}


def _whole(text: str) -> str:
    """The text itself. Raises `ValueError` for half a character, which Python's JSON reads from an escape."""
    text.encode()
    return text
