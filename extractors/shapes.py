"""What JSON Schemas are made of."""

from typing import Any, TypeGuard

Schema = dict[str, Any]


def having(properties: Schema) -> Schema:
    """The schema of an object that may have these properties, and others."""
    return {"type": "object", "properties": properties}


def closed(properties: Schema) -> Schema:
    """The schema of an object that has all of these properties, and no others."""
    return having(properties) | {"required": list(properties), "additionalProperties": False}


def type_of(value: Any) -> str:
    """What JSON Schema calls the type of a value."""
    kinds: dict[type, str] = {
        str: "string",
        bool: "boolean",
        int: "integer",
        float: "number",
        list: "array",
        dict: "object",
    }
    return kinds.get(type(value), "null")


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether JSON calls it an object."""
    return isinstance(value, dict)
