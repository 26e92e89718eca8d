"""JSON Schemas of records: what every engine can be held to, of what people and Pydantic write."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, TypeGuard

import jsonschema_rs

from extractors.reading import FRAME, SUFFIX

Schema = dict[str, Any]

_TYPES: Final = ("string", "integer", "number", "boolean", "null", "array", "object")
_SCALAR: Final = _TYPES[:5]
"""Those that may be one of several; what is in lists and objects has to be said in an `anyOf`."""
_PLAIN: Final = frozenset({"type", "enum", "const", "anyOf", "items", "properties", "required", "additionalProperties"})
"""What vLLM's, llama.cpp's and Ollama's grammars all know. Others are refused, passed over, or held to by one alone."""
_SAID: Final = frozenset({"title", "description", "default", "examples"})
"""What is for people, and for the prompt."""
_DEPTH: Final = 16
_WORDS: Final = "text"
"""An attribute of this name, as models in Pydantic have it, is the words of the text themselves."""


class RecipeError(ValueError):
    """A recipe is not valid. `where`: the place in it, as `classes.medication.dosage`; empty for all of it."""

    def __init__(self, message: str, where: str) -> None:
        super().__init__(message)
        self.where = where


class Record(Protocol):
    """What was found."""

    @property
    def name(self) -> str:
        """Its class."""
        ...

    @property
    def attributes(self) -> dict[str, Any]:
        """What is said of it."""
        ...


def envelope(classes: Mapping[str, Schema]) -> Schema:
    """The schema of a whole answer: a list of records, each of one of these classes."""
    records = [_record(name, attributes) for name, attributes in classes.items()]
    items = records[0] if len(records) == 1 else {"anyOf": records}
    return _closed({FRAME: {"type": "array", "items": items}})


def attributes(schema: Any, where: str) -> Schema:
    """The schema of a class's attributes as all engines take it: an object with these properties, and no others. It may
    be written as an object, or as its properties alone. Raises `RecipeError` for what not all engines can be held to.
    """
    if not _is_object(schema):
        raise RecipeError("It is not a JSON Schema.", where)
    whole = schema if schema.get("type") == "object" or "properties" in schema else {"properties": schema}
    return _portable({"type": "object", **whole}, where)


def classes(schema: Any) -> dict[str, Schema]:
    """The classes in a JSON Schema as Pydantic makes it: of a model with lists of other models a class for each of
    these, of any other model one class. Raises `RecipeError`.
    """
    if not _is_object(schema) or not _is_object(schema.get("properties")):
        raise RecipeError("It is not the JSON Schema of an object with properties.", "schema")
    lists = {name: _resolved(value, schema) for name, value in schema["properties"].items()}
    models = {
        name: _resolved(value.get("items", {}), schema) for name, value in lists.items() if value.get("type") == "array"
    }
    if models and len(models) == len(lists) and all("properties" in model for model in models.values()):
        return {
            _class_name(model.get("title") or name): _without_words(model, schema) for name, model in models.items()
        }
    return {_class_name(schema.get("title") or "record"): _without_words(schema, schema)}


def derived(records: Iterable[Record]) -> dict[str, Schema]:
    """Classes with the attributes that these have, each of the types that it has there."""
    found: dict[str, dict[str, set[str]]] = {}
    for record in records:
        own = found.setdefault(record.name, {})
        for name, value in record.attributes.items():
            own.setdefault(name, set()).add(_type_of(value))
    return {
        name: _closed({attribute: _of_types(types) for attribute, types in own.items()}) for name, own in found.items()
    }


def problems(value: Any, schema: Schema) -> list[str]:
    """What is wrong with `value`, a sentence each."""
    validator = jsonschema_rs.Draft202012Validator(schema)
    return [_sentence(error) for error in validator.iter_errors(value)]


def _sentence(error: Any) -> str:
    path = ".".join(map(str, error.instance_path))
    return f"{path + ': ' if path else ''}{error.message}."


def _record(name: str, schema: Schema) -> Schema:
    return _closed({name: {"type": "string", "minLength": 1}, name + SUFFIX: schema})


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _portable(schema: Any, where: str) -> Schema:
    if not _is_object(schema):
        raise RecipeError("It is not a JSON Schema.", where)
    for name in schema:
        if name not in _PLAIN | _SAID:
            message = f"'{name}' is not something that every engine can hold a model to; say it in the description."
            raise RecipeError(message, where)
    kept = {name: value for name, value in schema.items() if name in _PLAIN | {"description"}}
    if "anyOf" in kept:
        if "properties" in kept:
            raise RecipeError("It has 'anyOf' beside 'properties'; not every engine knows what that means.", where)
        if not isinstance(kept["anyOf"], list) or not kept["anyOf"]:
            raise RecipeError("Its 'anyOf' is no list of schemas.", where)
        kept["anyOf"] = [_portable(one, where) for one in kept["anyOf"]]
        return kept
    return _typed(kept, where)


def _typed(schema: Schema, where: str) -> Schema:
    types = schema.get("type", "string" if "enum" not in schema and "const" not in schema else None)
    if not isinstance(schema.get("enum", [""]), list) or not schema.get("enum", [""]):
        raise RecipeError("Its 'enum' is no list of values.", where)
    _check_types(types, where)
    schema = schema if types is None else schema | {"type": types}
    if types == "array":
        schema["items"] = _portable(schema.get("items", {}), f"{where}[]")
    if types != "object":
        return schema
    properties: Any = schema.get("properties", {})
    if not _is_object(properties):
        raise RecipeError("Its properties are not an object.", where)
    inner = {name: _portable(value, f"{where}.{name}") for name, value in properties.items()}
    said = {"description": schema["description"]} if "description" in schema else {}
    return said | _closed(inner)


def _check_types(types: Any, where: str) -> None:
    known = _SCALAR if isinstance(types, list) else (*_TYPES, None)
    for one in (types or [""]) if isinstance(types, list) else [types]:
        if one not in known:
            message = f"There is no type '{one}' here; these are: {', '.join(map(str, filter(None, known)))}."
            raise RecipeError(message, where)


def _resolved(schema: Any, root: Schema) -> Schema:
    """`schema`, or what it refers to."""
    for _ in range(_DEPTH):
        if not _is_object(schema):
            raise RecipeError("It is not a JSON Schema.", "schema")
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = _at(root, reference)
    raise RecipeError("It refers to itself.", "schema")


def _at(root: Schema, reference: str) -> Any:
    found: Any = root
    for name in reference.removeprefix("#/").split("/"):
        if not _is_object(found) or name not in found:
            raise RecipeError(f"There is nothing at '{reference}'.", "schema")
        found = found[name]
    return found


def _inlined(schema: Any, root: Schema, depth: int = 0) -> Any:
    """`schema` with what it refers to in its place."""
    if depth > _DEPTH:
        raise RecipeError("It is too deep; refer to nothing that refers back.", "schema")
    if isinstance(schema, list):
        return [_inlined(one, root, depth + 1) for one in schema]
    if not _is_object(schema):
        return schema
    return {
        name: _inlined(value, root, depth + 1) for name, value in _resolved(schema, root).items() if name != "$defs"
    }


def _without_words(model: Schema, root: Schema) -> Schema:
    whole = _inlined(model, root)
    return whole | {"properties": {name: value for name, value in whole["properties"].items() if name != _WORDS}}


def _class_name(title: str) -> str:
    """`MedicationDose` -> `medication_dose`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", title)
    return parted.strip("_").lower() or "record"


def _type_of(value: Any) -> str:
    kinds: dict[type, str] = {
        str: "string",
        bool: "boolean",
        int: "integer",
        float: "number",
        list: "array",
        dict: "object",
    }
    return kinds.get(type(value), "null")


def _of_types(types: set[str]) -> Schema:
    if types == {"array"}:
        return {"type": "array", "items": {"type": "string"}}
    if types == {"integer", "number"}:
        return {"type": "number"}
    return {"type": next(iter(types))} if len(types) == 1 else {"type": sorted(types)}


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
