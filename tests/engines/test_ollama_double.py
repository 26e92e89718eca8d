"""The double of Ollama speaks the documented API: the official client and plain HTTP get what the documents say."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import ollama
import pytest

pytestmark = pytest.mark.engines

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0, "num_predict": 12}


@pytest.fixture
def client(ollama_url: str) -> Iterator[ollama.Client]:
    """Return the official client."""
    with ollama.Client(host=ollama_url, trust_env=False) as client:
        yield client


def test_chat_streams_what_it_says_at_once(client: ollama.Client, model_name: str) -> None:
    """The pieces of a stream make up the whole reply, and the last piece has the figures."""
    pieces = list(client.chat(model_name, QUESTION, stream=True, options=GREEDY))
    whole = client.chat(model_name, QUESTION, options=GREEDY)
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces[:-1]] == [False] * (len(pieces) - 1)
    last = pieces[-1]
    assert last.done
    assert last.done_reason in {"stop", "length"}
    assert last.prompt_eval_count == whole.prompt_eval_count
    assert last.eval_count == whole.eval_count
    assert (last.total_duration or 0) > (last.eval_duration or 0) > 1000  # nanoseconds


def test_generate_renders_a_chat_and_returns_its_context(client: ollama.Client, model_name: str) -> None:
    """A prompt is the user's turn; the context continues it; a raw prompt is sent as it is and has none."""
    whole = client.generate(model_name, "What is the capital of France?", options=GREEDY)
    assert whole.response == client.chat(model_name, QUESTION, options=GREEDY).message.content
    assert whole.context
    again = client.generate(model_name, "And of Spain?", context=whole.context, options=GREEDY)
    assert (again.prompt_eval_count or 0) > (whole.prompt_eval_count or 0)
    raw = client.generate(model_name, "What", raw=True, options=GREEDY)
    assert raw.context is None
    assert (raw.prompt_eval_count or 0) < (whole.prompt_eval_count or 0)


def test_options_reach_the_engine(client: ollama.Client, model_name: str) -> None:
    """The length limit, the seed and stop strings do what they say."""
    short = client.chat(model_name, QUESTION, options={"num_predict": 3, "temperature": 0})
    assert (short.eval_count, short.done_reason) == (3, "length")
    wild = {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "seed": 7, "num_predict": 12}
    first, second = (client.chat(model_name, QUESTION, options=wild).message.content for _ in range(2))
    other = client.chat(model_name, QUESTION, options={**wild, "seed": 8}).message.content
    assert first == second != other
    text = client.chat(model_name, QUESTION, options=GREEDY).message.content or ""
    stop = text[2]
    stopped = client.chat(model_name, QUESTION, options={**GREEDY, "stop": [stop]})
    assert stopped.message.content == text.split(stop)[0]
    assert stopped.done_reason == "stop"


def test_format_constrains_the_answer(client: ollama.Client, model_name: str) -> None:
    """A schema holds, however little the model knows; this one leaves no room for white space."""
    reply = client.chat(model_name, QUESTION, format={"enum": ["b", "c"]}, options={"temperature": 2.0})
    assert json.loads(reply.message.content or "") in {"b", "c"}
    free = client.generate(model_name, "JSON, please.", format="json", options={"num_predict": 4})
    assert (free.response or "").lstrip().startswith("{")


def test_logprobs(client: ollama.Client, model_name: str) -> None:
    """Each token carries its probability, the alternatives that were asked for, and no id."""
    reply = client.generate(model_name, "Hello", logprobs=True, top_logprobs=3, options={**GREEDY, "num_predict": 4})
    assert reply.logprobs
    for entry in reply.logprobs:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs or ()) == 3


def test_embed(client: ollama.Client, model_name: str) -> None:
    """Vectors have length one, one per text; `dimensions` cuts and scales again."""
    reply = client.embed(model_name, ["one", "two"])
    assert len(reply.embeddings) == 2
    assert sum(x * x for x in reply.embeddings[0]) == pytest.approx(1, abs=1e-4)
    cut = client.embed(model_name, "one", dimensions=8)
    assert len(cut.embeddings[0]) == 8
    assert sum(x * x for x in cut.embeddings[0]) == pytest.approx(1, abs=1e-4)


def test_listings_name_the_weights(client: ollama.Client, model_name: str, model_file: Path) -> None:
    """The digest is that of the file; `show` tells the architecture."""
    digest = hashlib.sha256(model_file.read_bytes()).hexdigest()
    (listed,) = client.list().models
    (loaded,) = client.ps().models
    assert (listed.model, listed.digest) == (f"{model_name}:latest", digest)
    assert loaded.context_length == 2048
    shown = client.show(model_name)
    assert shown.capabilities == ["completion"]
    assert (shown.modelinfo or {})["general.architecture"] == "gemma3"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/api/chat", {"model": "nope", "messages": QUESTION}, 404, "model 'nope' not found"),
        ("/api/show", {"model": "nope"}, 404, "model 'nope' not found"),
        ("/api/chat", {"messages": QUESTION}, 400, "model is required"),
        ("/api/chat", {"model": "MODEL", "messages": "text"}, 400, None),
        (
            "/api/chat",
            {"model": "MODEL", "messages": QUESTION, "think": True},
            400,
            '"MODEL" does not support thinking',
        ),
        ("/api/chat", {"model": "MODEL", "messages": QUESTION, "top_logprobs": 21}, 400, None),
        ("/api/embed", {"model": "MODEL", "input": 3}, 400, None),
        ("/api/generate", {"model": "MODEL", "prompt": "x", "raw": True, "system": "y"}, 400, None),
    ],
)
def test_errors(
    ollama_url: str, model_name: str, path: str, body: dict[str, object], status: int, message: str | None
) -> None:
    """An error is an object with one text, under the documented status."""
    text = json.dumps(body).replace("MODEL", model_name)
    reply = httpx.post(ollama_url + path, content=text, trust_env=False)
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]
    assert message is None or reply.json()["error"] == message.replace("MODEL", model_name)


def test_client_raises_its_own_error(client: ollama.Client) -> None:
    """The official client understands the error object."""
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        client.chat("nope", QUESTION)
    assert caught.value.status_code == 404


def test_plain_http_details(ollama_url: str, model_name: str) -> None:
    """Liveness, version, unknown paths, an empty chat, bad JSON and the type of a stream are Ollama's."""
    with httpx.Client(base_url=ollama_url, trust_env=False) as http:
        assert http.get("/").text == "Ollama is running"
        assert list(http.get("/api/version").json()) == ["version"]
        assert http.get("/nowhere").status_code == 404
        assert http.get("/api/chat").status_code == 405
        assert http.post("/api/chat", content=b"").json() == {"error": "missing request body"}
        assert http.post("/api/chat", content=b"{").status_code == 400
        assert http.post("/api/chat", json={"model": model_name}).json()["done_reason"] == "load"
        streamed = http.post("/api/generate", json={"model": model_name, "prompt": "Hi", "options": GREEDY})
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["done"] for line in streamed.text.splitlines()][-2:] == [False, True]


def test_long_chats_lose_their_oldest_turns(ollama_url: str, model_name: str) -> None:
    """Too long a chat is cut in silence, unless the request forbids it."""
    long = [{"role": role, "content": "word " * 100} for role in ("user", "assistant") * 60]
    body = {"model": model_name, "messages": [*long, *QUESTION], "stream": False, "options": {"num_predict": 1}}
    assert httpx.post(f"{ollama_url}/api/chat", json=body, timeout=120, trust_env=False).status_code == 200
    refused = httpx.post(f"{ollama_url}/api/chat", json={**body, "truncate": False}, trust_env=False)
    assert refused.status_code == 400


def test_leaving_stops_the_engine(ollama_url: str, llamacpp_url: str, model_name: str) -> None:
    """A client that closes its connection frees the engine's slot at once."""
    body = {"model": model_name, "prompt": "Count.", "options": {"num_predict": 2000, "temperature": 1.5}}
    with httpx.stream("POST", f"{ollama_url}/api/generate", json=body, trust_env=False) as reply:
        next(reply.iter_lines())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and is_busy(llamacpp_url):
        time.sleep(0.05)
    assert not is_busy(llamacpp_url)


def is_busy(llamacpp_url: str) -> bool:
    """Tell whether llama.cpp is working on anything."""
    return any(slot["is_processing"] for slot in httpx.get(f"{llamacpp_url}/slots", trust_env=False).json())
