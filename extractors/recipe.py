"""Recipes: what is to be extracted, as data. TOML, or the JSON of a request, in; a checked `Recipe` out."""

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from datetime import date, time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from extractors import answers, checking, deriving, portable, pydantic_schemas
from extractors.errors import RecipeError
from extractors.reading import FRAME, SUFFIX
from extractors.shapes import Schema, is_object

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", re.ASCII)
_MOST: Final = 40
"""Of letters in a name: names of views are made of two of them, and Postgres takes 63."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"name": "class"}):
    """What is to be found in an example."""

    name: str
    text: str
    """The very words of the example."""
    attributes: dict[str, Any] = {}


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text, and what is to be found in it, in the order in which it stands there."""

    text: str
    records: tuple[Record, ...] = ()


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be extracted."""

    name: str = "inline"
    version: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 1
    title: str = ""
    description: str
    """What the model is told."""
    classes: dict[str, Schema] = {}
    """Of each class of records the JSON Schema of its attributes: an object, or nothing but its properties."""
    examples: tuple[Example, ...] = ()

    @property
    def digest(self) -> str:
        """Of all that decides what a model is asked, in hexadecimal."""
        return hashlib.sha256(msgspec.json.encode([self.description, self.classes, self.examples])).hexdigest()

    @property
    def edition(self) -> str:
        """Its version, and the beginning of its digest: whoever edits it makes another one."""
        return f"{self.version}-{self.digest[:12]}"

    @property
    def schema(self) -> Schema:
        """The JSON Schema of a completion."""
        return answers.envelope(self.classes)


def from_toml(text: str, name: str) -> Recipe:
    """The recipe in `text`, which is called `name` unless it says otherwise. Raises `RecipeError`."""
    try:
        said = tomllib.loads(text)
    except RecursionError as error:
        raise RecipeError("It is too deep.", "") from error
    except ValueError as error:  # also for a number of more digits than Python reads
        message = f"It is not TOML: {error}."
        raise RecipeError(message, "") from error
    return from_data({"name": name, **said})


def from_data(data: Any) -> Recipe:
    """The recipe in what was decoded from TOML or JSON. `schema` may stand for `classes`: a JSON Schema, as Pydantic
    makes it of a model. Raises `RecipeError`, which says where it is wrong.
    """
    _check_values(data)
    data = _without_nulls(data)
    if isinstance(data, Mapping) and "schema" in data:
        if "classes" in data:
            raise RecipeError("It has 'schema' and 'classes'; give one of them.", "schema")
        others = {name: value for name, value in data.items() if name != "schema"}
        data = others | {"classes": pydantic_schemas.classes(data["schema"])}
    try:
        return _checked(msgspec.convert(data, Recipe))
    except RecursionError as error:
        raise RecipeError("It is too deep.", "") from error
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at `$")
        raise RecipeError(f"{said}.", path.strip("`.")) from error


def shipped() -> dict[str, Recipe]:
    """Those that come with askonce, by their names."""
    return {name: from_toml(text, name) for name, text in shipped_texts().items()}


def shipped_texts() -> dict[str, str]:
    """Their files, by their names."""
    folder = resources.files("extractors") / "recipes"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {Path(file.name).stem: file.read_text("utf-8") for file in files}


def check_name(name: str, where: str) -> None:
    """Raise `RecipeError` unless a recipe, or a class, can be called so."""
    if len(name) > _MOST or _NAME.fullmatch(name) is None:
        message = f"'{name[:80]}' is no name: up to {_MOST} of a-z, 0-9, '-' and '_', with a letter first."
        raise RecipeError(message, where)


def _checked(recipe: Recipe) -> Recipe:
    check_name(recipe.name, "name")
    if not recipe.description.strip():
        raise RecipeError("It says nothing; tell the model what to extract.", "description")
    if not recipe.classes and not recipe.examples:
        raise RecipeError("It has neither classes nor examples; a model needs one of them.", "examples")
    classes = {name: portable.attributes(schema, f"classes.{name}") for name, schema in recipe.classes.items()}
    classes = classes or deriving.derived([record for example in recipe.examples for record in example.records])
    if not classes:
        raise RecipeError("It names no classes, and its examples have no records: nothing could be found.", "examples")
    for name in classes:
        check_name(name, f"classes.{name}")
        if name.endswith(SUFFIX) or name == FRAME:
            raise RecipeError(f"A class cannot be called '{name}': the answer's own fields are.", f"classes.{name}")
    for number, example in enumerate(recipe.examples):
        _check_example(example, classes, f"examples[{number}]")
    return msgspec.structs.replace(recipe, classes=classes)


def _without_nulls(data: Any) -> Any:
    """The same without fields of a recipe, its examples and their records that are null: they are left out."""
    if not is_object(data):
        return data
    found = {name: value for name, value in data.items() if value is not None}
    for inner in ("examples", "records"):
        if isinstance(found.get(inner), list | tuple):
            found[inner] = [_without_nulls(one) for one in found[inner]]
    return found


def _check_values(data: Any) -> None:
    """Raise `RecipeError` for what TOML or Python has and JSON has not, and for what no database keeps."""
    waiting = [("", data)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(where, name) for name in value]
            waiting += [(f"{where}.{name}".lstrip("."), inner) for name, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{where}[{number}]", inner) for number, inner in enumerate(value)]
        elif isinstance(value, date | time):
            raise RecipeError(f"{value} is a date or a time, which JSON has not; put it in quotes.", where)
        elif (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, str) and "\0" in value):
            raise RecipeError("It is no value that JSON and databases have.", where)


def _check_example(example: Example, classes: Mapping[str, Schema], where: str) -> None:
    for number, record in enumerate(example.records):
        place = f"{where}.records[{number}]"
        if record.name not in classes:
            message = f"The class '{record.name}' is not one of {', '.join(classes)}."
            raise RecipeError(message, f"{place}.class")
        if not record.text.strip() or record.text not in example.text:
            message = f"'{record.text[:80]}' is not what the example's text says, letter for letter."
            raise RecipeError(message, f"{place}.text")
        for problem in checking.problems(record.attributes, classes[record.name]):
            raise RecipeError(problem, f"{place}.attributes")
