"""The official Node client drives the real llama.cpp: proof that the driver itself works, whatever the gateway does."""

from typing import Any

import pytest

from tests.clients.node_client import Outcome, run_node

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def outcomes(llamacpp_url: str, model_name: str) -> dict[str, Outcome]:
    """Run every case once."""
    return run_node(f"{llamacpp_url}/v1", model_name)


def test_what_works(outcomes: dict[str, Outcome]) -> None:
    """Chat, both kinds of streams, embeddings and the listing; a stream says what the whole reply says."""
    chat, stream, helper = (value(outcomes, name) for name in ("chat", "stream", "helper"))
    assert chat["text"] == stream["text"] == helper["text"] == helper["seen"]
    assert stream["chunks"] > 2
    assert stream["usage"]["completion_tokens"] == chat["usage"]["completion_tokens"]
    assert value(outcomes, "abort")["aborted"]
    assert value(outcomes, "embeddings")["count"] == 2
    assert value(outcomes, "models")["ids"]


@pytest.mark.parametrize("name", ["noMessages", "malformed"])
def test_errors_arrive_as_the_clients_own(outcomes: dict[str, Outcome], name: str) -> None:
    """A refusal becomes the client's error class, with the status."""
    error = outcomes[name].error
    assert error is not None
    assert error.status is not None
    assert error.name in {"BadRequestError", "InternalServerError"}


def value(outcomes: dict[str, Outcome], name: str) -> dict[str, Any]:
    """Return what a case that must work gave."""
    outcome = outcomes[name]
    assert outcome.ok, (name, outcome.error)
    assert outcome.value is not None
    return outcome.value
