"""LangChain, LlamaIndex and instructor ask askonce as they ask OpenAI and Ollama: only the address is another."""

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
    paris = {"city": "Paris", "in_europe": True}
    assert value(outcomes, "langchain_structured") == paris
    assert value(outcomes, "langchain_ollama")["structured"] == paris
    by_instructor = value(outcomes, "instructor_schema")
    assert by_instructor["whole"] == by_instructor["grown"] == paris
    assert by_instructor["steps"] > 1
    assert by_instructor["usage"] > 0


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
