"""What an engine takes alone but not together: refused with the field's name before it is asked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.backends.parameters import Engine
from gateway.canonical import Request
from gateway.errors import BackendRefused

Wrong = tuple[str, str] | None
"""The field at fault and why."""

_GREEDY: Final = 1e-5
"""Below this temperature vLLM takes the likeliest token."""


def expect(backend: str, engine: Engine, request: Request) -> None:
    """Raise `BackendRefused` for what the engine refuses without a name, or would get wrong."""
    for rule in _RULES.get(engine, ()):
        if (wrong := rule(request)) is not None:
            refuse(backend, *wrong)


def refuse(backend: str, param: str, why: str) -> None:
    """Say what is wrong with the value of `param`."""
    message = f"Backend '{backend}' cannot do this: {why}."
    raise BackendRefused(message, status=400, code="unsupported_parameter", param=param)


def _echo(request: Request) -> Wrong:
    """vLLM's stream leaves out the text of a prompt of token ids, and then its probabilities belong to another text."""
    prompt: Any = request.prompt.get("prompt")
    if request.params.get("echo") and isinstance(prompt, list) and prompt and not isinstance(prompt[0], str):
        return "echo", "'echo' repeats texts, not token ids; send 'prompt' as a text"
    return None


def _texts(*names: str) -> Callable[[Request], Wrong]:
    """Of completions engines take fields of chats, and do nothing with them."""

    def rule(request: Request) -> Wrong:
        if request.kind != "completion":
            return None
        asked = request.prompt | request.extra
        found = next((name for name in names if asked.get(name) not in _NOTHING), None)
        return (found, f"'{found}' is for chats; ask /v1/chat/completions") if found else None

    return rule


def _greedy_choices(request: Request) -> Wrong:
    if request.params.get("n", 1) > 1 and request.params.get("temperature", 1) < _GREEDY:
        return "n", "with temperature 0 all choices are the same, so 'n' must be 1"
    return None


def _lengths(request: Request) -> Wrong:
    least, most = request.extra.get("min_tokens"), request.params.get("max_tokens")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        return "min_tokens", f"'min_tokens' ({least}) is more than 'max_tokens' ({most})"
    return None


_OF_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls", "reasoning_effort")
_NOTHING: Final = (None, False, "", [], {}, {"type": "text"}, "none")
_RULES: Final[Mapping[Engine, Sequence[Callable[[Request], Wrong]]]] = {
    "vllm": (_echo, _greedy_choices, _lengths, _texts(*_OF_TOOLS)),
    "llamacpp": (_texts("response_format", *_OF_TOOLS),),
    "ollama": (_texts("response_format", *_OF_TOOLS),),
}
