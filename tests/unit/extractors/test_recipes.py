"""Recipes are data: read, checked, and refused with the place that is wrong."""

import contextlib
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors import answers
from extractors.errors import RecipeError
from extractors.recipe import from_data, from_toml, shipped
from gateway.models.training import prompts

PLAIN: dict[str, Any] = {
    "description": "Extract drugs.",
    "classes": {"drug": {"dose": {"type": "string"}, "times": {"type": "integer"}}},
    "examples": [
        {
            "text": "Aspirin 100 mg",
            "records": [{"class": "drug", "text": "Aspirin", "attributes": {"dose": "100 mg", "times": 1}}],
        }
    ],
}


def test_three_come_along() -> None:
    """Each says what it is for, has an example, and a title."""
    found = shipped()
    assert list(found) == ["clinic-notes", "contracts", "invoices"]
    for name, recipe in found.items():
        assert (recipe.name, recipe.version) == (name, 1)
        assert recipe.title
        assert recipe.examples


@pytest.mark.parametrize("recipe", shipped().values(), ids=shipped())
def test_examples_are_answers(recipe: Any) -> None:
    """What the examples give is what the schema asks for, in the order of the text."""
    for example in recipe.examples:
        items = [
            {record.name: record.text, f"{record.name}_attributes": record.attributes} for record in example.records
        ]
        jsonschema_rs.validate(recipe.schema, {"extractions": items})
        places = [example.text.index(record.text) for record in example.records]
        assert places == sorted(places)


def test_who_edits_one_makes_another_edition() -> None:
    """What no model is told does not count; in which order it is told does."""
    before = from_data(PLAIN)
    assert from_data(PLAIN | {"title": "Drugs", "name": "drugs"}).edition == before.edition
    turned = {"drug": dict(reversed(PLAIN["classes"]["drug"].items()))}
    for field, value in (("classes", turned), ("description", "Extract all drugs."), ("version", 2), ("examples", [])):
        assert from_data(PLAIN | {field: value}).edition != before.edition


def test_a_prompt_prints_the_form_that_the_bundled_model_knows() -> None:
    """To the byte."""
    text = {"type": "string"}
    found = from_data({
        "description": "d", "classes": {"medication": {"dosage": text, "frequency": text}, "condition": {}}
    })  # fmt: skip
    said = json.dumps(answers.brief(found.classes), separators=(",", ":"))
    assert said == prompts.schema("clinical")


def test_a_prompt_prints_what_is_said_of_attributes() -> None:
    """And nothing that only grammars need; attributes may be called as that is."""
    inner = {"type": "object", "properties": {"required": {"type": "string", "description": "Whether."}}}
    found = from_data({"description": "d", "classes": {"a": {"many": {"type": "array", "items": inner}}}})
    (item,) = answers.brief(found.classes)["properties"]["extractions"]["items"]["anyOf"]
    assert item == {
        "type": "object",
        "properties": {
            "a": {"type": "string"},
            "a_attributes": {"type": "object", "properties": {"many": {"type": "array", "items": inner}}},
        },
        "required": ["a"],
    }


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "says nothing": ({"description": " "}, "description", "says nothing"),
    "nothing to go by": ({"classes": {}, "examples": []}, "examples", "neither classes nor examples"),
    "an unknown field": ({"exampels": []}, "", "unknown field `exampels`"),
    "a field of another type": ({"examples": "x"}, "examples", "Expected `array`"),
    "words that are not there": (
        {"examples": [{"text": "Aspirin", "records": [{"class": "drug", "text": "aspirin"}]}]},
        "examples[0].records[0].text",
        "letter for letter",
    ),
    "a class that is none": (
        {"examples": [{"text": "a", "records": [{"class": "dog", "text": "a"}]}]},
        "examples[0].records[0].class",
        "not one of drug",
    ),
    "attributes that do not fit": (
        {
            "examples": [
                {"text": "a", "records": [{"class": "drug", "text": "a", "attributes": {"dose": 1, "times": 1}}]}
            ]
        },
        "examples[0].records[0].attributes",
        "dose",
    ),
    "a name that is none": ({"name": "My recipe"}, "name", "is no name"),
    "a class name that is none": ({"classes": {"a b": {}}, "examples": []}, "classes.a b", "is no name"),
    "a class that is the frame": (
        {"classes": {"extractions": {}}, "examples": []},
        "classes.extractions",
        "cannot be called",
    ),
    "what not every engine knows": (
        {"classes": {"drug": {"dose": {"type": "number", "multipleOf": 5}}}, "examples": []},
        "classes.drug.dose",
        "'multipleOf'",
    ),
    "a type that is none": (
        {"classes": {"drug": {"dose": {"type": "text"}}}, "examples": []},
        "classes.drug.dose",
        "no type",
    ),
    "no list of schemas": (
        {"classes": {"drug": {"dose": {"anyOf": 5}}}, "examples": []},
        "classes.drug.dose",
        "'anyOf' is no list",
    ),
    "no list of values": (
        {"classes": {"drug": {"dose": {"enum": "abc"}}}, "examples": []},
        "classes.drug.dose",
        "'enum' is no list",
    ),
    "no type at all": (
        {"classes": {"drug": {"dose": {"type": []}}}, "examples": []},
        "classes.drug.dose",
        "no type ''",
    ),
    "a list or nothing": (
        {"classes": {"drug": {"dose": {"type": ["array", "null"]}}}, "examples": []},
        "classes.drug.dose",
        "no type 'array' here",
    ),
    "a description that is no text": (
        {"classes": {"drug": {"dose": {"type": "string", "description": 5}}}, "examples": []},
        "classes.drug.dose",
        "no text",
    ),
    "two ways at once": ({"schema": {}}, "schema", "one of them"),
}


@pytest.mark.parametrize(("change", "where", "said"), WRONG.values(), ids=WRONG)
def test_it_is_told_what_is_wrong_and_where(change: dict[str, Any], where: str, said: str) -> None:
    """As a path into the recipe."""
    with pytest.raises(RecipeError) as caught:
        from_data(PLAIN | change)
    assert caught.value.where == where
    assert said in str(caught.value)


def test_toml_that_is_none_is_refused() -> None:
    """With what is wrong with it."""
    with pytest.raises(RecipeError, match="not TOML"):
        from_toml("description = ", "x")


@pytest.mark.parametrize(
    ("value", "said"),
    [("2015-01-01", "in quotes"), ("nan", "no value"), ("inf", "no value"), ('"\\u0000"', "no value")],
)
def test_values_that_json_has_not_are_refused(value: str, said: str) -> None:
    """TOML has them: dates, and numbers that are none."""
    record = f'[[examples.records]]\nclass = "a"\ntext = "x"\nattributes = {{ b = {value} }}\n'
    with pytest.raises(RecipeError, match=said) as caught:
        from_toml(f'description = "d"\n[[examples]]\ntext = "x"\n{record}', "x")
    assert caught.value.where == "examples[0].records[0].attributes.b"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "properties",
                        "items",
                        "anyOf",
                        "enum",
                        "$ref",
                        "schema",
                        "classes",
                        "description",
                        "examples",
                    ]
                )
                | st.text(),
                inner,
            )
        ),
    )
)
def test_whatever_it_is_it_is_read_or_refused(data: Any) -> None:
    """And never anything else."""
    for said in (data, {"description": "d", "classes": data}, {"description": "d", "schema": data}):
        with contextlib.suppress(RecipeError):
            assert from_data(said).schema["type"] == "object"


def test_a_file_gives_its_name() -> None:
    """Unless it says another one."""
    assert from_toml('description = "x"\n[classes.a]\n', "some-name").name == "some-name"
    assert from_toml('name = "other"\ndescription = "x"\n[classes.a]\n', "some-name").name == "other"


@pytest.mark.parametrize(
    "attribute",
    [
        {"type": "string", "items": 5},
        {"type": "string", "properties": {"a": {"$ref": "http://127.0.0.1:1/secret"}}},
        {"type": "string", "additionalProperties": 5},
        {"items": 5, "anyOf": [{"type": "string"}]},
        {"anyOf": [{"type": "string"}], "type": "bogus"},
        {"items": {"type": "banana"}},
        {"type": ["string", "string"]},
        {"type": "string", "enum": [1, 2]},
        {"type": "integer", "const": "a"},
        {"enum": [10**40]},
        {"enum": [["a"]]},
        {"type": "object"},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
        {"$ref": "file:///etc/passwd"},
        {"type": None},
    ],
)
def test_what_could_never_work_is_refused_where_it_stands(attribute: dict[str, Any]) -> None:
    """And nothing that it refers to is fetched."""
    with pytest.raises(RecipeError) as caught:
        from_data({"description": "d", "classes": {"drug": {"dose": attribute}}})
    assert caught.value.where.startswith("classes.drug.dose")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "version = " + "9" * 5000])
def test_files_that_no_reader_takes_are_told_as_such(text: str) -> None:
    """Whatever Python makes of them."""
    with pytest.raises(RecipeError):
        from_toml(text, "x")
