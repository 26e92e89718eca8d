"""Results of tools: each must be of a call that the conversation has."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.errors import InvalidRequest

_TOLD = 80


def expect_made(messages: Iterable[Mapping[str, Any]], param: str, what: str) -> None:
    """Raise `InvalidRequest` for a result whose call nobody made before it: the model could not know what it is of.

    A call is known by its id, or as Ollama's clients know it, by the tool's name. The error says `what` is wrong.
    """
    known: set[str] = set()
    for place, message in enumerate(messages):
        for call in message.get("tool_calls") or ():
            function = call.get("function")
            names = call.get("id"), function.get("name") if isinstance(function, Mapping) else None
            known.update(name for name in names if isinstance(name, str))
        asked = message.get("tool_call_id") if message.get("role") == "tool" else None
        if asked is not None and asked not in known:
            named = str(asked)[:_TOLD]
            message = f"'{what}' is '{named}' in a tool's result, but no call before it has that id."
            raise InvalidRequest(message, param=param.format(place=place), code="invalid_value")
