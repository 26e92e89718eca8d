"""Models in Pydantic, and the JSON Schemas that they have, become classes of records."""

from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel, Field

from extractors.errors import RecipeError
from extractors.recipe import from_data


class Dose(BaseModel):
    """How much."""

    amount: float
    unit: str | None = None


class MedicationOrder(BaseModel):
    """One medication."""

    text: str
    dose: Dose
    tags: list[str] = Field(default_factory=list, description="Words.")


class Note(BaseModel):
    """All of them."""

    orders: list[MedicationOrder]


@pytest.mark.parametrize("model", [MedicationOrder, Note])
def test_pydantic_makes_classes(model: type[BaseModel]) -> None:
    """Of one model, or of one with lists of others; what it calls `text` is the words themselves."""
    found = from_data({"description": "d", "schema": model.model_json_schema()})
    assert list(found.classes) == ["medication_order"]
    good = {"dose": {"amount": 5, "unit": None}, "tags": ["a"]}
    item = {"medication_order": "five", "medication_order_attributes": good}
    jsonschema_rs.validate(found.schema, {"extractions": [item]})
    for wrong in (item | {"x": 1}, {"medication_order": ""}, item | {"medication_order_attributes": {"dose": 5}}):
        assert not jsonschema_rs.is_valid(found.schema, {"extractions": [wrong]})


class Größe(BaseModel):
    """How tall."""

    cm: int


class Visit(BaseModel):
    """With two lists of the same."""

    before: list[Größe]
    after: list[Größe]


def named(title: str, properties: dict[str, Any] | None = None) -> dict[str, Any]:
    """The recipe of a model of this title."""
    schema = {"type": "object", "title": title, "properties": properties or {}}
    return {"description": "d", "schema": schema}


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Größe", "grosse"),
        ("MedicationDose", "medication_dose"),
        ("CaféÆrø", "cafe_aero"),
        ("薬", "record"),
        ("", "record"),
    ],
)
def test_titles_become_names(title: str, name: str) -> None:
    """In letters that a name may have."""
    assert list(from_data(named(title)).classes) == [name]


def test_lists_that_nobody_could_tell_apart_are_refused() -> None:
    """Their records would have the same class: two lists of one model, or of two of the same name."""
    with pytest.raises(RecipeError, match="called 'grosse'") as caught:
        from_data({"description": "d", "schema": Visit.model_json_schema()})
    assert caught.value.where == "schema.properties.after"
    lists = {
        name: {"type": "array", "items": {"title": "Item", "type": "object", "properties": {name: {"type": "string"}}}}
        for name in ("here", "there")
    }
    with pytest.raises(RecipeError, match="called 'item'"):
        from_data(named("Both", lists))


def test_attributes_may_be_called_as_parts_of_schemas() -> None:
    """Also as what holds the models that others refer to."""
    names = ("$defs", "$ref", "properties", "items", "anyOf", "enum", "title")
    found = from_data(named("A", {name: {"type": "string"} for name in names}))
    assert list(found.classes["a"]["properties"]) == list(names)


class Twice(BaseModel):
    """What it is made of is described where it is used."""

    dose: Dose = Field(description="The first one.")


def test_what_is_said_of_a_reference_is_kept() -> None:
    """Beside what it refers to."""
    found = from_data({"description": "d", "schema": Twice.model_json_schema()})
    dose = found.classes["twice"]["properties"]["dose"]
    assert dose["description"] == "The first one."
    assert list(dose["properties"]) == ["amount", "unit"]


def test_a_schema_that_grows_without_measure_is_refused() -> None:
    """Each step refers twice to the next one: 2 to the 14 schemas, said in fifteen."""
    steps = {
        f"S{number}": {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/S{number + 1}"} for side in ("left", "right")},
        }
        for number in range(14)
    }
    schema = {**steps["S0"], "$defs": steps | {"S14": {"type": "string"}}}
    with pytest.raises(RecipeError, match="more than 5000 schemas"):
        from_data({"description": "d", "schema": schema})


class Tree(BaseModel):
    """It has itself in it."""

    children: "list[Tree]"


@pytest.mark.parametrize("schema", [Tree.model_json_schema(), {"properties": {"a": {"$ref": "#/x"}}}, {}, [], "x"])
def test_a_schema_that_cannot_be_one_is_refused(schema: Any) -> None:
    """It refers to itself, or to nothing, or is none."""
    with pytest.raises(RecipeError):
        from_data({"description": "d", "schema": schema})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"type": "array", "items": {"properties": []}}}},
        {"properties": {"a": {"type": "array", "items": {"properties": None}}}},
        {"title": "T", "properties": {"a": {"title": "A"}}},
        {"title": "T", "properties": {"a": {"type": "array", "items": {}}}},
    ],
)
def test_schemas_that_say_nothing_are_refused(schema: dict[str, Any]) -> None:
    """With where that is."""
    with pytest.raises(RecipeError):
        from_data({"description": "d", "schema": schema})


def test_what_a_schema_says_of_itself_is_passed_over() -> None:
    """Most that make schemas say by which standard."""
    said = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:x", "$comment": "c"}
    made = from_data(
        named("A", {"x": {"type": "string"}}) | {"schema": {**named("A", {"x": {"type": "string"}})["schema"], **said}}
    )
    assert list(made.classes) == ["a"]
