"""A conversation with tools -> one without: the tools described in words, calls and results as text, turns in turn.

Nothing may change here without `RENDERING` in `gateway/canonical.py`: what was answered to other words would be given.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.backends.tools.offered import Offer
from gateway.backends.tools.reading import CLOSE, OPEN
from gateway.errors import InvalidRequest

_ROLES = {"developer": "system", "function": "tool"}
_INTRODUCED = "You can call functions to do what the user asks. These are the functions, one on each line:"
_TAGGED = (
    "To call a function, write a JSON object with its name and its arguments between tags, like this:\n"
    f'{OPEN}{{"name": "the function\'s name", "arguments": {{"argument": "value"}}}}{CLOSE}\n'
    "Its result comes back between <tool_response> and </tool_response>. "
    "Call a function only when it helps; otherwise answer in plain words."
)
_LISTED = (
    "Call a function now. Answer with a JSON list of calls and nothing else, like this:\n"
    '[{"name": "the function\'s name", "arguments": {"argument": "value"}}]'
)
_ONE = "Call one function at a time."
_SEVERAL = "You may make several calls in one answer."


def rendered(messages: Sequence[Mapping[str, Any]], offer: Offer) -> list[dict[str, Any]]:
    """The conversation in turns that any chat template takes: perhaps a system's, then the user's and the model's.

    Raises `InvalidRequest` for calls that cannot be told.
    """
    system, turns = _parted([_plain(message, messages[:place]) for place, message in enumerate(messages)])
    if offer.open:
        system = "\n\n".join(filter(None, [system, described(offer)]))
    if not system:
        return turns
    if any(message["role"] in {"system", "developer"} for message in messages):
        return [{"role": "system", "content": system}, *turns]
    # Not every template knows a system; Gemma's itself puts the system's words before the user's first.
    if not turns or turns[0]["role"] != "user":
        return [{"role": "user", "content": system}, *turns]
    return [{"role": "user", "content": joined(system, turns[0]["content"])}, *turns[1:]]


def described(offer: Offer) -> str:
    """The tools and how to call them, in words."""
    tools = "\n".join(_line(tool.said["function"]) for tool in offer.tools)
    how = _LISTED if offer.choice == "required" else _TAGGED
    return f"{_INTRODUCED}\n<tools>\n{tools}\n</tools>\n{how}\n{_SEVERAL if offer.several else _ONE}"


def _line(function: Mapping[str, Any]) -> str:
    shown = {name: function[name] for name in ("name", "description", "parameters") if function.get(name) is not None}
    return json.dumps(shown, ensure_ascii=False)


def _parted(messages: Iterable[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """What the system says before anybody else; and the turns, those of one role that follow each other made one."""
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "system" and not turns:
            system.append(_text(message["content"]))
            continue
        role = "assistant" if message["role"] == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] = joined(turns[-1]["content"], message["content"])
        else:
            turns.append({"role": role, "content": message["content"]})
    return "\n\n".join(filter(None, system)), turns


def _plain(message: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One message as a role and a content; those `before` it say what was called."""
    role, content = _ROLES.get(message["role"], message["role"]), message.get("content") or ""
    if role == "tool":
        content = _result(message, before)
    elif calls := message.get("tool_calls"):
        content = joined(content, "\n".join(_call(call) for call in calls), between="\n")
    return {"role": role, "content": content}


def _call(call: Mapping[str, Any]) -> str:
    match call.get("function"):
        case {"name": str(name), **rest}:
            arguments = rest.get("arguments") or "{}"
        case _:
            message = "A tool call in 'messages' has no function with a 'name'."
            raise InvalidRequest(message, param="messages", code="invalid_value")
    try:
        value = json.loads(arguments)
    except (TypeError, ValueError, RecursionError) as error:
        message = "A tool call's arguments are not JSON."
        raise InvalidRequest(message, param="messages", code="invalid_value") from error
    return f"{OPEN}{json.dumps({'name': name, 'arguments': value}, ensure_ascii=False)}{CLOSE}"


def _result(message: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> str:
    """What a tool gave back, with its name where that is known: several may have been called."""
    name = message.get("name") or _named(message.get("tool_call_id"), before)
    result = {"name": name} if name else {}
    shown = json.dumps(result | {"content": _text(message.get("content") or "")}, ensure_ascii=False)
    return f"<tool_response>{shown}</tool_response>"


def _named(place: Any, before: Sequence[Mapping[str, Any]]) -> str | None:
    """What was called: the last call with that id. Ollama's clients know calls by name."""
    for message in reversed(before):
        for call in message.get("tool_calls") or ():
            name = (call.get("function") or {}).get("name")
            if place in (call.get("id"), name):
                return name
    return None


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def joined(one: Any, other: Any, between: str = "\n\n") -> Any:
    """Two contents as one: a text where both are, else a list of parts."""
    if isinstance(one, str) and isinstance(other, str):
        return between.join(filter(None, [one, other]))
    parts = [[{"type": "text", "text": each}] if isinstance(each, str) else list(each) for each in (one, other)]
    return parts[0] + parts[1]
