"""Items of a conversation -> the messages of a chat, so that both are one question.

What the model says together is one message: its thoughts, its text and its calls, each an item here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.errors import InvalidRequest
from gateway.wire import body

Item = dict[str, Any]
REFERENCE: Final = "item_reference"
_Id = Annotated[str, Meta(min_length=1)]
_Status = Literal["in_progress", "completed", "incomplete"]
_NEUTRAL = frozenset({"id", "type", "status", "annotations", "logprobs", "prompt_cache_breakpoint", "created_by"})
"""Fields of items and their parts that say who made them or how they were shown, and that no model reads."""


class Part(msgspec.Struct):
    """One piece of a message or of what a tool gave."""

    type: Literal["input_text", "output_text", "refusal", "input_image"]
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None


class Message(msgspec.Struct):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]
    type: str = "message"
    id: str | None = None
    status: _Status | None = None


class Call(msgspec.Struct):
    """A tool that the model called."""

    call_id: _Id
    name: _Id
    arguments: str
    type: str
    id: str | None = None
    status: _Status | None = None


class Result(msgspec.Struct):
    """What a tool gave."""

    call_id: _Id
    output: str | list[dict[str, Any]]
    type: str
    id: str | None = None
    status: _Status | None = None


class Reference(msgspec.Struct):
    """An item of a response that is kept."""

    id: _Id
    type: str


class Thought(msgspec.Struct):
    """What the model thought: in full, or what it said of it."""

    type: str
    summary: list[dict[str, Any]] = []
    content: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: _Status | None = None


def read(value: str | Sequence[Any]) -> tuple[Item, ...]:
    """The items of `input`, each with its `type`. Raises `InvalidRequest` for one that cannot be a part of a chat."""
    if isinstance(value, str):
        return ({"type": "message", "role": "user", "content": value},)
    found = tuple(_typed(item, f"input[{place}]") for place, item in enumerate(value))
    for place, item in enumerate(found):
        if item["type"] == REFERENCE:
            _checked(item, Reference, f"input[{place}]")
        else:
            _said(item, f"input[{place}]")
    return found


def references(items: Iterable[Item]) -> list[str]:
    """The ids of items that are not there themselves."""
    return [item["id"] for item in items if item["type"] == REFERENCE]


def resolved(items: Iterable[Item], known: Mapping[str, Item]) -> tuple[Item, ...]:
    """The items, with those that are only named in their places. Raises `InvalidRequest` for one not `known`."""
    found: list[Item] = []
    for place, item in enumerate(items):
        meant = known.get(item["id"]) if item["type"] == REFERENCE else item
        if meant is None:
            param = f"input[{place}].id"
            message = f"'{param}' is no item of a response that is kept for you; send the item itself."
            raise InvalidRequest(message, param=param, code="invalid_value")
        found.append(meant)
    return tuple(found)


def messages(items: Iterable[Item]) -> list[dict[str, Any]]:
    """What the items say, as messages of a chat."""
    found: list[dict[str, Any]] = []
    for item in items:
        said = _said(item, "input")
        if found and _goes_on(found[-1], said):
            found[-1] = _joined(found[-1], said)
        else:
            found.append(said)
    for message in found:
        if message["role"] == "assistant":
            message.setdefault("content", None)
    return found


def shown(items: Iterable[Item], name: str) -> list[Item]:
    """The items as the API lists them: each has an id, and content is always a list of parts."""
    return [_shown(item, f"{name}_{place}") for place, item in enumerate(items)]


def _typed(item: Any, param: str) -> Item:
    if not isinstance(item, dict):
        message = f"'{param}' must be an object."
        raise InvalidRequest(message, param=param, code="invalid_value")
    if item.get("type") is None:
        item = {**item, "type": "message" if "role" in item else REFERENCE}
    if item["type"] not in (*_READERS, REFERENCE):
        known = ", ".join((*_READERS, REFERENCE))
        message = f"'{param}' is of a type that cannot be sent to a model here; these can: {known}."
        raise InvalidRequest(message, param=f"{param}.type", code="unsupported_parameter")
    return item


def _said(item: Item, param: str) -> dict[str, Any]:
    return _READERS[item["type"]](item, param)


def _message(item: Item, param: str) -> dict[str, Any]:
    fields = _checked(item, Message, param)
    if fields.role == "assistant":
        return {"role": "assistant", **_unknown(item, Message), **_spoken(fields.content, param)}
    content = fields.content if isinstance(fields.content, str) else _parts(fields.content, f"{param}.content")
    return {"role": fields.role, **_unknown(item, Message), "content": content}


def _spoken(content: str | list[dict[str, Any]], param: str) -> dict[str, Any]:
    """What the model said, as it says it in a chat: one text, and a refusal beside it."""
    if isinstance(content, str):
        return {"content": content}
    parts = [_checked(part, Part, f"{param}.content[{place}]") for place, part in enumerate(content)]
    if any(part.type == "input_image" for part in parts):
        message = "An assistant's message has texts and refusals only."
        raise InvalidRequest(message, param=f"{param}.content", code="invalid_value")
    text = "".join(part.text or "" for part in parts)
    refusal = "".join(part.refusal or "" for part in parts)
    return (
        {"content": None, "refusal": refusal}
        if refusal and not text
        else {"content": text} | ({"refusal": refusal} if refusal else {})
    )


def _call(item: Item, param: str) -> dict[str, Any]:
    fields = _checked(item, Call, param)
    call = {
        "id": fields.call_id,
        "type": "function",
        **_unknown(item, Call),
        "function": {"name": fields.name, "arguments": fields.arguments},
    }
    return {"role": "assistant", "tool_calls": [call]}


def _result(item: Item, param: str) -> dict[str, Any]:
    fields = _checked(item, Result, param)
    output = fields.output if isinstance(fields.output, str) else _parts(fields.output, f"{param}.output")
    return {"role": "tool", "tool_call_id": fields.call_id, **_unknown(item, Result), "content": output}


def _thought(item: Item, param: str) -> dict[str, Any]:
    fields = _checked(item, Thought, param)
    if fields.encrypted_content:
        message = "No model here can read encrypted reasoning; leave the item out."
        raise InvalidRequest(message, param=f"{param}.encrypted_content", code="unsupported_parameter")
    text = "".join(str(part.get("text") or "") for part in fields.content or fields.summary)
    return {"role": "assistant", "reasoning_content": text} if text else {"role": "assistant"}


_READERS = {"message": _message, "function_call": _call, "function_call_output": _result, "reasoning": _thought}


def _goes_on(before: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether both are of one message of the model's: thoughts come first, then text, then calls."""
    if before["role"] != "assistant" or said["role"] != "assistant":
        return False
    if "tool_calls" in said:
        return True
    return "content" not in before and "tool_calls" not in before


def _joined(before: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    joined = before | said
    if "tool_calls" in before:
        joined["tool_calls"] = [*before["tool_calls"], *said["tool_calls"]]
    if "reasoning_content" in before and "reasoning_content" in said:
        joined["reasoning_content"] = before["reasoning_content"] + said["reasoning_content"]
    return joined


def _parts(parts: Sequence[Any], param: str) -> list[dict[str, Any]]:
    return [_part(part, f"{param}[{place}]") for place, part in enumerate(parts)]


def _part(part: Any, param: str) -> dict[str, Any]:
    fields = _checked(part, Part, param)
    if fields.type == "input_image":
        return {"type": "image_url", "image_url": _image(fields, param), **_unknown(part, Part)}
    if fields.text is None:
        message = f"'{param}.text' is missing."
        raise InvalidRequest(message, param=f"{param}.text", code="missing_field")
    return {"type": "text", "text": fields.text, **_unknown(part, Part)}


def _image(part: Part, param: str) -> dict[str, Any]:
    if not part.image_url:
        message = "Files are not kept here; send the image itself as 'image_url' with a data: URL."
        raise InvalidRequest(message, param=f"{param}.image_url", code="missing_field")
    detail = {"detail": part.detail} if part.detail and part.detail != "auto" else {}
    return {"url": part.image_url, **detail}


def _unknown(item: Item, shape: type[msgspec.Struct]) -> dict[str, Any]:
    """Fields that are not known travel and count, as everywhere; one that is null asks for nothing."""
    return {
        name: value for name, value in body.unknown(item, shape).items() if value is not None and name not in _NEUTRAL
    }


def _checked(value: Any, shape: type[body.T], param: str) -> body.T:
    """`value` as `shape`. Raises `InvalidRequest` naming the field within the request."""
    try:
        return body.typed(value, shape)
    except InvalidRequest as error:
        inner = error.param
        where = f"{param}.{inner}" if inner else param
        message = str(error).replace(f"'{inner or 'body'}'", f"'{where}'", 1)
        raise InvalidRequest(message, param=where, code=error.code) from error


_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def _shown(item: Item, name: str) -> Item:
    told: Item = {"id": f"{_PREFIXES[item['type']]}_{name}", "status": "completed"}
    told |= {field: value for field, value in item.items() if value is not None}
    if item["type"] == "message" and isinstance(item["content"], str):
        told["content"] = [_text(item["role"], item["content"])]
    if item["type"] == "reasoning":
        told.setdefault("summary", [])
    return told


def _text(role: str, text: str) -> dict[str, Any]:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}
