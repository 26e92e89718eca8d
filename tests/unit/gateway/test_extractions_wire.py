"""Requests for extractions: what is left out, what is null, and what is wrong."""

import json
from typing import Any

import msgspec
import pytest

from gateway.errors import InvalidRequest
from gateway.wire import extractions
from gateway.wire.extractions import Options

NEEDED = {"model": "m", "recipe": "r", "text": "Took aspirin."}
OPTIONS: dict[str, Any] = {
    "passes": 2,
    "chunk_chars": 100,
    "context_chars": 5,
    "attempts": 3,
    "parallel": 4,
    "temperature": 0.5,
    "seed": 7,
    "max_tokens": 9,
    "constrained": False,
}
LEFT_OUT = {
    "body": [*OPTIONS, "metadata", "document_id", "messages", "stream", "background", "user"],
    "extract": [*OPTIONS, "metadata", "source"],
    "document": ["metadata"],
}


def decoded(kind: str, **fields: Any) -> Any:
    """What a request of this kind is understood as, which has these fields besides those it needs."""
    if kind == "extract":
        return extractions.extract({"recipe": "r"} | fields)
    if kind == "document":
        return extractions.document(json.dumps({"text": "Took aspirin."} | fields).encode())
    return extractions.decode(json.dumps(NEEDED | fields).encode())


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in LEFT_OUT.items() for name in names])
def test_null_is_the_same_as_left_out(kind: str, name: str) -> None:
    """Whatever the field, in each place that has it."""
    assert decoded(kind, **{name: None}) == decoded(kind)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("body", "model", "'model' must be a string, not null."),
        ("body", "recipe", "'recipe' must be a string or an object, not null."),
        ("extract", "recipe", "'recipe' must be a string or an object, not null."),
        ("document", "text", "'text' must be a string, not null."),
    ],
)
def test_what_is_needed_cannot_be_null(kind: str, name: str, said: str) -> None:
    """It is told apart from what is missing."""
    with pytest.raises(InvalidRequest) as caught:
        decoded(kind, **{name: None})
    assert (str(caught.value), caught.value.code) == (said, "invalid_value")
    assert caught.value.param == (f"extract.{name}" if kind == "extract" else name)


def test_a_text_that_is_null_is_none() -> None:
    """Another source counts; without one it is told that there is none."""
    assert decoded("body", text=None, document_id="doc_1").document_id == "doc_1"
    with pytest.raises(InvalidRequest, match="this has none of them") as caught:
        decoded("body", text=None)
    assert (caught.value.param, caught.value.code) == ("text", "invalid_value")


@pytest.mark.parametrize("kind", ["body", "extract"])
def test_options_are_read_in_both_places(kind: str) -> None:
    """All of them, and those that are left out are as documented."""
    found = decoded(kind, **OPTIONS)
    wanted = found if kind == "extract" else found.wanted
    assert msgspec.to_builtins(wanted.options) == OPTIONS
    found = decoded(kind)
    assert (found if kind == "extract" else found.wanted).options == Options()


@pytest.mark.parametrize("kind", ["body", "extract"])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("passes", 9, "must be at most 8"),
        ("chunk_chars", 99, "must be at least 100"),
        ("context_chars", -1, "must be at least 0"),
        ("attempts", 2.5, "must be a whole number, not a fraction"),
        ("parallel", "x", "must be a whole number, not a string"),
        ("temperature", 3, "must be at most 2.0"),
        ("seed", [], "must be a whole number, not a list"),
        ("max_tokens", 0, "must be at least 1"),
        ("constrained", "yes", "must be true or false, not a string"),
        ("metadata", 5, "must be an object, not a whole number"),
    ],
)
def test_what_is_wrong_is_named(kind: str, name: str, value: Any, said: str) -> None:
    """With what it must be; a bound is the same in both places."""
    with pytest.raises(InvalidRequest) as caught:
        decoded(kind, **{name: value})
    assert (str(caught.value), caught.value.code) == (f"'{name}' {said}.", "invalid_value")
    assert caught.value.param == (f"extract.{name}" if kind == "extract" else name)


def test_a_misspelt_field_is_refused_though_it_is_null() -> None:
    """Nothing is passed over."""
    with pytest.raises(InvalidRequest, match="'pases' is not known here") as caught:
        decoded("body", pases=None)
    assert (caught.value.param, caught.value.code) == ("pases", "unknown_parameter")
