"""LangChain, LlamaIndex and instructor ask askonce as they ask OpenAI and Ollama: only the address is another."""

from typing import Any

import pytest

from tests.acceptance.serving import Served
from tests.clients.client_case import Outcomes, problem, value
from tests.clients.python_client import run_libraries

pytestmark = pytest.mark.engines

PARIS = "The capital of France is Paris."


@pytest.fixture(scope="module")
def outcomes(served: Served, model_name: str) -> Outcomes:
    """Every case, once."""
    return run_libraries(served.url, model_name)


def test_langchain_chats(outcomes: Outcomes) -> None:
    """Whole, streamed, in batches and asynchronously, with the usage."""
    said = value(outcomes, "langchain_chat")
    assert said["text"] == said["streamed"] == PARIS
    assert said["batch"] == [PARIS, PARIS]
    assert "Paris" in said["async"]
    assert said["finish"] == "stop"
    assert said["pieces"] > 3
    assert said["usage"]["total_tokens"] == said["usage"]["input_tokens"] + said["usage"]["output_tokens"] > 0


def test_langchain_uses_responses(outcomes: Outcomes) -> None:
    """Following by id and sending everything again are one question."""
    said = value(outcomes, "langchain_responses")
    assert said["text"] == said["streamed"] == PARIS
    assert said["usage"]["output_tokens"] > 0
    assert said["followed"] == said["sent again"]


def test_objects_by_a_schema(outcomes: Outcomes) -> None:
    """By LangChain with either API, and by instructor, also while it grows."""
    for found in (value(outcomes, "langchain_structured"), value(outcomes, "langchain_ollama")["structured"]):
        check_capital(found)
    by_instructor = value(outcomes, "instructor_schema")
    check_capital(by_instructor["whole"])
    assert by_instructor["whole"] == by_instructor["grown"]
    assert by_instructor["steps"] > 1
    assert by_instructor["usage"] > 0


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_langchain_calls_functions(outcomes: Outcomes, api: str) -> None:
    """Whole and streamed the same call, ids and all; its result goes back; objects come as arguments."""
    said = value(outcomes, "langchain_tools")[api]
    (call,) = said["calls"]
    assert call["name"] == "Capital"
    assert call["id"]
    check_capital(call["args"])
    assert said["streamed"] == said["calls"]
    assert said["pieces"] > 2
    assert said["after"]
    check_capital(said["structured"])


def test_langchain_offers_functions_by_ollamas_api(outcomes: Outcomes) -> None:
    """Whatever the model makes of it, a stream says the same."""
    said = value(outcomes, "langchain_ollama_tools")
    assert said["text"] or said["calls"]
    assert (said["streamed"], said["streamed calls"]) == (said["text"], said["calls"])


def test_instructor_calls_functions(outcomes: Outcomes) -> None:
    """Its usual way: an object is what a function is called with, whole, growing, and by responses."""
    said = value(outcomes, "instructor_tools")
    check_capital(said["whole"])
    assert said["finish"] in {"stop", "tool_calls"}
    assert set(said["grown"]) == {"city", "in_europe"}  # growing is another schema: nothing is required
    assert said["steps"] > 1
    check_capital(said["responses"])


def check_capital(found: dict[str, Any]) -> None:
    """Of the schema; what a model this small says of Europe is its own affair."""
    assert found == {"city": found["city"], "in_europe": found["in_europe"]}
    assert found["city"] in {"Paris", "Rome"}
    assert found["in_europe"] in {True, False}


def test_embeddings_are_the_same_whoever_asks(outcomes: Outcomes) -> None:
    """As texts, through both APIs; token numbers, which LangChain sends unless told otherwise, are taken too."""
    langchain, llama_index = (value(outcomes, f"{name}_embeddings") for name in ("langchain", "llama_index"))
    one, two, again = langchain["documents"]
    assert one == again == langchain["query"] != two
    for documents in (llama_index["documents"], value(outcomes, "langchain_ollama")["documents"]):
        assert documents == [pytest.approx(one), pytest.approx(two), pytest.approx(one)]
    assert llama_index["query"] == pytest.approx(one)
    first, second, third = value(outcomes, "langchain_embeddings_of_tokens")["documents"]
    assert first == third != second


def test_langchain_speaks_ollama(outcomes: Outcomes) -> None:
    """Whole and streamed."""
    said = value(outcomes, "langchain_ollama")
    assert said["text"] == said["streamed"] == PARIS
    assert said["usage"]["input_tokens"] > 0


def test_llama_index_chats_and_completes(outcomes: Outcomes) -> None:
    """Conversations, plain prompts by the chat, and texts to continue."""
    said = value(outcomes, "llama_index_chat")
    assert said["text"] == said["streamed"] == said["async"] == said["completed"] == PARIS
    assert said["plain"]


@pytest.mark.parametrize("name", ["langchain_unknown_model", "llama_index_unknown_model"])
def test_a_mistake_is_the_librarys_own_error(outcomes: Outcomes, name: str) -> None:
    """With the status, the code, the field, and the models that there are."""
    error = problem(outcomes, name)
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert "gemma-3-askonce" in str(error.message)
