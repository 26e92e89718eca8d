"""llama.cpp as a child: the bundled model answers on a private socket, a bad file gets a sentence."""

import array
import asyncio
import math
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import app
from gateway.backends.llamacpp_child import LlamaOptions, llamacpp
from gateway.backends.llamacpp_server import embedded_tokens, read_header
from gateway.canonical import Request, Vector
from gateway.config import BackendConfig
from gateway.errors import BackendRefused
from gateway.models.source import BUNDLED_PATH
from storage.embedded.folder import DataFolder, claimed
from storage.errors import EmbeddedError


@pytest.fixture
def folder() -> Iterator[DataFolder]:
    path = Path(tempfile.mkdtemp(prefix="ao-", dir="/tmp"))
    with claimed(path) as folder:
        yield folder
    shutil.rmtree(path)


async def test_it_chats_and_embeds(folder: DataFolder) -> None:
    """One server does both, under the alias, with metrics, on a socket that only we can open."""
    async with llamacpp(folder, BUNDLED_PATH, "the-alias") as path:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://llamacpp", timeout=60) as client:
            question = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
            answer = (await client.post("/v1/chat/completions", json=question)).json()
            assert answer["model"] == "the-alias"
            assert answer["choices"][0]["message"]["role"] == "assistant"
            embedded = (await client.post("/v1/embeddings", json={"input": ["a", "b"]})).json()
            assert len(embedded["data"]) == 2
            assert (await client.get("/metrics")).is_success
            assert (await client.get("/props")).json()["total_slots"] == 4
    assert not (folder.run / "llamacpp.pid").exists()


def cosine(one: Vector, other: Vector) -> float:
    """Of two vectors."""
    left, right = array.array("f", one.values), array.array("f", other.values)
    return math.fsum(a * b for a, b in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


async def test_a_text_is_embedded_the_same_beside_others(folder: DataFolder) -> None:
    """Of whatever length they are, in one call or in several at the same time."""
    texts = [" ".join(["Paris is the capital of France"] * (1 + number * 7 % 11)) for number in range(12)]
    async with llamacpp(folder, BUNDLED_PATH, "m", options=LlamaOptions(context_tokens=1024)) as path:
        config = BackendConfig(kind="llamacpp", model="m", url=f"unix:{path}", kv_unified=True)
        backend = app.BUILD["llamacpp"](config)
        try:
            asked = [Request("embedding", "m", {"input": text}, {}, {}) for text in texts]
            alone = [(await backend.embed([one]))[0] for one in asked]
            together = await backend.embed(asked)
            beside = await asyncio.gather(*(backend.embed([one]) for one in asked))
            for first, second, (third,) in zip(alone, together, beside, strict=True):
                assert cosine(first, second) > 0.9999
                assert cosine(first, third) > 0.9999
        finally:
            await backend.aclose()


async def test_long_inputs_are_embedded(folder: DataFolder) -> None:
    """As long as a slot's context, in one batch; what is longer is refused as too long."""
    options = LlamaOptions(context_tokens=2048)
    async with llamacpp(folder, BUNDLED_PATH, "m", options=options) as path:
        backend = app.BUILD["llamacpp"](BackendConfig(kind="llamacpp", model="m", url=f"unix:{path}"))
        try:
            whole = Request("embedding", "m", {"input": [50] * 2000}, {}, {})
            [vector] = await backend.embed([whole])
            assert vector.tokens == 2000
            with pytest.raises(BackendRefused) as refused:
                await backend.embed([Request("embedding", "m", {"input": [50] * 3000}, {}, {})])
            assert refused.value.code == "context_length_exceeded"
        finally:
            await backend.aclose()


@pytest.mark.parametrize(
    ("vocabulary", "memory_gib", "tokens"),
    [
        (1024, 16, 8192),
        (262_144, 16, 1024),
        (262_144, 64, 4096),
        (262_144, 2, 512),
        (None, 16, 512),
        (128_000, 512, 8192),
    ],
)
def test_a_large_vocabulary_shortens_what_is_embedded(vocabulary: int | None, memory_gib: int, tokens: int) -> None:
    """Its logits would fill the memory; never to less than llama.cpp's own 512."""
    assert embedded_tokens(8192, vocabulary, memory_gib * 2**30) == tokens


def test_the_header_tells_context_and_vocabulary() -> None:
    """Those of the bundled model."""
    assert read_header(BUNDLED_PATH) == (8192, 1024)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: .*No such file"),
        (b"not a model at all", "cannot be read: it is not a GGUF file"),
        (b"GGUF\x03\x00\x00\x00", "cannot be read: it is cut short"),
    ],
)
async def test_a_bad_file_gets_a_sentence(folder: DataFolder, content: bytes | None, message: str) -> None:
    """The error says which file, why, and where the log is."""
    bad = folder.models / "bad.gguf"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(EmbeddedError, match=message) as failed:
        async with llamacpp(folder, bad, "bad"):
            pass
    assert str(bad) in str(failed.value)
    assert "llamacpp.log" in str(failed.value)


async def test_a_truncated_model_gets_a_sentence(folder: DataFolder) -> None:
    """Its header is right, its weights are missing."""
    cut = folder.models / "cut.gguf"
    shutil.copyfile(BUNDLED_PATH, cut)
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size * 3 // 4)
    with pytest.raises(EmbeddedError, match="the file is damaged or of an unknown kind"):
        async with llamacpp(folder, cut, "cut"):
            pass
