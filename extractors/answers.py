"""The classes of a recipe -> the JSON Schema of a whole answer: for grammars, and for prompts."""

from collections.abc import Mapping
from typing import Any, Final

from extractors.reading import FRAME, SUFFIX
from extractors.shapes import Schema, closed, having

_GRAMMAR: Final = frozenset({"required", "additionalProperties"})
"""What a grammar needs to be told, and a reader of the prompt does not."""


def envelope(classes: Mapping[str, Schema]) -> Schema:
    """The schema of a whole answer: a list of records, each of one of these classes."""
    records = [_record(name, attributes) for name, attributes in classes.items()]
    items = records[0] if len(records) == 1 else {"anyOf": records}
    return closed({FRAME: {"type": "array", "items": items}})


def brief(classes: Mapping[str, Schema]) -> Schema:
    """The schema of a whole answer as a prompt prints it: `envelope` without what only grammars need. The bundled model
    was trained on this form, to the byte.
    """
    records: list[Schema] = [
        having({name: {"type": "string"}, name + SUFFIX: _readable(attributes)}) | {"required": [name]}
        for name, attributes in classes.items()
    ]
    return having({FRAME: {"type": "array", "items": {"anyOf": records}}}) | {"required": [FRAME]}


def _record(name: str, schema: Schema) -> Schema:
    return closed({name: {"type": "string", "minLength": 1}, name + SUFFIX: schema})


def _readable(schema: Any) -> Any:
    """`schema` without what only grammars need."""
    if isinstance(schema, list):
        return [_readable(one) for one in schema]
    kept = {name: value for name, value in schema.items() if name not in _GRAMMAR}
    kept |= {name: _readable(schema[name]) for name in ("items", "anyOf") if name in schema}
    if "properties" in schema:
        kept["properties"] = {name: _readable(value) for name, value in schema["properties"].items()}
    return kept
