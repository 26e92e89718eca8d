"""The official clients, used as their documentation says."""

from collections.abc import Iterator
from typing import Any, Literal

import httpx
import ollama
import openai
import pydantic
import pytest

from tests.acceptance.serving import Served

MODEL = "gemma-3-askonce"
FRANCE: list[dict[str, str]] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    """The openai client, pointed at askonce."""
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_chat(client: openai.OpenAI) -> None:
    """A conversation is answered, with usage."""
    reply = client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=0)
    assert "Paris" in (reply.choices[0].message.content or "")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_openai_streaming(client: openai.OpenAI) -> None:
    """A stream has one role, many deltas, one finish reason and the usage that was asked for."""
    stream = client.chat.completions.create(
        model=MODEL, messages=FRANCE, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "Paris" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


def test_openai_completions(client: openai.OpenAI) -> None:
    """A text is continued."""
    reply = client.completions.create(model=MODEL, prompt="Repeat", max_tokens=4, temperature=0)
    assert reply.object == "text_completion"
    assert reply.usage is not None
    assert 1 <= reply.usage.completion_tokens <= 4


def test_openai_embeddings(client: openai.OpenAI) -> None:
    """Floats and base64, which the client asks for by default, are the same numbers."""
    default = client.embeddings.create(model=MODEL, input=["one", "two", "one"])
    floats = client.embeddings.create(model=MODEL, input=["one", "two", "one"], encoding_format="float")
    assert [item.index for item in default.data] == [0, 1, 2]
    assert default.data[0].embedding == default.data[2].embedding
    assert default.data[0].embedding != default.data[1].embedding
    assert default.data[1].embedding == pytest.approx(floats.data[1].embedding)


def test_openai_models(client: openai.OpenAI) -> None:
    """The bundled model is listed and can be looked up."""
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def test_openai_errors(client: openai.OpenAI) -> None:
    """The client raises its own class for each mistake, with the parameter and a sentence."""
    with pytest.raises(openai.NotFoundError, match=MODEL) as unknown:
        client.chat.completions.create(model="gpt-9", messages=FRANCE)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as hot:
        client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=9)
    assert hot.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model=MODEL, messages=[])
    assert empty.value.param == "messages"


def test_openai_sees_where_an_answer_came_from(client: openai.OpenAI) -> None:
    """Raw responses carry the cache's headers."""
    client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=0)
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=FRANCE, temperature=0)
    assert raw.headers["x-askonce-cache"] == "hit"
    assert len(raw.headers["x-askonce-key"]) == 64


def test_openai_responses(client: openai.OpenAI) -> None:
    """Made, streamed, found again and followed."""
    made = client.responses.create(model=MODEL, input=FRANCE[0]["content"], temperature=0)
    assert "Paris" in made.output_text
    assert made.usage is not None
    assert made.usage.output_tokens > 0
    with client.responses.stream(model=MODEL, input=FRANCE[0]["content"], temperature=0) as stream:
        seen = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == seen == made.output_text
    assert client.responses.retrieve(made.id).output_text == made.output_text
    followed = client.responses.create(model=MODEL, input="And of Italy?", previous_response_id=made.id, temperature=0)
    assert followed.output_text


class Capital(pydantic.BaseModel):
    """What is asked for by a schema."""

    city: Literal["Paris", "Rome"]
    in_europe: bool


def test_openai_parses_what_a_schema_asks_for(client: openai.OpenAI) -> None:
    """Both APIs ask the same question, so the second is a hit; a stream's helper parses, too."""
    said: Any = FRANCE
    chat = client.chat.completions.parse(model=MODEL, messages=said, temperature=0, response_format=Capital)
    raw = client.responses.with_raw_response.parse(
        model=MODEL, input=FRANCE[0]["content"], temperature=0, text_format=Capital
    )
    found = chat.choices[0].message.parsed
    assert isinstance(found, Capital)
    assert raw.parse().output_parsed == found
    assert raw.headers["x-askonce-cache"] == "hit"
    with client.responses.stream(model=MODEL, input=FRANCE[0]["content"], temperature=0, text_format=Capital) as stream:
        assert stream.get_final_response().output_parsed == found


async def test_openai_asynchronously(served: Served) -> None:
    """The other client of the package, with both APIs, whole and streamed."""
    said: Any = FRANCE
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        chat = await client.chat.completions.create(model=MODEL, messages=said, temperature=0)
        stream = await client.responses.create(model=MODEL, input=said, temperature=0, stream=True)
        text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
        assert text == chat.choices[0].message.content
        assert [model.id async for model in client.models.list()]


@pytest.fixture
def ollama_client(served: Served) -> Iterator[ollama.Client]:
    """The ollama client, pointed at askonce."""
    with ollama.Client(host=served.url) as client:
        yield client


def test_ollama_chat_and_streaming(ollama_client: ollama.Client) -> None:
    """A conversation, whole and streamed, says the same."""
    whole = ollama_client.chat(MODEL, FRANCE, options={"temperature": 0})
    parts = list(ollama_client.chat(MODEL, FRANCE, stream=True, options={"temperature": 0}))
    assert "Paris" in (whole.message.content or "")
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == "stop"
    assert parts[-1].prompt_eval_count == whole.prompt_eval_count


def test_ollama_generate(ollama_client: ollama.Client) -> None:
    """A prompt is a conversation of one turn; `num_predict` ends it early."""
    reply = ollama_client.generate(MODEL, "What is the capital of France?", options={"temperature": 0})
    short = ollama_client.generate(
        MODEL, "What is the capital of France?", options={"temperature": 0, "num_predict": 1}
    )
    assert "Paris" in reply.response
    assert (reply.done_reason, short.done_reason, short.eval_count) == ("stop", "length", 1)


def test_ollama_embeddings(ollama_client: ollama.Client) -> None:
    """One vector an input, in order."""
    reply = ollama_client.embed(MODEL, ["one", "two", "one"])
    assert len(reply.embeddings) == 3
    assert reply.embeddings[0] == reply.embeddings[2] != reply.embeddings[1]


def test_ollama_lists_and_errors(ollama_client: ollama.Client) -> None:
    """Models are listed; mistakes raise with the status and the sentence."""
    assert MODEL in [model.model for model in ollama_client.list().models]
    with pytest.raises(ollama.ResponseError, match=MODEL) as unknown:
        ollama_client.chat("nope", FRANCE)
    assert unknown.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="temperature") as hot:
        ollama_client.chat(MODEL, FRANCE, options={"temperature": 9})
    assert hot.value.status_code == 400


def test_ollama_streams_a_prompt_and_an_object(ollama_client: ollama.Client) -> None:
    """`generate` as a stream, and by a schema."""
    question = "What is the capital of France?"
    parts = list(ollama_client.generate(MODEL, question, stream=True, options={"temperature": 0}))
    assert "".join(part.response or "" for part in parts) == "The capital of France is Paris."
    found = ollama_client.generate(MODEL, question, format=Capital.model_json_schema(), options={"temperature": 0})
    assert Capital.model_validate_json(found.response).city in {"Paris", "Rome"}


def test_ollama_describes_models(ollama_client: ollama.Client) -> None:
    """What is there, what it can do, and what answers now."""
    shown = ollama_client.show(MODEL)
    assert set(shown.capabilities or ()) == {"completion", "tools", "embedding"}
    assert shown.details is not None
    assert [model.model for model in ollama_client.ps().models] == [MODEL]
    assert len(ollama_client.embeddings(MODEL, "one").embedding) > 1


async def test_ollama_asynchronously(served: Served) -> None:
    """The other client of the package."""
    client = ollama.AsyncClient(host=served.url)
    whole = await client.chat(MODEL, FRANCE, options={"temperature": 0})
    stream = await client.chat(MODEL, FRANCE, stream=True, options={"temperature": 0})
    assert "".join([part.message.content or "" async for part in stream]) == whole.message.content
    await client._client.aclose()


def test_both_dialects_ask_one_question(client: openai.OpenAI, served: Served) -> None:
    """What one client asked, the other need not ask again."""
    question = [{"role": "user", "content": "Repeat: pavoli 31"}]
    client.chat.completions.create(model=MODEL, messages=question, temperature=0, extra_body={"top_k": 40}, top_p=0.9)
    options = {"temperature": 0}
    body = {"model": MODEL, "messages": question, "stream": False, "options": options}
    reply = httpx.post(f"{served.url}/api/chat", json=body, timeout=60)
    assert reply.headers["x-askonce-cache"] == "hit"
