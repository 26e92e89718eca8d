"""New weights under the same name never serve old answers: real engines, stopped, exchanged and started again."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn

from gateway import building
from gateway.caller import Caller
from gateway.canonical import Identity
from gateway.config import BackendConfig
from gateway.errors import BackendUnavailable
from gateway.flights.shared import SharedFlights
from gateway.models.digest import Digests
from gateway.pipeline import Pipeline
from gateway.routing.backend import Backend
from gateway.routing.router import Router
from gateway.steering import Steering
from gateway.wire import openai_chat
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.engines import llamacpp, vllm
from tests.engines.child import free_port
from tests.engines.ollama_double import OllamaDouble
from tests.engines.ollama_engine import LlamaCpp
from tests.engines.weights import other_file, other_folder, wait_until_old
from tests.suites.marks import nothing_invalidated

pytestmark = pytest.mark.engines

ALIAS = "m"
FRANCE = "What is the capital of France?"


class Gateway:
    """A pipeline on a memory of its own; the backends come and go."""

    def __init__(self, **config: Any) -> None:
        self.config = BackendConfig(model=ALIAS, **config)
        self.tiers = Tiers(MemoryTier(2**24), [], nothing_invalidated(), lambda _: None)
        self.backend: Backend = building.BUILD[self.config.kind](self.config)
        self.router = Router.of({ALIAS: self.backend})

    async def said(self, content: str = FRANCE) -> tuple[str, str]:
        """How a question is answered: `hit` or `miss`, and the words."""
        body = {"model": ALIAS, "messages": [{"role": "user", "content": content}], "max_tokens": 16, "temperature": 0}
        pipeline = Pipeline(self.tiers, self.router, SharedFlights())
        request = openai_chat.decode(msgspec.json.encode(body))
        answer = await pipeline.answer(request, Caller(tenant="t"), Steering(), "id")
        async with aclosing(answer.chunks) as steps:
            return answer.status, "".join([step.content async for step in steps])

    async def version(self) -> str:
        """What the weights are called."""
        return (await self.backend.identity()).model_version


@asynccontextmanager
async def gateway(**config: Any) -> AsyncIterator[Gateway]:
    """One, closed in the end."""
    made = Gateway(**config)
    try:
        yield made
    finally:
        await made.router.aclose()


@pytest.fixture
def models(model_file: Path, model_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two models as GGUF, of one shape."""
    shutil.copy(model_file, first := tmp_path / "first.gguf")
    return first, other_file(model_folder, tmp_path / "second.gguf")


async def test_llamacpp_restarted_with_other_weights(models: tuple[Path, Path], tmp_path: Path) -> None:
    """At the same address, with the same path: a miss. With the first ones again: their own answers again."""
    port, place = free_port(), tmp_path / "model.gguf"
    said: list[tuple[str, str]] = []
    async with gateway(kind="llamacpp", url=f"http://127.0.0.1:{port}") as one:
        for model in (*models, models[0]):
            shutil.copy(model, place)
            wait_until_old(place)
            with llamacpp.serving(place, ALIAS, tmp_path, port=port):
                said += [await one.said(), await one.said()]
                assert (await one.version()).startswith(await Digests().of(model))
            assert (await one.said())[0] == "hit", "while it is down"
    assert [status for status, _ in said] == ["miss", "hit", "miss", "hit", "hit", "hit"]
    words = [text for _, text in said]
    assert words == [words[0]] * 2 + [words[2]] * 2 + [words[0]] * 2
    assert words[0] != words[2]


@pytest.mark.parametrize("how", ["renamed over", "written over"])
async def test_files_changed_under_a_running_llamacpp(models: tuple[Path, Path], tmp_path: Path, how: str) -> None:
    """What it answers then is kept as long as it runs, and under the digest of neither."""
    port, place = free_port(), tmp_path / "model.gguf"
    shutil.copy(models[0], place)
    wait_until_old(place)
    async with gateway(kind="llamacpp", url=f"http://127.0.0.1:{port}") as one:
        with llamacpp.serving(place, ALIAS, tmp_path, port=port):
            first = await one.said()
            known = await one.backend.identity()
            if how == "renamed over":
                models[1].replace(place)
            else:  # in pieces of the same size, as a copy over a file that is mapped
                with place.open("r+b") as file:
                    file.write(models[1].read_bytes())
            assert await one.backend.renew() != known
            assert not await one.backend.confirms(known)
            assert await one.version() not in {known.model_version, await Digests().of(place)}
            assert "@" in await one.version()
            changed = await one.said()
            assert changed[0] == "miss"
            if how == "renamed over":
                assert changed[1] == first[1]
            later = building.BUILD["llamacpp"](one.config)
            assert await later.identity() == await one.backend.identity(), "as a gateway sees it that starts now"
            await later.aclose()
        wait_until_old(place)
        with llamacpp.serving(place, ALIAS, tmp_path, port=port):
            new = await one.said()
    assert new[0] == "miss"
    assert new[1] != first[1]


async def test_llamacpp_restarted_between_two_questions(models: tuple[Path, Path], tmp_path: Path) -> None:
    """However short it was away: the very next question, and one whose name was made before."""
    port, place = free_port(), tmp_path / "model.gguf"
    shutil.copy(models[0], place)
    async with gateway(kind="llamacpp", url=f"http://127.0.0.1:{port}") as one:
        with llamacpp.serving(place, ALIAS, tmp_path, port=port):
            first = await one.said()
            before = await one.backend.identity()
            assert await one.backend.confirms(before)
        models[1].replace(place)
        with llamacpp.serving(place, ALIAS, tmp_path, port=port):
            assert not await one.backend.confirms(before)
            new = await one.said()
            assert (new[0], (await one.said())[0]) == ("miss", "hit")
    assert new[1] != first[1]


async def test_vllm_restarted_with_other_weights(model_folder: Path, tmp_path: Path) -> None:
    """At the same address, with the same path: a miss. From elsewhere its start, or the operator's name, counts."""
    port, place = free_port(), tmp_path / "model"
    shutil.copytree(model_folder, place)
    other = other_folder(model_folder, tmp_path / "other")
    flags = ("--host", "0.0.0.0")
    async with (
        gateway(kind="vllm", url=f"http://127.0.0.1:{port}") as here,
        gateway(kind="vllm", url=f"http://127.0.0.2:{port}") as elsewhere,
    ):
        with vllm.serving(place, ALIAS, tmp_path, flags, port=port):
            first = [await here.said(), await here.said(), await elsewhere.said()]
            versions = [await here.version(), await elsewhere.version()]
            assert versions[0].startswith(await Digests().of(place))
            assert versions[1].startswith(f"{place}@1")
            (place / "README.md").write_text("Changed under the running server.")
            await here.backend.renew()
            assert (await here.version()).startswith(f"{place}@1")
            await here.said()
        assert [status for status, _ in first] == ["miss", "hit", "miss"]
        shutil.rmtree(place)
        other.rename(place)
        named = (*flags, "--fingerprint-mode", "custom", "--fingerprint-value", "second")
        with vllm.serving(place, ALIAS, tmp_path, named, port=port):
            new = [await here.said(), await here.said(), await elsewhere.said()]
            assert (await here.version()).startswith(await Digests().of(place))
            assert (await elsewhere.version()).startswith("fingerprint:second/")
    assert [status for status, _ in new] == ["miss", "hit", "miss"]
    assert {text for _, text in first}.isdisjoint(text for _, text in new)


class Pulled(OllamaDouble):
    """A double whose model can be pulled anew while it runs; it can be held before it looks for the model."""

    def __init__(self, *versions: Any) -> None:
        super().__init__(*versions[0])
        self.versions = versions
        self.held: asyncio.Event | None = None
        self.reached = asyncio.Event()

    def pull(self, number: int) -> None:
        """From now on another one answers."""
        self.llama, self.model = self.versions[number]

    async def complete(self, request: Any) -> Any:
        """Answer, once it may."""
        if self.held is not None:
            self.reached.set()
            await self.held.wait()
        return await super().complete(request)


@asynccontextmanager
async def pulled(models: tuple[Path, Path], scratch: Path) -> AsyncIterator[tuple[Pulled, str]]:
    """Serve such a double over two llama.cpp servers."""
    places = [scratch / str(number) for number in range(2)]
    for place in places:
        place.mkdir()
    with (
        llamacpp.serving(models[0], ALIAS, places[0]) as first,
        llamacpp.serving(models[1], ALIAS, places[1]) as second,
    ):
        engines = [LlamaCpp(url) for url in (first, second)]
        double: Any = Pulled(*[(engine, await engine.model(ALIAS)) for engine in engines])
        port = free_port()
        config = uvicorn.Config(double, "127.0.0.1", port, lifespan="off", log_level="warning")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.01)
        yield double, f"http://127.0.0.1:{port}"
        server.should_exit = True
        await serving
        for engine in engines:
            await engine.client.aclose()


async def test_ollama_pulls_while_it_runs(models: tuple[Path, Path], tmp_path: Path) -> None:
    """A pull is noticed; what is answered in the middle of one is given, and kept under no name."""
    async with pulled(models, tmp_path) as (double, url), gateway(kind="ollama", url=url) as one:
        first = await one.said()
        assert (await one.said())[0] == "hit"
        double.pull(1)
        async with asyncio.timeout(30):
            while (await one.version()) == double.versions[0][1].digest:  # noqa: ASYNC110 -- Ollama tells nobody
                await asyncio.sleep(0.05)
        second = await one.said()
        assert (second[0], second[1] != first[1]) == ("miss", True)
        double.held = asyncio.Event()
        between = asyncio.create_task(one.said("What is the capital of Spain?"))
        await double.reached.wait()
        double.pull(0)
        double.held.set()
        await between
        double.held = None
        assert await one.backend.renew() == Identity("ollama", "0.33.0", double.versions[0][1].digest)
        assert (await one.said("What is the capital of Spain?"))[0] == "miss"
        double.pull(1)
        await one.backend.renew()
        assert (await one.said("What is the capital of Spain?"))[0] == "miss"
        assert (await one.said())[0] == "hit"


async def test_a_server_that_is_away_cannot_be_asked_anew(models: tuple[Path, Path], tmp_path: Path) -> None:
    """`renew` says so; what is known stays, for what is kept, and confirms nothing."""
    async with gateway(kind="llamacpp", url=f"http://127.0.0.1:{(port := free_port())}") as one:
        with llamacpp.serving(models[0], ALIAS, tmp_path, port=port):
            known = await one.backend.renew()
        with pytest.raises(BackendUnavailable):
            await one.backend.renew()
        assert await one.backend.identity() == known
        assert not await one.backend.confirms(known)
