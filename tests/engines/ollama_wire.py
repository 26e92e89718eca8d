"""Ollama's documented JSON: requests decoded, llama.cpp's native requests and replies translated. Pure functions."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

Body = TypeVar("Body")

MAX_TOP_LOGPROBS = 20
KEEP_ALIVE = timedelta(minutes=5)
# Ollama's llama.cpp bounds the white space of an answer that has a format; the one here has LLGuidance, which does not.
BOUNDED = {"x-guidance": {"whitespace_flexible": False, "lenient": True}}

# Ollama's name -> (llama.cpp's name, what it must be, Ollama's own default)
OPTIONS: dict[str, tuple[str, type, Any]] = {
    "num_predict": ("n_predict", int, -1),
    "num_keep": ("n_keep", int, 4),
    "seed": ("seed", int, -1),
    "temperature": ("temperature", float, 0.8),
    "top_k": ("top_k", int, 40),
    "top_p": ("top_p", float, 0.9),
    "min_p": ("min_p", float, 0.0),
    "typical_p": ("typical_p", float, 1.0),
    "repeat_last_n": ("repeat_last_n", int, 64),
    "repeat_penalty": ("repeat_penalty", float, 1.1),
    "presence_penalty": ("presence_penalty", float, 0.0),
    "frequency_penalty": ("frequency_penalty", float, 0.0),
    "stop": ("stop", list, []),
}
TYPE_NAMES = {int: "integer", float: "float32", list: "array"}


class OllamaError(Exception):
    """An error reply: an HTTP status and the text of the `error` field."""

    def __init__(self, status: int, message: str) -> None:
        """Keep both parts."""
        super().__init__(message)
        self.status = status
        self.message = message


class Message(msgspec.Struct):
    """One turn of a chat."""

    role: str
    content: str = ""
    images: list[str] = []
    tool_calls: list[dict[str, Any]] = []


class Request(msgspec.Struct):
    """What /api/chat and /api/generate have in common."""

    model: str = ""
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: float | str | None = None
    truncate: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0


class ChatRequest(Request):
    """The body of POST /api/chat."""

    messages: list[Message] = []
    tools: list[dict[str, Any]] | None = None


class GenerateRequest(Request):
    """The body of POST /api/generate."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] | None = None
    raw: bool = False
    images: list[str] = []


class EmbedRequest(msgspec.Struct):
    """The body of POST /api/embed."""

    model: str = ""
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: int = 0
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None


class ShowRequest(msgspec.Struct):
    """The body of POST /api/show; `name` is the older spelling."""

    model: str = ""
    name: str = ""
    verbose: bool = False


def decode(body: bytes, kind: type[Body]) -> Body:
    """Read a body, or refuse it as Ollama does."""
    if not body:
        raise OllamaError(400, "missing request body")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise OllamaError(400, str(error)) from error


def check(request: Request) -> None:
    """Refuse what this model cannot do; it neither thinks nor calls tools nor sees."""
    if not 0 <= request.top_logprobs <= MAX_TOP_LOGPROBS:
        raise OllamaError(400, "top_logprobs must be between 0 and 20")
    if request.think:
        raise OllamaError(400, f'"{request.model}" does not support thinking')
    if isinstance(request, ChatRequest) and request.tools:
        raise OllamaError(400, f"{request.model} does not support tools")
    if isinstance(request, GenerateRequest):
        check_generate(request)


def check_generate(request: GenerateRequest) -> None:
    """Refuse the fields of /api/generate that exclude each other or that this model or this double lacks."""
    if request.raw and (request.template or request.system or request.context):
        raise OllamaError(400, "raw mode does not support template, system, or context")
    if request.suffix:
        raise OllamaError(400, f"{request.model} does not support insert")
    if request.template:
        raise OllamaError(400, "this double of Ollama does not render templates of a request")


def messages(request: ChatRequest | GenerateRequest) -> list[Message]:
    """Return the turns to render; a prompt is one turn of the user's, after the system's if there is one."""
    if isinstance(request, ChatRequest):
        turns = request.messages
    else:
        system = [Message("system", request.system)] if request.system else []
        turns = [*system, Message("user", request.prompt, images=request.images)]
    if any(turn.images for turn in turns):
        raise OllamaError(400, "this model is missing data required for image input")
    return turns


def completion(prompt: str, request: Request) -> dict[str, Any]:
    """Translate to llama.cpp's POST /completion."""
    body: dict[str, Any] = {"prompt": prompt, "stream": True, "cache_prompt": True, **sampling(request.options or {})}
    if request.format == "json":
        body["json_schema"] = {"type": "object", **BOUNDED}
    elif isinstance(request.format, dict):
        body["json_schema"] = {**request.format, **BOUNDED}
    elif request.format:
        raise OllamaError(400, f'invalid format: "{request.format}"; expected "json" or a JSON schema')
    if request.logprobs:
        body["n_probs"] = max(1, request.top_logprobs)
    return body


def sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Translate options, defaults filled in; an unknown option is ignored, one of a wrong type is an error."""
    translated: dict[str, Any] = {}
    for name, (native, kind, default) in OPTIONS.items():
        value = options.get(name)
        translated[native] = default if value is None else typed(name, value, kind)
    return translated


def typed(name: str, value: object, kind: type) -> Any:
    """Return an option's value as the kind it must have; JSON has one kind of number."""
    if kind is list and isinstance(value, list):
        return value  # pyright: ignore[reportUnknownVariableType]
    if kind in {int, float} and isinstance(value, int | float) and not isinstance(value, bool):
        return kind(value)
    raise OllamaError(500, f'option "{name}" must be of type {TYPE_NAMES[kind]}')


def event(request: Request, text: str, logprobs: list[Any] | None = None) -> dict[str, Any]:
    """Return one line of a reply that goes on."""
    is_chat = isinstance(request, ChatRequest)
    said = {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}
    line: dict[str, Any] = {"model": request.model, "created_at": now(), **said, "done": False}
    if logprobs:
        line["logprobs"] = logprobs
    return line


def ending(chunk: dict[str, Any], total_ns: int, load_ns: int) -> dict[str, Any]:
    """Return the fields that the last line has on top, from llama.cpp's last chunk."""
    timings = chunk["timings"]
    return {
        "done": True,
        "done_reason": "length" if chunk["stop_type"] == "limit" else "stop",
        "total_duration": total_ns,
        "load_duration": load_ns,
        "prompt_eval_count": chunk["tokens_evaluated"],
        "prompt_eval_duration": int(timings["prompt_ms"] * 1e6),
        "eval_count": chunk["tokens_predicted"],
        "eval_duration": int(timings["predicted_ms"] * 1e6),
    }


def at_once(request: Request) -> dict[str, Any]:
    """Return the reply to a request that says nothing: it only loads or unloads the model."""
    return {**event(request, ""), "done": True, "done_reason": "unload" if request.keep_alive == 0 else "load"}


def says_something(request: ChatRequest | GenerateRequest) -> bool:
    """Tell whether there is something to answer."""
    return bool(request.messages if isinstance(request, ChatRequest) else request.prompt)


def token_logprobs(chunk: dict[str, Any], alternatives: int) -> list[dict[str, Any]]:
    """Translate a chunk's probabilities; Ollama gives no token ids."""
    entries: list[dict[str, Any]] = []
    for token in chunk.get("completion_probabilities", ()):
        entry = token_logprob(token)
        if alternatives:
            entry["top_logprobs"] = [token_logprob(other) for other in token["top_logprobs"][:alternatives]]
        entries.append(entry)
    return entries


def token_logprob(token: dict[str, Any]) -> dict[str, Any]:
    """Translate one token's probability."""
    return {"token": token["token"], "logprob": token["logprob"], "bytes": token["bytes"]}


def folded(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the reply of a request that asked for no stream: the last line with everything that was said."""
    last = dict(events[-1])
    if "message" in last:
        last["message"] = {"role": "assistant", "content": "".join(e["message"]["content"] for e in events)}
    else:
        last["response"] = "".join(e["response"] for e in events)
    if logprobs := [entry for e in events for entry in e.get("logprobs", ())]:
        last["logprobs"] = logprobs
    return last


def now(later: timedelta = timedelta()) -> str:
    """Return a time as Ollama writes it."""
    return (datetime.now(UTC) + later).isoformat().replace("+00:00", "Z")


def unit(vector: list[float]) -> list[float]:
    """Scale a vector to length one."""
    length = sum(x * x for x in vector) ** 0.5
    return [x / max(length, 1e-12) for x in vector]
