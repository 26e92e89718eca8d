"""`/schema` says what a client must know: which key, and what may stand behind the question mark."""

from typing import Any

import pytest

from gateway.app import create_app
from gateway.config import Config
from gateway.routes import cache


@pytest.fixture(scope="module")
def schema() -> Any:
    """The document."""
    return create_app(Config()).openapi_schema.to_schema()


@pytest.mark.parametrize(
    ("path", "method", "names"),
    [
        ("/v1/cache", "get", {"last", "sample", "model"}),
        ("/v1/cache", "delete", set(cache._SELECTORS)),
        ("/v1/cache/explain", "post", {"path"}),
        ("/v1/cache/{key}", "get", set()),
        ("/v1/responses/{response_id}", "get", {"stream", "starting_after", "include_obfuscation", "include"}),
        ("/v1/responses/{response_id}/input_items", "get", {"limit", "order", "after", "include"}),
    ],
)
def test_what_may_be_asked_is_described(schema: Any, path: str, method: str, names: set[str]) -> None:
    """With a sentence and a type each; none of it must be there."""
    found = [one for one in schema["paths"][path][method].get("parameters", ()) if one["in"] == "query"]
    assert {one["name"] for one in found} == names
    assert all(one["description"] and one["schema"]["type"] and not one.get("required") for one in found)


def test_the_key_is_described(schema: Any) -> None:
    """Everything wants one, sent in either way, but what is for everybody."""
    schemes = schema["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["x-api-key"]["in"], schemes["x-api-key"]["name"]) == ("header", "x-api-key")
    assert {name for one in schema["security"] for name in one} == set(schemes)
    own = {
        path: one["security"] for path, ways in schema["paths"].items() for one in ways.values() if "security" in one
    }
    assert set(own) == {"/", "/healthz", "/readyz"}
    assert all({} in one for one in own.values())
