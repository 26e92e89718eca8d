"""What a server tells of its model, each engine in its own way -> a `Description`, as Ollama's clients ask for it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec

from gateway.backends import telling, upstream
from gateway.backends.parameters import Engine
from gateway.canonical import Description
from gateway.errors import BackendError, BackendGone, BackendRefused, BackendTimeout, BackendUnavailable

T = TypeVar("T")

_UNITS: Final = ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0))
_LIST: Final = ("completion", "tools")


class Server(Protocol):
    """Who is asked. What it raises is a `BackendError`."""

    @property
    def here(self) -> bool:
        """Whether it is on this machine."""
        ...

    async def read(self, path: str, content: bytes | None = None) -> bytes:
        """Post JSON, or get; the whole body of the reply."""
        ...


class _Props(msgspec.Struct):
    chat_template: str = ""
    chat_template_caps: dict[str, Any] = {}
    modalities: dict[str, Any] = {}
    model_ftype: Any = None
    default_generation_settings: dict[str, Any] = {}


class _Shown(msgspec.Struct):
    capabilities: list[str] | None = None
    details: dict[str, Any] = {}
    model_info: dict[str, Any] | None = None
    template: str = ""
    parameters: str = ""
    system: str = ""
    license: str | list[str] = ""
    modified_at: str = ""


class _Tag(msgspec.Struct):
    name: str = ""
    model: str = ""
    size: int = 0


class _Tags(msgspec.Struct):
    models: list[_Tag] = []


_PROPS: Final = msgspec.json.Decoder(_Props)
_SHOWN: Final = msgspec.json.Decoder(_Shown)
_TAGS: Final = msgspec.json.Decoder(_Tags)


async def of_llamacpp(name: str, server: Server, model: str) -> Description:
    """From its properties and its list of models. Raises `BackendError`."""
    props = upstream.decoded(name, await server.read("/props"), _PROPS)
    cards = upstream.decoded(name, await server.read("/v1/models"), telling.CARDS).data
    meta: dict[str, Any] = cards[0].meta if cards and isinstance(cards[0].meta, dict) else {}
    can = {
        "vision": bool(props.modalities.get("vision")),
        "thinking": bool(props.chat_template_caps.get("supports_reasoning_effort")),
        "embedding": await _embeds(server, model),
    }
    info = {
        "general.parameter_count": meta.get("n_params"),
        "general.context_length": meta.get("n_ctx_train"),
        "general.embedding_length": meta.get("n_embd"),
        "general.vocabulary_size": meta.get("n_vocab"),
    }
    quantized = meta.get("ftype") or props.model_ftype
    return Description(
        capabilities=(*_LIST, *(word for word, is_so in can.items() if is_so)),
        details={
            "format": "gguf",
            "parameter_size": _size(meta.get("n_params")),
            "quantization_level": quantized if isinstance(quantized, str) else "",
        },
        model_info=_known(info),
        template=props.chat_template,
        size_bytes=_count(meta.get("size")),
        context_tokens=_count(props.default_generation_settings.get("n_ctx")),
    )


async def of_vllm(name: str, server: Server, model: str) -> Description:
    """How long a context may be; and what it is for, since it either embeds or generates. Raises `BackendError`."""
    cards = upstream.decoded(name, await server.read("/v1/models"), telling.CARDS).data
    most = _count(next((card.max_model_len for card in cards if card.id == model), None))
    return Description(
        capabilities=("embedding",) if await _embeds(server, model) else _LIST,
        model_info={"general.context_length": most} if most else {},
        context_tokens=most,
    )


async def of_ollama(name: str, server: Server, model: str) -> Description:
    """What it shows itself, but for the places of files. Older ones list no capabilities. Raises `BackendError`."""
    shown = upstream.decoded(name, await server.read("/api/show", msgspec.json.encode({"model": model})), _SHOWN)
    tags = upstream.decoded(name, await server.read("/api/tags"), _TAGS).models
    sizes = {tag.model or tag.name: tag.size for tag in tags}
    return Description(
        capabilities=tuple(shown.capabilities if shown.capabilities is not None else ("completion",)),
        details=shown.details,
        model_info=shown.model_info or {},
        template=shown.template,
        parameters=shown.parameters,
        system=shown.system,
        license=shown.license,
        modified_at=shown.modified_at,
        size_bytes=sizes.get(model) or sizes.get(f"{model}:latest") or 0,
    )


async def of_any(name: str, server: Server, model: str) -> Description:
    """Nothing is known of it. One on this machine can be asked whether it embeds; elsewhere that costs money."""
    del name
    return Description(capabilities=(*_LIST, "embedding") if server.here and await _embeds(server, model) else _LIST)


DESCRIBED: Final[Mapping[Engine, Callable[[str, Server, str], Awaitable[Description]]]] = {
    "vllm": of_vllm,
    "llamacpp": of_llamacpp,
    "ollama": of_ollama,
    "openai": of_any,
}


async def _embeds(server: Server, model: str) -> bool:
    """Whether it embeds a word. Raises `BackendError` when it is not there to be asked."""
    try:
        await server.read("/v1/embeddings", msgspec.json.encode({"model": model, "input": "a"}))
    except BackendRefused as refused:
        if refused.status == 429:
            raise
        return False
    except (BackendUnavailable, BackendTimeout, BackendGone):
        raise
    except BackendError:
        return False
    return True


def _known(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def _count(said: Any) -> int:
    return said if isinstance(said, int) else 0


def _size(count: Any) -> str:
    """How many parameters, as Ollama writes it: 268.10M."""
    if not isinstance(count, int) or isinstance(count, bool):
        return ""
    for unit, letter, digits in _UNITS:
        if count >= unit:
            number = count / unit
            return f"{number:.{0 if number.is_integer() else digits}f}{letter}"
    return str(count)
