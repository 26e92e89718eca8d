"""What a server of each engine can do: asked of the server itself, for what an engine ignores it does not refuse."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from gateway.backends import upstream
from gateway.backends.interpreter import Abilities
from gateway.backends.parameters import Engine
from gateway.errors import BackendError, BackendTimeout, BackendUnavailable


class Server(Protocol):
    """Where it is asked. What it raises is a `BackendError`."""

    async def read(self, path: str, content: bytes | None = None) -> bytes:
        """Post JSON, or get; the whole body of the reply."""
        ...


class _Props(msgspec.Struct):
    chat_template: str = ""
    chat_template_caps: dict[str, Any] = {}
    modalities: dict[str, Any] = {}
    total_slots: Any = None


class _Model(msgspec.Struct):
    meta: dict[str, Any] | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


class _Shown(msgspec.Struct):
    capabilities: list[str] | None = None


class _Tokens(msgspec.Struct):
    tokens: list[int]


_PROPS = msgspec.json.Decoder(_Props)
_MODELS = msgspec.json.Decoder(_Models)
_SHOWN = msgspec.json.Decoder(_Shown)
_TOKENS = msgspec.json.Decoder(_Tokens)
_TOOLS: Final = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
_EFFORTS: Final = ("none", "low", "high")
_HELLO: Final = [{"role": "user", "content": "Hello"}]


async def of_llamacpp(name: str, server: Server, model: str) -> Abilities:
    """From its properties, which describe the chat template, and its list of models. Raises `BackendError`.

    Of a server that does not say nothing is known: it is taken for one that cannot use tools, as with vLLM.
    """
    del model
    try:
        props = upstream.decoded(name, await server.read("/props"), _PROPS)
        listed = upstream.decoded(name, await server.read("/v1/models"), _MODELS).data
    except (BackendUnavailable, BackendTimeout):
        raise
    except BackendError:
        return Abilities(tools=False)
    told = props.chat_template_caps.get("supports_tools")
    count = (listed[0].meta or {}).get("n_vocab") if listed else None
    vision, effort = props.modalities.get("vision"), props.chat_template_caps.get("supports_reasoning_effort")
    return Abilities(
        tools="tools" in props.chat_template if told is None else bool(told),
        vision=vision if isinstance(vision, bool) else None,
        effort=effort if isinstance(effort, bool) else None,
        vocabulary=count if isinstance(count, int) else None,
        slots=props.total_slots if isinstance(props.total_slots, int) else None,
    )


async def of_vllm(name: str, server: Server, model: str) -> Abilities:
    """Whether tools change what it reads, and it knows how to find calls in what is said. Raises `BackendError`.

    A server that does not say is taken for one that cannot: the gateway's own way always works.
    """
    asked: dict[str, Any] = {"model": model, "messages": _HELLO}
    try:
        plain, told = [
            upstream.decoded(name, await server.read("/tokenize", msgspec.json.encode(body)), _TOKENS).tokens
            for body in (asked, asked | {"tools": _TOOLS})
        ]
        if plain == told:
            return Abilities(tools=False)
        await server.read("/v1/chat/completions", msgspec.json.encode(asked | {"tools": _TOOLS, "max_tokens": 1}))
    except (BackendUnavailable, BackendTimeout):
        raise
    except BackendError:
        return Abilities(tools=False)
    return Abilities(tools=True)


async def effort_of_vllm(name: str, server: Server, model: str) -> bool | None:
    """Whether its template reads how much it shall think; None where it cannot be told. Raises `BackendError`."""
    asked: dict[str, Any] = {"model": model, "messages": _HELLO}
    kinds = ({"reasoning_effort": effort, "enable_thinking": effort != "none"} for effort in _EFFORTS)
    try:
        heard = [
            upstream.decoded(
                name,
                await server.read("/tokenize", msgspec.json.encode(asked | {"chat_template_kwargs": kind})),
                _TOKENS,
            ).tokens
            for kind in kinds
        ]
    except (BackendUnavailable, BackendTimeout):
        raise
    except BackendError:
        return None
    return any(one != heard[0] for one in heard)


async def of_ollama(name: str, server: Server, model: str) -> Abilities:
    """From the capabilities that it lists for a model; older ones list none. Raises `BackendError`."""
    shown = upstream.decoded(name, await server.read("/api/show", msgspec.json.encode({"model": model})), _SHOWN)
    if shown.capabilities is None:
        return Abilities()
    tools, vision, effort = (word in shown.capabilities for word in ("tools", "vision", "thinking"))
    return Abilities(tools=tools, vision=vision, effort=effort)


async def of_any(name: str, server: Server, model: str) -> Abilities:
    """Nothing is known of it: it is trusted with what it is sent."""
    del name, server, model
    return Abilities(tools=True)


ASKED: Final[Mapping[Engine, Callable[[str, Server, str], Awaitable[Abilities]]]] = {
    "vllm": of_vllm,
    "llamacpp": of_llamacpp,
    "ollama": of_ollama,
    "openai": of_any,
}

EFFORT: Final[Mapping[Engine, Callable[[str, Server, str], Awaitable[bool | None]]]] = {"vllm": effort_of_vllm}
"""Where `effort` is not among the abilities, since it takes more questions."""
