"""JSON Schemas of records: what every engine can be held to, of what people and Pydantic write."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol, TypeGuard

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
_GRAMMAR: Final = frozenset({"required", "additionalProperties"})
"""What a grammar needs to be told, and a reader of the prompt does not."""
_DEPTH: Final = 16
_MOST: Final = 5000
"""Of schemas within a schema, when everything that is referred to stands in its place."""
_LETTERS: Final = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
)
"""Those that are not one of ASCII with a mark."""
_OF_TYPE: Final = {
    "array": frozenset({"type", "items"}),
    "object": frozenset({"type", "properties", "required", "additionalProperties"}),
}
_OF_SCALARS: Final = frozenset({"type", "enum", "const"})
_TELLING: Final = frozenset({"type", "enum", "const", "anyOf", "properties", "items"})
"""Each says what a value is."""
_ABOUT: Final = frozenset({"$defs", "$schema", "$id", "$comment"})
"""What says something of a schema, and nothing of a value."""
_LARGEST: Final = 2**53 - 1
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


def brief(classes: Mapping[str, Schema]) -> Schema:
    """The schema of a whole answer as a prompt prints it: `envelope` without what only grammars need. The bundled model
    was trained on this form, to the byte.
    """
    records: list[Schema] = [
        _object({name: {"type": "string"}, name + SUFFIX: _readable(attributes)}) | {"required": [name]}
        for name, attributes in classes.items()
    ]
    return _object({FRAME: {"type": "array", "items": {"anyOf": records}}}) | {"required": [FRAME]}


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
    lists = {name: _sure(_resolved(value, schema)) for name, value in schema["properties"].items()}
    models = {
        name: _resolved(value.get("items", {}), schema) for name, value in lists.items() if value.get("type") == "array"
    }
    inlining = _Inlining(schema)
    if (
        not models
        or len(models) < len(lists)
        or not all(_is_object(model.get("properties")) for model in models.values())
    ):
        return {_class_name(schema.get("title") or ""): _without_words(schema, inlining)}
    found: dict[str, Schema] = {}
    for field, model in models.items():
        name = _class_name(model.get("title") or field)
        if name in found:
            message = f"Two of its lists have records called '{name}', which nobody could tell apart; rename one model."
            raise RecipeError(message, f"schema.properties.{field}")
        found[name] = _without_words(model, inlining)
    return found


def _sure(schema: Schema) -> Schema:
    """What may be left out, as it is when it is there."""
    choices: Any = schema.get("anyOf")
    if not isinstance(choices, list):
        return schema
    there = [one for one in choices if _is_object(one) and one.get("type") != "null"]
    return there[0] if len(there) == 1 and there[0].get("type") == "array" else schema


def derived(records: Iterable[Record]) -> dict[str, Schema]:
    """Classes with the attributes that these have, each of the types that it has there."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault(record.name, []).append(record.attributes)
    return {name: _of_objects(said) for name, said in found.items()}


def problems(value: Any, schema: Schema) -> list[str]:
    """What is wrong with `value`, a sentence each."""
    return list(misfits(validator(schema), value))


def validator(schema: Schema) -> Any:
    """What tells whether a value is as `schema` wants it. It fetches nothing, whatever a schema refers to."""
    return jsonschema_rs.Draft202012Validator(schema, retriever=_nothing_outside)


def misfits(validator: Any, value: Any) -> Iterator[str]:
    """What is wrong with a value, a sentence each."""
    try:
        for error in validator.iter_errors(value):
            yield sentence(error)
    except (ValueError, RecursionError) as error:
        yield f"It cannot be checked: {str(error)[:80]}."


def _nothing_outside(uri: str) -> NoReturn:
    message = f"'{uri}' is outside the schema"
    raise ValueError(message)


def sentence(error: Any) -> str:
    """What a validator found wrong, and where."""
    path = ".".join(map(str, error.instance_path))
    return f"{path + ': ' if path else ''}{error.message}."


def _record(name: str, schema: Schema) -> Schema:
    return _closed({name: {"type": "string", "minLength": 1}, name + SUFFIX: schema})


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _closed(properties: Schema) -> Schema:
    return _object(properties) | {"required": list(properties), "additionalProperties": False}


def forgiving(schema: Any) -> Any:
    """`schema` for what is said already: what is not said of a record is not held against it."""
    kept = {name: value for name, value in schema.items() if name != "required"}
    if "items" in schema:
        kept["items"] = forgiving(schema["items"])
    if "anyOf" in schema:
        kept["anyOf"] = [forgiving(one) for one in schema["anyOf"]]
    if "properties" in schema:
        kept["properties"] = {name: forgiving(value) for name, value in schema["properties"].items()}
    return kept


def _readable(schema: Any) -> Any:
    """`schema` without what only grammars need."""
    if isinstance(schema, list):
        return [_readable(one) for one in schema]
    kept = {name: value for name, value in schema.items() if name not in _GRAMMAR}
    kept |= {name: _readable(schema[name]) for name in ("items", "anyOf") if name in schema}
    if "properties" in schema:
        kept["properties"] = {name: _readable(value) for name, value in schema["properties"].items()}
    return kept


def _portable(schema: Any, where: str) -> Schema:
    if not _is_object(schema):
        raise RecipeError("It is not a JSON Schema.", where)
    for name in schema:
        if name not in _PLAIN | _SAID:
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
        return _closed(_properties(schema, where))
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
    if not _is_object(properties):
        raise RecipeError("Its properties are not an object; name those that it has.", where)
    return {name: _portable(value, f"{where}.{name}") for name, value in properties.items()}


def _check_value(value: Any, types: Any, where: str) -> None:
    kind = _type_of(value)
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


class _Inlining:
    """Puts what the schemas of `root` refer to in its place. All of them together are bounded: schemas that refer to
    others twice double with each step.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MOST

    def of(self, schema: Any, depth: int = 0) -> Any:
        """`schema`, whole. Raises `RecipeError`."""
        self._left -= 1
        if depth > _DEPTH:
            raise RecipeError("It is too deep; refer to nothing that refers back.", "schema")
        if self._left < 0:
            message = f"With all it refers to it has more than {_MOST} schemas; refer to less, or to it less often."
            raise RecipeError(message, "schema")
        if not _is_object(schema):
            return schema
        found = _resolved(schema, self._root)
        found = found | {name: schema[name] for name in _SAID if found is not schema and name in schema}
        whole = {name: value for name, value in found.items() if name not in _ABOUT}
        if "items" in found:
            if found["items"] in ({}, True):
                raise RecipeError("Its items may be anything; say what they are.", "schema")
            whole["items"] = self.of(found["items"], depth + 1)
        if isinstance(found.get("anyOf"), list):
            whole["anyOf"] = [self.of(one, depth + 1) for one in found["anyOf"]]
        if _is_object(found.get("properties")):
            whole["properties"] = {name: self.of(value, depth + 1) for name, value in found["properties"].items()}
        return whole


def _without_words(model: Schema, inlining: _Inlining) -> Schema:
    whole = inlining.of(model)
    if not _is_object(whole.get("properties")):
        raise RecipeError("It is not the JSON Schema of an object with properties.", "schema")
    for name, value in whole["properties"].items():
        if _is_object(value) and not value.keys() & _TELLING:
            raise RecipeError("It may be anything; say what it is.", f"schema.{name}")
    return whole | {"properties": {name: value for name, value in whole["properties"].items() if name != _WORDS}}


def _class_name(title: str) -> str:
    """`MedicationDose` -> `medication_dose`."""
    marked = unicodedata.normalize("NFKD", str(title).translate(_LETTERS))
    plain = "".join(one for one in marked if not unicodedata.combining(one))
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", plain)
    return parted.strip("_").lower() or "record"


def _of_objects(said: Sequence[dict[str, Any]]) -> Schema:
    names = dict.fromkeys(name for one in said for name in one)
    return _closed({name: _of_values([one[name] for one in said if name in one]) for name in names})


def _of_values(values: Sequence[Any]) -> Schema:
    types = {_type_of(value) for value in values}
    if types == {"object"}:
        return _of_objects(values)
    if types == {"array"}:
        items = [item for value in values for item in value]
        return {"type": "array", "items": _of_values(items) if items else {"type": "string"}}
    if types == {"integer", "number"}:
        return {"type": "number"}
    if types & {"array", "object"}:
        return {"anyOf": [_of_values([one for one in values if _type_of(one) == kind]) for kind in sorted(types)]}
    return {"type": next(iter(types))} if len(types) == 1 else {"type": sorted(types)}


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


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
