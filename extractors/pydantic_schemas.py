"""The JSON Schema of a model in Pydantic -> the classes in it, each a schema that refers to nothing."""

import re
import unicodedata
from typing import Any, Final

from extractors.errors import RecipeError
from extractors.portable import SAID
from extractors.shapes import Schema, is_object

_DEPTH: Final = 16
_MOST: Final = 5000
"""Of schemas within a schema, when everything that is referred to stands in its place."""
_LETTERS: Final = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
)
"""Those that are not one of ASCII with a mark."""
_TELLING: Final = frozenset({"type", "enum", "const", "anyOf", "properties", "items"})
"""Each says what a value is."""
_ABOUT: Final = frozenset({"$defs", "$schema", "$id", "$comment"})
"""What says something of a schema, and nothing of a value."""
_WORDS: Final = "text"
"""An attribute of this name, as models in Pydantic have it, is the words of the text themselves."""


def classes(schema: Any) -> dict[str, Schema]:
    """The classes in a JSON Schema as Pydantic makes it: of a model with lists of other models a class for each of
    these, of any other model one class. Raises `RecipeError`.
    """
    if is_object(schema) and "$ref" in schema:  # so it begins when a model refers to itself
        schema = schema | _resolved(schema, schema)
    if not is_object(schema) or not is_object(schema.get("properties")):
        raise RecipeError("It is not the JSON Schema of an object with properties.", "schema")
    lists = {name: _sure(_resolved(value, schema)) for name, value in schema["properties"].items()}
    models = {
        name: _resolved(value.get("items", {}), schema) for name, value in lists.items() if value.get("type") == "array"
    }
    inlining = _Inlining(schema)
    if (
        not models
        or len(models) < len(lists)
        or not all(is_object(model.get("properties")) for model in models.values())
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
    there = [one for one in choices if is_object(one) and one.get("type") != "null"]
    return there[0] if len(there) == 1 and there[0].get("type") == "array" else schema


def _resolved(schema: Any, root: Schema) -> Schema:
    """`schema`, or what it refers to."""
    for _ in range(_DEPTH):
        if not is_object(schema):
            raise RecipeError("It is not a JSON Schema.", "schema")
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = _at(root, reference)
    raise RecipeError("It refers to itself.", "schema")


def _at(root: Schema, reference: str) -> Any:
    found: Any = root
    for name in reference.removeprefix("#/").split("/"):
        if not is_object(found) or name not in found:
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
        if not is_object(schema):
            return schema
        found = _resolved(schema, self._root)
        found = found | {name: schema[name] for name in SAID if found is not schema and name in schema}
        whole = {name: value for name, value in found.items() if name not in _ABOUT}
        if "items" in found:
            if found["items"] in ({}, True):
                raise RecipeError("Its items may be anything; say what they are.", "schema")
            whole["items"] = self.of(found["items"], depth + 1)
        if isinstance(found.get("anyOf"), list):
            whole["anyOf"] = [self.of(one, depth + 1) for one in found["anyOf"]]
        if is_object(found.get("properties")):
            whole["properties"] = {name: self.of(value, depth + 1) for name, value in found["properties"].items()}
        return whole


def _without_words(model: Schema, inlining: _Inlining) -> Schema:
    whole = inlining.of(model)
    if not is_object(whole.get("properties")):
        raise RecipeError("It is not the JSON Schema of an object with properties.", "schema")
    for name, value in whole["properties"].items():
        if is_object(value) and not value.keys() & _TELLING:
            raise RecipeError("It may be anything; say what it is.", f"schema.{name}")
    return whole | {"properties": {name: value for name, value in whole["properties"].items() if name != _WORDS}}


def _class_name(title: str) -> str:
    """`MedicationDose` -> `medication_dose`."""
    marked = unicodedata.normalize("NFKD", str(title).translate(_LETTERS))
    plain = "".join(one for one in marked if not unicodedata.combining(one))
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", plain)
    return parted.strip("_").lower() or "record"
