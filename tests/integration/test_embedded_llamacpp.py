"""llama.cpp as a child: the bundled model answers on a private socket, a bad file gets a sentence."""

import array
import asyncio
import contextlib
import math
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import pytest

from gateway import building
from gateway.canonical import Request, Vector
from gateway.config import BackendConfig
from gateway.engines.llamacpp import LlamaOptions, llamacpp
from gateway.engines.llamacpp_server import embedded_tokens, read_header
from gateway.errors import BackendRefused
from gateway.models.source import BUNDLED_PATH
from storage.embedded.child import Child
from storage.embedded.folder import DataFolder, claimed
from storage.embedded.running import Care
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


async def test_a_file_that_is_written_over_changes_nothing_in_a_server(folder: DataFolder, tmp_path: Path) -> None:
    """What it has loaded is what its answers are named after."""
    file = tmp_path / "model.gguf"
    shutil.copyfile(BUNDLED_PATH, file)
    question = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
    async with llamacpp(folder, file, "m") as path:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://llamacpp", timeout=60) as client:
            with file.open("r+b") as writing:
                writing.seek(-400_000, 2)
                writing.write(b"\x11" * 400_000)
            answer = (await client.post("/v1/chat/completions", json=question)).json()
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."


def cosine(one: Vector, other: Vector) -> float:
    """Of two vectors."""
    left, right = array.array("f", one.values), array.array("f", other.values)
    return math.fsum(a * b for a, b in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


async def test_a_text_is_embedded_the_same_beside_others(folder: DataFolder) -> None:
    """Of whatever length they are, in one call or in several at the same time."""
    texts = [" ".join(["Paris is the capital of France"] * (1 + number * 7 % 11)) for number in range(12)]
    async with llamacpp(folder, BUNDLED_PATH, "m", options=LlamaOptions(context_tokens=1024)) as path:
        config = BackendConfig(kind="llamacpp", model="m", url=f"unix:{path}", kv_unified=True)
        backend = building.BUILD["llamacpp"](config)
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
        backend = building.BUILD["llamacpp"](BackendConfig(kind="llamacpp", model="m", url=f"unix:{path}"))
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


async def test_a_truncated_model_is_explained(folder: DataFolder) -> None:
    """Its header is right, its weights are missing: llama.cpp's own reason, and the last lines of its log."""
    cut = folder.models / "cut.gguf"
    shutil.copyfile(BUNDLED_PATH, cut)
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size * 3 // 4)
    shown: list[str] = []
    with pytest.raises(EmbeddedError, match=r"starting: tensor '.*' data is not within the file bounds"):
        async with llamacpp(folder, cut, "cut", notify=shown.append):
            pass
    [lines] = shown
    assert lines.startswith(f"the last lines of {folder.logs / 'llamacpp.log'}:")
    assert "failed to load model" in lines


SECRET = "tungsten"
REFUSED = (
    {"messages": [{"role": "user", "content": {SECRET: 1}}]},
    {"messages": [{"role": SECRET, "content": SECRET}], "tools": SECRET},
    {"messages": [{"role": "user", "content": SECRET}], "response_format": {"type": SECRET}},
    {"messages": [{"role": "user", "content": SECRET * 9000}]},
)


async def test_its_log_has_the_load_and_no_request(folder: DataFolder) -> None:
    """What is asked well leaves nothing there, and of what is refused nothing that was asked."""
    log = folder.logs / "llamacpp.log"
    async with llamacpp(folder, BUNDLED_PATH, "m", options=LlamaOptions(context_tokens=1024)) as path:
        async with asyncio.timeout(30):
            while "listening on" not in (loaded := log.read_text()):  # noqa: ASYNC110 -- a thread of its own writes it
                await asyncio.sleep(0.02)
        assert "load_model: loading model" in loaded
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://llamacpp", timeout=60) as client:
            for _ in range(3):
                question = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 8}
                assert (await client.post("/v1/chat/completions", json=question)).is_success
                assert (await client.post("/v1/embeddings", json={"input": [SECRET, "b"]})).is_success
            assert log.read_text() == loaded
            for wrong in REFUSED:
                assert (await client.post("/v1/chat/completions", json=wrong)).is_error
            assert (await client.post("/v1/chat/completions", content=f'{{"messages": [{{"{SECRET}')).is_error
    said = log.read_text()
    assert SECRET not in said
    assert all(" E " in line for line in said.removeprefix(loaded).splitlines())


async def test_more_is_logged_for_who_asks_for_it(folder: DataFolder) -> None:
    """`--verbosity` holds while it serves, too."""
    options = LlamaOptions(more=("--verbosity=3",))
    async with llamacpp(folder, BUNDLED_PATH, "m", options=options) as path:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://llamacpp", timeout=60) as client:
            await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert "prompt eval time" in (folder.logs / "llamacpp.log").read_text()


async def test_one_that_is_stuck_while_it_loads_is_given_up(folder: DataFolder) -> None:
    """Long before the ten minutes that a load may take."""

    @contextlib.asynccontextmanager
    async def stopped(child: Child) -> AsyncGenerator[None]:
        os.kill(child.pid, signal.SIGSTOP)
        yield

    care = Care(starting=stopped, stuck_s=1.0, check_s=0.2)
    with pytest.raises(EmbeddedError, match=r"llama\.cpp did nothing for 1 s while starting"):
        async with llamacpp(folder, BUNDLED_PATH, "m", care=care):
            pass
