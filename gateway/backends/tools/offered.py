"""A request's tools, checked: what may be called, what must be, and how often."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeGuard

import msgspec

from gateway.backends.schemas import Schema
from gateway.canonical import Request
from gateway.errors import InvalidRequest

Choice = Literal["auto", "required", "none"]
_CHOICES = ("auto", "required", "none")
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call."""

    name: str
    schema: Schema
    """Of its arguments."""
    strict: bool
    said: dict[str, Any]
    """As it came."""


class Offer(msgspec.Struct, frozen=True):
    """What the model may call now."""

    tools: tuple[Tool, ...] = ()
    choice: Choice = "none"
    several: bool = True
    """Whether one reply may hold several calls."""
    named: bool = False
    """Whether the client named the one function to call."""

    @property
    def open(self) -> bool:
        """Whether anything may be called."""
        return bool(self.tools) and self.choice != "none"


def offer(request: Request) -> Offer:
    """What `request` offers. Raises `InvalidRequest` naming the field at fault."""
    tools = tuple(_tool(place, said) for place, said in enumerate(request.prompt.get("tools") or ()))
    _check_names(tools)
    choice = request.prompt.get("tool_choice") or ("auto" if tools else "none")
    several = request.prompt.get("parallel_tool_calls") is not False
    if choice in _CHOICES:
        if choice == "required" and not tools:
            message = "'tool_choice' wants a tool called, and 'tools' has none."
            raise InvalidRequest(message, param="tool_choice", code="invalid_value")
        return Offer(tools, choice if tools else "none", several)
    match choice:
        case {"type": "function", "function": {"name": str(name)}}:
            return Offer(_only([name], tools), "required", several=False, named=True)
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(allowed)}}:
            return Offer(_only([_name(each) for each in allowed], tools), mode, several)
        case _:
            message = "'tool_choice' must be 'auto', 'required', 'none', or name a function of 'tools'."
            raise InvalidRequest(message, param="tool_choice", code="invalid_value")


def _tool(place: int, said: Mapping[str, Any]) -> Tool:
    where = f"tools[{place}]"
    if said.get("type") != "function":
        message = f"'{where}' is of the type {said.get('type')!r}; only functions can be called here."
        raise InvalidRequest(message, param=f"{where}.type", code="unsupported_parameter")
    function = said.get("function")
    if not _is_object(function) or not isinstance(name := function.get("name"), str) or not name:
        message = f"'{where}.function' must be an object with a 'name'."
        raise InvalidRequest(message, param=f"{where}.function", code="invalid_value")
    parameters = _NO_PARAMETERS if function.get("parameters") is None else function["parameters"]
    if not _is_object(parameters) or not isinstance(function.get("description"), str | None):
        message = f"'{where}.function' needs 'parameters' that are a JSON Schema, and a 'description' that is a string."
        raise InvalidRequest(message, param=f"{where}.function.parameters", code="invalid_schema")
    schema = Schema(dict(parameters), f"{where}.function.parameters")
    return Tool(name, schema, function.get("strict") is True, dict(said))


def _is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict)


def _check_names(tools: Sequence[Tool]) -> None:
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        message = f"Two of 'tools' are called '{twice}'."
        raise InvalidRequest(message, param="tools", code="invalid_value")


def _only(names: Sequence[str | None], tools: Sequence[Tool]) -> tuple[Tool, ...]:
    known = {tool.name: tool for tool in tools}
    if not names or any(name not in known for name in names):
        message = f"'tool_choice' names a function that is not in 'tools'; there are: {', '.join(known) or 'none'}."
        raise InvalidRequest(message, param="tool_choice", code="invalid_value")
    return tuple(known[name] for name in names if name)


def _name(allowed: Any) -> str | None:
    match allowed:
        case {"function": {"name": str(name)}}:
            return name
        case _:
            return None
