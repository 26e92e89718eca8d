"""What a reply may be -> how that is said to each engine, as tightly as it can be."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from gateway.backends.schemas import Schema
from gateway.backends.tools.offered import Offer, Tool
from gateway.backends.tools.reading import CLOSE, OPEN

Manner = Literal["structural", "guided", "format", "plain"]
"""vLLM's structural tags; LLGuidance, in a llama.cpp that has it; Ollama's `format`; OpenAI's `response_format`.

The last two take a schema for the whole reply and nothing else.
"""

GUIDED: Final = "%llguidance"
"""What a grammar for LLGuidance begins with."""
MOST_CALLS: Final = 16
"""In one reply, where calls are forced: a small model would not find an end."""
_COMPOSING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "not", "patternProperties", "dependentSchemas"})
_VALUES = frozenset({"enum", "const", "default", "examples"})
"""Where a schema holds plain values, in which nothing is a reference."""
_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":", "lenient": True}
"""Of LLGuidance: no white space to fill an answer with. What it cannot constrain is checked afterwards."""


class Format(msgspec.Struct, frozen=True):
    """A `response_format` that was checked."""

    said: Mapping[str, Any]
    """As it came."""
    schema: Schema


class Constraint(msgspec.Struct, frozen=True):
    """What a reply has to be: JSON of a schema, or text in which calls are well-formed, or one of both."""

    json: Any = None
    """The schema; None for any text."""
    format: Format | None = None
    """The client's own words for it, where it has any."""
    calls: Any = None
    """The schema of a call between tags; None where there are none."""
    several: bool = True


def of_calls(offer: Offer, wanted: Format | None) -> Constraint:
    """What calls of these tools look like: a list where there must be one, tagged ones in a text otherwise."""
    definitions: dict[str, Any] = {}
    one = {"anyOf": [_call(tool, f"t{place}", definitions) for place, tool in enumerate(offer.tools)]}
    shared = {"$defs": definitions} if definitions else {}
    if offer.choice != "required":
        text = wanted.schema.said if wanted else None
        return Constraint(text, wanted, calls={**one, **shared}, several=offer.several)
    most = MOST_CALLS if offer.several else 1
    return Constraint({"type": "array", "items": one, "minItems": 1, "maxItems": most, **shared})


def said(constraint: Constraint, manner: Manner) -> dict[str, Any] | None:
    """The fields that say `constraint` to an engine; None where its manner has no words for it."""
    match manner:
        case "structural":
            return {"response_format": {"type": "structural_tag", "format": _structural(constraint)}}
        case "guided":
            return {"grammar": f"{GUIDED} {{}}\n" + _guided(constraint)}
        case "format" if constraint.calls is None:
            return {"format": "json" if _any_object(constraint) else constraint.json}
        case "plain" if constraint.calls is None:
            described = {"name": "answer", "schema": constraint.json, "strict": True}
            plain = constraint.format.said if constraint.format else {"type": "json_schema", "json_schema": described}
            return {"response_format": plain}
        case _:
            return None


def _any_object(constraint: Constraint) -> bool:
    return constraint.format is not None and constraint.format.said["type"] == "json_object"


def _structural(constraint: Constraint) -> dict[str, Any]:
    # White space has no bound otherwise, and a model that finds nothing to say fills the rest of its answer with it.
    json = {"type": "json_schema", "json_schema": constraint.json, "max_whitespace_cnt": 1}
    if constraint.calls is None:
        return json
    content = {"type": "json_schema", "json_schema": constraint.calls, "max_whitespace_cnt": 1}
    tags = [{"type": "tag", "begin": OPEN, "content": content, "end": CLOSE}]
    once = {"stop_after_first": not constraint.several}
    if constraint.json is None:
        return {"type": "triggered_tags", "triggers": [OPEN], "tags": tags, **once}
    calls = {"type": "tags_with_separator", "tags": tags, "separator": "\n", "at_least_one": True, **once}
    return {"type": "or", "elements": [json, calls]}


def _guided(constraint: Constraint) -> str:
    whole = _percent_json(constraint.json)
    if constraint.calls is None:
        return f"start: {whole}"
    body = f'body: {_percent_json(constraint.calls)} "{CLOSE}"'
    if constraint.json is not None:
        more = "+" if constraint.several else ""
        return f'start: {whole} | ("{OPEN}" body){more}\n{body}'
    more = "(open body)* TEXT" if constraint.several else "TEXT | open body"
    return f"start: {more}\nopen[lazy]: /(?s:.*){OPEN}/\n{body}\nTEXT: /(?s:.*)/ & ~/(?s:.*){OPEN}(?s:.*)/"


def _percent_json(schema: Any) -> str:
    schema = cast("dict[str, Any]", schema) if isinstance(schema, dict) else {"allOf": [schema]}
    return "%json " + json.dumps({**schema, "x-guidance": _COMPACT})


def _call(tool: Tool, place: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one call. What the tool's own schema refers to is put into `definitions`."""
    schema: dict[str, Any] = tool.schema.said
    moved = _moved(schema, f"#/$defs/{place}")
    if moved != schema:
        definitions[place] = moved
        moved = {name: value for name, value in moved.items() if name not in {"$defs", "definitions"}}
    moved = {name: value for name, value in moved.items() if name not in {"$schema", "$id"}}
    members = {"name": {"const": tool.name}, "arguments": _closed(moved)}
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Of an object, and without what a model would fill at random where `schema` leaves that open."""
    schema.setdefault("type", "object")
    if "properties" in schema and not _COMPOSING & schema.keys():
        schema.setdefault("additionalProperties", False)
    return schema


def _moved(schema: Any, root: str, *, names: bool = False) -> Any:
    """A copy in which what pointed to the root points to `root`. In `names`, the keys are those of a client."""
    if isinstance(schema, dict):
        inner = cast("dict[str, Any]", schema)
        if not names and isinstance(target := inner.get("$ref"), str) and (target == "#" or target.startswith("#/")):
            inner = {**inner, "$ref": root + target[1:]}
        return {
            name: value if name in _VALUES and not names else _moved(value, root, names=not names and name in _NAMED)
            for name, value in inner.items()
        }
    if isinstance(schema, list):
        return [_moved(each, root) for each in cast("Sequence[Any]", schema)]
    return schema


_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
