"""Turns of one role that follow each other -> one turn, for templates that want the roles to alternate.

Nothing may change here without `RENDERING` in `gateway/canonical.py`: what was answered to other words would be given.
"""

from typing import Any

import msgspec

from gateway.backends.tools.rendering import joined
from gateway.canonical import Request

_PLAIN = frozenset({"role", "content"})
"""What a turn may have that can be put together with another: calls and names belong to one alone."""


def alternating(request: Request) -> Request:
    """`request` with neighbours of one role as one turn; `request` itself where there are none."""
    turns: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = request.prompt.get("messages", [])
    for message in messages:
        if turns and _together(turns[-1], message):
            turns[-1] = turns[-1] | {"content": joined(turns[-1]["content"] or "", message["content"] or "")}
        else:
            turns.append(message)
    if len(turns) == len(messages):
        return request
    return msgspec.structs.replace(request, prompt=request.prompt | {"messages": turns})


def _together(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["role"] == other["role"] and one.keys() == other.keys() == _PLAIN
