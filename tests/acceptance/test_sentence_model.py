"""A real sentence model: all-MiniLM-L6-v2 on the embedded llama.cpp, asked through `askonce serve`."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from gateway.config import BackendConfig
from tests.acceptance.in_thread import Gateway
from tests.acceptance.serving import Served
from tests.engines import minilm_install
from tests.engines.bert_reference import Reference

pytestmark = pytest.mark.engines

MODEL = "all-minilm-l6-v2"
SIZE = 384
CONTEXT_TOKENS = 512
TEXTS = {
    "a question": "How old is the moon?",
    "German": "Wie groß ist München? Ärger, Öl, Übung",
    "French": "Café crème, s'il vous plaît : où est l'hôtel ?",
    "Chinese": "你好世界,今天天气怎么样?",
    "Russian": "Привет, как дела? ё й",
    "signs": "snake_case_name + 3.14 € £5 ½ x² — “quotes” … 1,000,000.50 km/h",
    "white space": "  a\tb\n\nc\u200bd ",
    "no word that it knows": "😀",
    "several sentences": "The train leaves at nine. It does not stop in Lyon. Who sells tickets on board?",
    "nearly too long": "word " * (CONTEXT_TOKENS - 2),
}
Vectors = NDArray[np.float64]


@pytest.fixture(scope="session")
def reference(sentence_file: Path) -> Reference:
    """The same model, computed with NumPy."""
    del sentence_file  # installed together
    return Reference(minilm_install.FOLDER)


@pytest.fixture
def client(sentences: Served) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=f"{sentences.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def post(server: Served | Gateway, path: str = "/v1/embeddings", **body: Any) -> httpx.Response:
    """Ask for vectors."""
    return httpx.post(server.url + path, json={"model": MODEL, **body}, timeout=120)


def vectors(reply: httpx.Response) -> Vectors:
    """Those in a reply, in the order of its indices, which is the one they were asked for in."""
    assert reply.status_code == 200, reply.text
    data = reply.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return np.array([item["embedding"] for item in data])


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_vectors_are_those_of_the_model(sentences: Served, reference: Reference, text: str) -> None:
    """384 numbers of length one, as computed independently, and as many tokens as the text has."""
    reply = post(sentences, input=text)
    [found] = vectors(reply)
    assert found.shape == (SIZE,)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert found @ reference.vector(text) > 0.9999
    assert reply.json()["usage"]["prompt_tokens"] == len(reference.tokens(text))


def test_published_similarities(sentences: Served) -> None:
    """Those that the documentation of sentence-transformers prints for this model."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    found = vectors(post(sentences, input=texts))
    published = np.array([[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]])
    assert found @ found.T == pytest.approx(published, abs=1e-3)


def test_a_text_is_embedded_the_same_beside_others(sentences: Served) -> None:
    """In one call with short and long ones as well as alone; none of them was kept before."""
    texts = [f"{number} " + "and so on " * (number * 7 % 23) for number in range(24)]
    together = vectors(post(sentences, input=texts))
    steering = {"cache-control": "no-cache"}
    for text, beside in zip(texts, together, strict=True):
        body = {"model": MODEL, "input": text}
        [alone] = vectors(httpx.post(f"{sentences.url}/v1/embeddings", json=body, headers=steering, timeout=60))
        assert alone @ beside > 0.99999


class Listening:
    """Notes which inputs go to the server in which call."""

    def __init__(self, backend: Any) -> None:
        self.calls: list[list[str]] = []
        self._read = backend._server.read
        backend._server.read = self._noted

    async def _noted(self, path: str, content: bytes | None = None) -> bytes:
        if path == "/v1/embeddings":
            self.calls.append(msgspec.json.decode(content or b"")["input"])
        return await self._read(path, content)


def test_a_mixed_batch_asks_for_exactly_what_is_missing(sentences: Served, gateway: Callable[..., Gateway]) -> None:
    """Of 256 inputs half are kept, here and there; the others are asked for in one call, in the order they stand in."""
    socket = f"unix:{sentences.data_dir / 'run' / 'llama.sock'}"
    other = gateway(backends=(BackendConfig(kind="llamacpp", model=MODEL, url=socket, kv_unified=True),))
    listening = Listening(other.parts.router.model(MODEL).replicas[0].backend)
    texts = [f"Item {number * 37 % 256}: what about {number * 91 % 256} of these?" for number in range(256)]
    kept = [text for number, text in enumerate(texts) if number * 53 % 256 < 128]
    missing = [text for text in texts if text not in set(kept)]
    assert len(kept) == len(missing) == 128
    before = dict(zip(reversed(kept), vectors(post(other, input=list(reversed(kept)))), strict=True))
    assert listening.calls == [list(reversed(kept))]
    reply = post(other, input=texts)
    assert listening.calls[1:] == [missing]
    assert reply.headers["x-askonce-hits"] == "128/256"
    found = vectors(reply)
    assert all((found[texts.index(text)] == vector).all() for text, vector in before.items())
    alone = vectors(post(sentences, input=missing[:4]))
    assert (found[[texts.index(text) for text in missing[:4]]] * alone).sum(axis=1) == pytest.approx(1, abs=1e-4)
    again = post(other, input=[*reversed(texts), texts[0]])
    assert (again.headers["x-askonce-cache"], len(listening.calls)) == ("hit", 2)
    assert (vectors(again) == found[[*reversed(range(256)), 0]]).all()


def test_an_input_that_occurs_twice_is_asked_for_once(sentences: Served, gateway: Callable[..., Gateway]) -> None:
    """And stands at both its places."""
    socket = f"unix:{sentences.data_dir / 'run' / 'llama.sock'}"
    other = gateway(backends=(BackendConfig(kind="llamacpp", model=MODEL, url=socket, kv_unified=True),))
    listening = Listening(other.parts.router.model(MODEL).replicas[0].backend)
    first, second, third = vectors(post(other, input=["left", "right", "left"]))
    assert listening.calls == [["left", "right"]]
    assert (first == third).all()
    assert (first != second).any()


def test_base64_is_the_same_numbers(sentences: Served, client: openai.OpenAI) -> None:
    """As 32-bit floats; OpenAI's client asks for them so by itself, and reads them."""
    texts = ["one", "two"]
    floats = vectors(post(sentences, input=texts, encoding_format="float"))
    reply = post(sentences, input=texts, encoding_format="base64").json()
    coded = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in reply["data"]]
    assert (np.array(coded) == floats.astype(np.float32)).all()
    read = [item.embedding for item in client.embeddings.create(model=MODEL, input=texts).data]
    assert (np.array(read) == floats.astype(np.float32)).all()


@pytest.mark.parametrize("dimensions", [128, SIZE, 1024])
def test_dimensions_are_refused(sentences: Served, dimensions: int) -> None:
    """llama.cpp would ignore them, and this model was not trained to be cut: nobody is given what was not asked for."""
    refused = post(sentences, input="Hi", dimensions=dimensions)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == ("dimensions", "unsupported_parameter")
    assert "leave it out" in error["message"]


def test_a_text_that_is_too_long_is_refused(sentences: Served) -> None:
    """With the number of its tokens; what stands beside it in the call is not harmed."""
    refused = post(sentences, input=["beside a long one", "word " * CONTEXT_TOKENS])
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == ("input", "context_length_exceeded")
    assert f"{CONTEXT_TOKENS + 2} tokens" in error["message"]
    assert f"at most {CONTEXT_TOKENS} " in error["message"]
    assert vectors(post(sentences, input="beside a long one")).shape == (1, SIZE)


def test_ollamas_face_cuts_a_text_that_is_too_long(sentences: Served, reference: Reference) -> None:
    """To what the model reads, as Ollama does: its vector is that of its beginning."""
    beginning = "word " * (CONTEXT_TOKENS - 2)
    reply = post(sentences, "/api/embed", input=beginning + "and the rest " * 200)
    assert reply.status_code == 200, reply.text
    [found] = np.array(reply.json()["embeddings"])
    assert found @ reference.vector(beginning) > 0.9999


@pytest.mark.parametrize("stream", [False, True])
def test_it_answers_no_chat(sentences: Served, stream: bool) -> None:
    """That is said, once for all, and does not count as a fault: vectors are given as before."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    for _ in range(8):
        refused = httpx.post(f"{sentences.url}/v1/chat/completions", json=body, timeout=60)
        assert refused.status_code == 404
        error = refused.json()["error"]
        assert (error["param"], error["code"]) == ("model", "model_does_not_answer")
        assert "only embeds texts" in error["message"]
    assert vectors(post(sentences, input=f"after eight refusals {stream}")).shape == (1, SIZE)
