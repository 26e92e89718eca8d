"""What servers tell of their models, and what the weights are called for it: by doubles, for what is hard to start."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import building
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.config import BackendConfig
from gateway.flights.shared import SharedFlights
from gateway.models.digest import Digests
from gateway.pipeline import Pipeline
from gateway.routing.backend import Backend
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.suites.faulty import Peer, faulty
from tests.suites.marks import nothing_invalidated

DEFAULT = "vllm-0.32.0-tp2-1a2b3c4d"


class Telling:
    """A server that says on each path what it is given to say, and a backend that asks it."""

    def __init__(self, kind: str, said: dict[str, Any]) -> None:
        self.kind = kind
        self.said = said
        self.url = ""
        self.asked: list[str] = []
        self.backends: list[Backend] = []

    async def answer(self, peer: Peer) -> None:
        """Say it; what there is nothing to say about is not found."""
        self.asked.append(peer.path)
        said = self.said.get(peer.path)
        if said is None:
            await peer.head("404 Not Found", "application/json")
            await peer.say('{"error": "none"}')
            return
        extra = f"process-start-time-unix: {self.said['started']}\r\n" if "started" in self.said else ""
        await peer.say(f"HTTP/1.1 200 OK\r\n{extra}connection: close\r\n\r\n")
        await peer.say(said if isinstance(said, str) else json.dumps(said))

    def gateway(self) -> Backend:
        """Another backend, as of another gateway."""
        made = building.BUILD[self.kind](BackendConfig(kind=self.kind, model="m", url=self.url))  # type: ignore[arg-type]
        self.backends.append(made)
        return made

    async def version(self, backend: Backend | None = None) -> str:
        """What the weights are called now."""
        return (await (backend or self.backends[0]).renew()).model_version


@asynccontextmanager
async def telling(kind: str, said: dict[str, Any]) -> AsyncIterator[Telling]:
    """One."""
    found = Telling(kind, said)
    async with faulty(found.answer) as server:
        found.url = server.url
        found.gateway()
        try:
            yield found
        finally:
            for backend in found.backends:
                await backend.aclose()


def vllm(root: str, started_s: float | None = None, fingerprint: str | None = DEFAULT) -> dict[str, Any]:
    """What vLLM says."""
    metrics = "# HELP\n" + (f"process_start_time_seconds {started_s}\n" if started_s else "") + "other 1\n"
    return {
        "/v1/models": {"data": [{"id": "m", "root": root, "max_model_len": 99, "created": time.time()}]},
        "/version": {"version": "0.32.0"},
        "/metrics": metrics,
        "/v1/completions": {"choices": [], "system_fingerprint": fingerprint},
    }


def llamacpp(path: Path, **props: Any) -> dict[str, Any]:
    """What llama.cpp says."""
    settings = {"n_ctx": 9, "params": {"lora": []}}
    told = {
        "model_path": str(path),
        "chat_template": "t",
        "build_info": "b1-a",
        "default_generation_settings": settings,
    }
    return {
        "/props": told | props,
        "/v1/models": {"data": [{"id": "m", "meta": {"size": 10, "n_params": 5}}]},
        "/metrics": "",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder."""
    (made := tmp_path / "model").mkdir()
    (made / "model.safetensors").write_bytes(b"weights")
    return made


async def test_files_older_than_the_process_are_what_it_serves(folder: Path) -> None:
    """By their digest, in every gateway and after every restart; files that are younger may be anything."""
    digest = await Digests().of(folder)
    async with telling("vllm", vllm(str(folder), time.time() + 60)) as server:
        first = await server.version()
        assert first.startswith(f"{digest}/")
        assert await server.version(server.gateway()) == first
        server.said |= vllm(str(folder), time.time() + 90)
        assert await server.version(server.gateway()) == first
        server.said |= vllm(str(folder), 1000.0)
        unsure = await server.version(server.gateway())
        assert unsure.startswith(f"{folder}@1000.0@")
        assert await server.version(server.gateway()) == unsure
        (folder / "model.safetensors").write_bytes(b"others")
        assert await server.version(server.gateway()) != unsure
        assert "/v1/completions" in server.asked, "an operator's own name would have been the better one"


async def test_a_server_elsewhere_is_known_by_its_start(folder: Path) -> None:
    """Or by the operator's name for its weights; vLLM's own fingerprint stays the same with other weights."""
    async with telling("vllm", vllm("org/model", 5.5)) as server:
        assert await server.version() == "org/model@5.5"
        for own in ("vllm-0.32.0-nohash", "vllm-0.33.0rc1-00ff00ff", None):
            server.said |= vllm("org/model", 5.5, own)
            assert await server.version(server.gateway()) == "org/model@5.5"
        server.said |= vllm("org/model", 5.5, "vllm-of-may")
        assert (await server.version(server.gateway())).startswith("fingerprint:vllm-of-may/")
        del server.said["/v1/completions"]  # a model that only embeds
        assert await server.version(server.gateway()) == "org/model@5.5"


async def test_a_start_that_nobody_tells_is_guessed_by_nobody(folder: Path) -> None:
    """Several API servers of vLLM on one port: each gateway has a name of its own, until a connection breaks."""
    async with telling("vllm", vllm(str(folder))) as server:
        first = await server.version()
        assert first.startswith(f"{folder}@unknown-")
        assert first != await server.version(server.gateway())
    async with telling("vllm", vllm("org/model", fingerprint="w1")) as server:
        assert (await server.version()).startswith("fingerprint:w1/")


async def test_an_adapter_counts_with_what_it_adapts(folder: Path, tmp_path: Path) -> None:
    """Both digests; another path is another adapter at once."""
    cards: list[dict[str, Any]] = [{"id": "base", "root": str(folder)}]
    for name in ("one", "two"):
        (adapter := tmp_path / name).mkdir()
        (adapter / "adapter_model.safetensors").write_text(name)
        cards.append({"id": "m", "root": str(adapter), "parent": "base"})
    async with telling("vllm", vllm(str(folder), time.time() + 60)) as server:
        found: list[str] = []
        for card in cards[1:]:
            server.said["/v1/models"] = {"data": [cards[0], card]}
            found.append(await server.version())
        digests = [await Digests().of(Path(card["root"])) for card in cards]
        assert [version.partition("/")[0] for version in found] == [f"{digests[0]}+{one}" for one in digests[1:]]


@pytest.mark.parametrize("root", ["models/m", "/no/such/model", "\0", "/dev/null", 5, None])
async def test_a_hosted_model_is_its_name(root: Any) -> None:
    """Where a server tells nothing else."""
    async with telling("openai", {"/v1/models": {"data": [{"id": "m", "root": root}]}}) as server:
        assert await server.version() == (root if isinstance(root, str) else "m")
        server.said["/v1/models"] = {"data": []}
        assert await server.version() == "m"


async def test_any_server_on_this_machine_that_names_a_folder(folder: Path) -> None:
    """Is taken at its word, since there is nothing better."""
    async with telling("openai", {"/v1/models": {"data": [{"id": "m", "root": str(folder)}]}}) as server:
        assert await server.version() == await Digests().of(folder)


async def test_llamacpp_tells_its_process_in_one_way_or_another(tmp_path: Path) -> None:
    """A marker of its own, or its start with `--metrics`; one of old that has neither is believed."""
    (file := tmp_path / "m.gguf").write_bytes(b"weights")
    digest = await Digests().of(file)
    now_us = int((time.monotonic()) * 1e6)
    async with telling("llamacpp", llamacpp(file, media_marker="<__media_abc__>")) as server:
        known = await server.version()
        assert known.startswith(f"{file}@media_abc@")
        assert (await server.backends[0].identity()).engine_version == "b1-a"
        server.said |= llamacpp(file) | {"started": str(now_us + 3600 * 10**6)}
        assert (await server.version(server.gateway())).startswith(f"{file}@{now_us + 3600 * 10**6}@")
        server.said |= llamacpp(file) | {"started": str(now_us)}
        assert (await server.version(server.gateway())).startswith(f"{file}@{now_us}@"), "it may have read it before"
        del server.said["started"]
        old = await server.version(server.gateway())
        assert old.startswith(f"{digest}/")
        server.said |= llamacpp(file, chat_template="u")
        assert (await server.version(server.gateway())).partition("/")[0] == digest
        assert await server.version(server.gateway()) != old


@pytest.mark.parametrize(
    "beside", [{"modalities": {"vision": True}}, {"default_generation_settings": {"params": {"lora": [{"id": 0}]}}}]
)
async def test_weights_beside_the_file_are_not_in_its_digest(tmp_path: Path, beside: dict[str, Any]) -> None:
    """So the process counts."""
    (file := tmp_path / "m.gguf").write_bytes(b"weights")
    props = llamacpp(file, media_marker="<__media_abc__>", **beside)
    async with telling("llamacpp", props | {"started": str(int(time.monotonic() * 1e6))}) as server:
        assert (await server.version()).startswith(f"{file}@media_abc@")


async def test_another_process_behind_a_proxy_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that is held ends at the proxy, and goes on: that the server says another start has to do."""
    async with telling("vllm", vllm("org/model", 1.0)) as server:
        first = await server.version()
        server.said |= vllm("org/model", 2.0)
        monkeypatch.setattr("gateway.backends.telling._START_EVERY_S", -1.0)
        assert await server.version() != first


async def test_an_answer_of_a_successor_is_given_but_not_kept() -> None:
    """The server is another one when the question arrives that was named before: its answer is kept under no name."""
    event = {"choices": [{"index": 0, "delta": {"content": "new"}, "finish_reason": "stop"}]}
    stream = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
    said = vllm("org/model", 1.0) | {"/v1/chat/completions": stream}
    tiers = Tiers(MemoryTier(2**20), [], nothing_invalidated(), lambda _: None)
    question = Request("chat", "m", {"messages": [{"role": "user", "content": "Hi"}]}, {}, {}, stream=True)
    async with telling("vllm", said) as server:
        backend = server.backends[0]
        pipeline = Pipeline(tiers, Router.of({"m": backend}), SharedFlights())

        async def said_now(root: str) -> str:
            answer = await pipeline.answer(question, Caller(tenant="t"), Steering(), "id")
            server.said |= vllm(root, 1.0)
            await backend.renew()
            assert "".join([step.content async for step in answer.chunks]) == "new"
            return answer.status

        assert [await said_now("org/new") for _ in range(3)] == ["miss", "miss", "hit"]
        assert await said_now("org/model") == "hit"
        assert await said_now("org/model") == "miss"
