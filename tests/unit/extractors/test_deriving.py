"""Where a recipe has no classes, its examples say what they are."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors import portable
from extractors.errors import RecipeError
from extractors.recipe import from_data


def test_classes_follow_from_examples() -> None:
    """Where none are given, with the types that attributes have there."""
    record = {"class": "drug", "text": "a", "attributes": {"n": 1, "x": "y", "many": ["a"], "sure": True, "r": 1}}
    other = {"class": "drug", "text": "a", "attributes": {"r": 1.5, "x": None}}
    with pytest.raises(RecipeError, match="required"):
        from_data({"description": "d", "examples": [{"text": "a", "records": [record, other]}]})
    found = from_data({"description": "d", "examples": [{"text": "a", "records": [record]}]})
    assert found.classes["drug"]["properties"] == {
        "n": {"type": "integer"},
        "x": {"type": "string"},
        "many": {"type": "array", "items": {"type": "string"}},
        "sure": {"type": "boolean"},
        "r": {"type": "integer"},
    }


def test_classes_follow_from_what_is_in_attributes() -> None:
    """Objects and lists within them, too; who gives the classes that followed has the same recipe."""
    dose = {"amount": 5, "unit": "mg", "at": [1, 2.5], "never": []}
    found = from_data({
        "description": "d",
        "examples": [{"text": "a", "records": [{"class": "drug", "text": "a", "attributes": {"dose": dose}}]}],
    })  # fmt: skip
    assert found.classes["drug"]["properties"]["dose"]["properties"] == {
        "amount": {"type": "integer"},
        "unit": {"type": "string"},
        "at": {"type": "array", "items": {"type": "number"}},
        "never": {"type": "array", "items": {"type": "string"}},
    }
    assert {name: portable.attributes(one, "") for name, one in found.classes.items()} == found.classes


def test_examples_without_records_name_nothing() -> None:
    """Without classes nobody knows what could be found."""
    with pytest.raises(RecipeError, match="nothing could be found") as caught:
        from_data({"description": "d", "examples": [{"text": "abc"}]})
    assert caught.value.where == "examples"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.sampled_from(["a", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=4,
)


@given(said=st.lists(st.dictionaries(st.sampled_from(["p", "q"]), JSON, max_size=2), min_size=1, max_size=3))
def test_what_is_made_of_examples_is_a_recipe_again(said: list[dict[str, Any]]) -> None:
    """So that what was kept of one can be used again, whatever its examples say."""
    examples = [{"text": "abc", "records": [{"class": "a", "text": "abc", "attributes": one}]} for one in said]
    try:
        made = from_data({"description": "d", "examples": examples})
    except RecipeError:
        return
    assert from_data(msgspec.to_builtins(made)) == made
    assert made.digest == from_data(msgspec.to_builtins(made)).digest
