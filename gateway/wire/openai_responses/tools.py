"""Functions as responses name them -> as chat completions do."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway.errors import InvalidRequest
from gateway.wire import body

_CHOICES: Final = frozenset({"none", "auto", "required"})
_DEFAULTS: Final = {"defer_loading": False, "async": False}
"""What asks for nothing in a field that cannot be honoured."""


class Function(msgspec.Struct):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1)]
    type: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


def check(tools: Sequence[Any], choice: str | dict[str, Any] | None) -> None:
    """Raise `InvalidRequest` for tools and choices that cannot be honoured, naming which."""
    for place, tool in enumerate(tools):
        _check(tool, f"tools[{place}]")
    if choice is None or (isinstance(choice, str) and choice in _CHOICES):
        return
    if not isinstance(choice, dict) or choice.get("type") != "function":
        message = (
            "'tool_choice' must be 'none', 'auto', 'required' or one function: {\"type\": \"function\", \"name\": …}."
        )
        raise InvalidRequest(message, param="tool_choice", code="unsupported_parameter")
    if not isinstance(choice.get("name"), str):
        message = "'tool_choice.name' is missing."
        raise InvalidRequest(message, param="tool_choice.name", code="missing_field")


def chat_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A function as a chat completion has it."""
    known = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in known if tool.get(name) is not None}}


def chat_choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """The choice as a chat completion has it."""
    return {"type": "function", "function": {"name": choice["name"]}} if isinstance(choice, dict) else choice


def _check(tool: Any, param: str) -> None:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind != "function":
        message = f"'{param}' is no function; other tools need services that are not here."
        raise InvalidRequest(message, param=f"{param}.type", code="unsupported_parameter")
    try:
        body.typed(tool, Function)
    except InvalidRequest as error:
        where = f"{param}.{error.param}"
        message = str(error).replace(f"'{error.param}'", f"'{where}'", 1)
        raise InvalidRequest(message, param=where, code=error.code) from error
    for name, value in body.unknown(tool, Function).items():
        if value is not None and value != _DEFAULTS.get(name):
            message = f"'{param}.{name[:80]}' cannot be honoured; leave it out."
            raise InvalidRequest(message, param=f"{param}.{name[:80]}", code="unsupported_parameter")
