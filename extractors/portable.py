"""A JSON Schema as people write it -> one that every engine can be held to, or what is wrong with it."""

from typing import Any, Final

from extractors.errors import RecipeError
from extractors.shapes import Schema, closed, is_object, type_of

_TYPES: Final = ("string", "integer", "number", "boolean", "null", "array", "object")
_SCALAR: Final = _TYPES[:5]
"""Those that may be one of several; what is in lists and objects has to be said in an `anyOf`."""
_PLAIN: Final = frozenset({"type", "enum", "const", "anyOf", "items", "properties", "required", "additionalProperties"})
"""What vLLM's, llama.cpp's and Ollama's grammars all know. Others are refused, passed over, or held to by one alone."""
SAID: Final = frozenset({"title", "description", "default", "examples"})
"""What is for people, and for the prompt."""
_OF_TYPE: Final = {
    "array": frozenset({"type", "items"}),
    "object": frozenset({"type", "properties", "required", "additionalProperties"}),
}
_OF_SCALARS: Final = frozenset({"type", "enum", "const"})
_LARGEST: Final = 2**53 - 1


def attributes(schema: Any, where: str) -> Schema:
    """The schema of a class's attributes as all engines take it: an object with these properties, and no others. It may
    be written as an object, or as its properties alone. Raises `RecipeError` for what not all engines can be held to.
    """
    if not is_object(schema):
        raise RecipeError("It is not a JSON Schema.", where)
    whole = schema if schema.get("type") == "object" or "properties" in schema else {"properties": schema}
    return _portable({"type": "object", **whole}, where)


def _portable(schema: Any, where: str) -> Schema:
    if not is_object(schema):
        raise RecipeError("It is not a JSON Schema.", where)
    for name in schema:
        if name not in _PLAIN | SAID:
            message = f"'{name}' is not something that every engine can hold a model to; say it in the description."
            raise RecipeError(message, where)
    if not isinstance(schema.get("description", ""), str):
        raise RecipeError("Its description is no text.", where)
    said = {"description": schema["description"]} if "description" in schema else {}
    kept = {name: value for name, value in schema.items() if name in _PLAIN}
    return said | (_any(kept, where) if "anyOf" in kept else _typed(kept, where))


def _any(schema: Schema, where: str) -> Schema:
    if beside := sorted(schema.keys() - {"anyOf"}):
        message = f"It has 'anyOf' beside '{beside[0]}'; not every engine knows what that means."
        raise RecipeError(message, where)
    if not isinstance(schema["anyOf"], list) or not schema["anyOf"]:
        raise RecipeError("Its 'anyOf' is no list of schemas.", where)
    return {"anyOf": [_portable(one, where) for one in schema["anyOf"]]}


def _typed(schema: Schema, where: str) -> Schema:
    types = schema["type"] if "type" in schema else _untold(schema)
    if types is not None or "type" in schema:
        _check_types(types, where)
    _expect(schema, _OF_TYPE.get(types if isinstance(types, str) else "", _OF_SCALARS), where)
    if types == "array":
        return {"type": "array", "items": _portable(schema.get("items", {}), f"{where}[]")}
    if types == "object":
        return closed(_properties(schema, where))
    named = {"type": types} if types else {}
    if "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        raise RecipeError("Its 'enum' is no list of values.", where)
    for value in [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]:
        _check_value(value, types, where)
    return named | {name: schema[name] for name in ("enum", "const") if name in schema}


def _untold(schema: Schema) -> str | None:
    """The type of what has none: it follows from the rest, and without that it is a text."""
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else None if "enum" in schema or "const" in schema else "string"


def _expect(schema: Schema, known: frozenset[str], where: str) -> None:
    if strange := sorted(schema.keys() - known):
        message = f"'{strange[0]}' says nothing of such a value; take it out, or say another 'type'."
        raise RecipeError(message, where)


def _properties(schema: Schema, where: str) -> Schema:
    if schema.get("additionalProperties", False) is not False:
        raise RecipeError("It may have any properties; name those that it has.", where)
    properties: Any = schema.get("properties")
    if not is_object(properties):
        raise RecipeError("Its properties are not an object; name those that it has.", where)
    return {name: _portable(value, f"{where}.{name}") for name, value in properties.items()}


def _check_value(value: Any, types: Any, where: str) -> None:
    kind = type_of(value)
    wanted = types if isinstance(types, list) else [types]
    fits = types is None or kind in wanted or (kind == "integer" and "number" in wanted)
    if kind not in _SCALAR or not fits:
        message = f"'{str(value)[:40]}' is not of its type."
        raise RecipeError(message, where)
    if kind == "integer" and abs(value) > _LARGEST:
        message = f"'{str(value)[:40]}' is a larger number than JSON has in every language."
        raise RecipeError(message, where)


def _check_types(types: Any, where: str) -> None:
    known = _SCALAR if isinstance(types, list) else _TYPES
    for one in (types or [""]) if isinstance(types, list) else [types]:
        if one not in known:
            message = f"There is no type '{str(one)[:40]}' here; these are: {', '.join(known)}."
            raise RecipeError(message, where)
    if isinstance(types, list) and len(set(types)) < len(types):
        raise RecipeError("It has the same type twice.", where)
