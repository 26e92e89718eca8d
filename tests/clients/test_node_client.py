"""The official Node client drives askonce, and the real llama.cpp too: proof that the driver itself works."""

import json

import pytest

from tests.acceptance.serving import Served
from tests.clients.client_case import Outcomes, problem, value
from tests.clients.node_client import run_node

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def llamacpp(llamacpp_url: str, model_name: str) -> Outcomes:
    """Run every case once against llama.cpp."""
    return run_node(f"{llamacpp_url}/v1", model_name)


@pytest.fixture(scope="module")
def askonce(served: Served, model_name: str) -> Outcomes:
    """Run every case once against the gateway."""
    return run_node(f"{served.url}/v1", model_name)


@pytest.fixture(params=["llamacpp", "askonce"])
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """Return what came of either."""
    return request.getfixturevalue(request.param)


def test_what_works(outcomes: Outcomes, model_name: str) -> None:
    """Chat, both kinds of streams, embeddings and the listing; a stream says what the whole reply says."""
    chat, stream, helper = (value(outcomes, name) for name in ("chat", "stream", "helper"))
    assert chat["text"]
    assert chat["text"] == stream["text"] == helper["text"] == helper["seen"]
    assert chat["finish"] == stream["finish"]
    assert stream["chunks"] > 2
    assert stream["usage"]["completion_tokens"] == chat["usage"]["completion_tokens"]
    assert value(outcomes, "abort")["aborted"]
    embeddings = value(outcomes, "embeddings")
    assert embeddings["count"] == 2
    assert embeddings["dimensions"] > 1
    assert model_name in value(outcomes, "models")["ids"]


@pytest.mark.parametrize("name", ["noMessages", "malformed"])
def test_errors_arrive_as_the_clients_own(outcomes: Outcomes, name: str) -> None:
    """A refusal becomes the client's error class, with the status."""
    error = problem(outcomes, name)
    assert error.status is not None
    assert error.name in {"BadRequestError", "InternalServerError"}


def test_askonce_answers_by_responses(askonce: Outcomes) -> None:
    """Made, streamed, put together by the client's helper, found again, followed and forgotten."""
    made, stream, helper = (value(askonce, name) for name in ("responses", "responsesStream", "responsesHelper"))
    assert made["text"]
    assert made["text"] == stream["text"] == helper["text"] == helper["seen"] == made["found"]
    assert stream["first"] == "response.created"
    assert stream["last"] == "response.incomplete"  # so few tokens were asked for
    assert made["items"] == ["What is the capital of France?"]
    assert made["followed"]
    assert made["cache"] == "hit"  # the chat completions before it asked the same
    assert problem(askonce, "responsesForgotten").status == 404
    refused = problem(askonce, "responsesBuiltIn")
    assert (refused.status, refused.param) == (400, "tools[0].type")


def test_askonce_calls_functions(askonce: Outcomes) -> None:
    """By either API, whole and by the client's stream helpers; the result goes back. Both ask the same question."""
    chat, response = value(askonce, "tools"), value(askonce, "responsesTools")
    assert chat["finish"] in {"stop", "tool_calls"}
    for said in (chat, response):
        assert said["call"] == said["streamed"] == chat["call"]
        assert said["call"]["name"] == "weather"
        found = json.loads(said["call"]["arguments"])
        assert set(found) == {"city", "unit"}
        assert found["unit"] in {"celsius", "fahrenheit"}
        assert len(said["pieces"]) > 1
        assert "".join(said["pieces"]) == said["call"]["arguments"]
        assert said["after"]
    assert response["cache"] == "hit"


def test_askonce_says_which_model_is_unknown(askonce: Outcomes) -> None:
    """A model that nobody serves is the client's NotFoundError."""
    error = problem(askonce, "unknownModel")
    assert (error.name, error.status) == ("NotFoundError", 404)
    assert (error.code, error.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("name", "param"), [("badTemperature", "temperature"), ("noMessages", "messages"), ("malformed", None)]
)
def test_askonce_says_what_is_wrong_with_a_request(askonce: Outcomes, name: str, param: str | None) -> None:
    """What is wrong with a request is the client's BadRequestError, with the field."""
    error = problem(askonce, name)
    assert (error.name, error.status, error.param) == ("BadRequestError", 400, param)
    assert error.type == "invalid_request_error"
    assert error.message


def test_askonce_says_what_its_cache_did(askonce: Outcomes) -> None:
    """The client reads the header: the same question again is a hit with the same text."""
    first, again = value(askonce, "chat"), value(askonce, "again")
    assert first["headers"]["x-askonce-cache"] == "miss"
    assert again["headers"]["x-askonce-cache"] == "hit"
    assert again["text"] == first["text"]
    assert first["usage"].pop("askonce") == {"provenance": "generated", "cached": False}
    assert again["usage"].pop("askonce") == {"provenance": "exact", "cached": True, "cost_usd": 0}
    assert again["usage"] == first["usage"]
