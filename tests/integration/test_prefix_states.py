"""Saved states of long prompts, with the real llama.cpp: found after a restart, exact, bounded, and never trusted."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway import building
from gateway.backends.openai_compatible import OpenAICompatible
from gateway.backends.prefix_states.server import RememberingServer
from gateway.backends.prefix_states.store import State
from gateway.canonical import Request
from gateway.config import BackendConfig
from gateway.engines.llamacpp import LlamaOptions, llamacpp
from gateway.models.source import BUNDLED_PATH
from storage.embedded.folder import DataFolder, claimed
from storage.entry import Usage
from tests.acceptance.serving import Served, short_folder

DOCUMENT = "You are a librarian. " + " ".join(f"The capital of country {i} is city {i * 7 % 101}." for i in range(60))
PLACES = ("France", "Italy", "Spain", "Poland", "Norway", "Japan", "Kenya", "Peru")


@pytest.fixture
def folder() -> Iterator[DataFolder]:
    path = Path(tempfile.mkdtemp(prefix="ao-", dir="/tmp"))
    with claimed(path) as folder:
        yield folder
    shutil.rmtree(path)


class Model:
    """The bundled model on a llama.cpp of its own, asked through a backend as a worker has it."""

    def __init__(self, backend: OpenAICompatible, socket: Path) -> None:
        self.backend = backend
        self.socket = socket

    async def ask(self, place: str, document: str = DOCUMENT, **extra: Any) -> tuple[str, Usage]:
        """The answer to a question about the document, and its usage."""
        cold = bool(extra.pop("cold", False))
        messages = [
            {"role": "system", "content": document},
            {"role": "user", "content": f"What is the capital of {place}?"},
        ]
        params = {"max_tokens": 12, "temperature": 0.0}
        request = Request("chat", "m", {"messages": messages}, params, extra, cold=cold)
        text, usage = "", Usage()
        async with aclosing(self.backend.complete(request)) as steps:
            async for step in steps:
                text += step.content
                usage += step.usage or Usage()
        return text, usage

    async def settled(self) -> None:
        """Return when nothing is being saved."""
        server = self.backend._server
        assert isinstance(server, RememberingServer)
        await server.states.settled()


Opened = Callable[..., contextlib.AbstractAsyncContextManager[Model]]


@pytest.fixture
def opened(folder: DataFolder) -> Opened:
    """Start llama.cpp, each time anew, on one folder of states."""

    @contextlib.asynccontextmanager
    async def start(*, slots: int = 2, version: str = "weights", **settings: Any) -> AsyncIterator[Model]:
        options = LlamaOptions(slots=slots, threads=1, states=folder.states)
        async with llamacpp(folder, BUNDLED_PATH, "m", options=options) as socket:
            config = BackendConfig(
                kind="llamacpp",
                model="m",
                url=f"unix:{socket}",
                engine_version="1",
                model_version=version,
                prefix_states=folder.states,
                **settings,
            )
            backend = building.BUILD["llamacpp"](config)
            assert isinstance(backend, OpenAICompatible)
            try:
                yield Model(backend, socket)
            finally:
                await backend.aclose()

    return start


def kept(folder: DataFolder) -> list[Path]:
    """The states on disk; each has its note."""
    states = sorted(folder.states.glob("*.kv"))
    assert [state.stem for state in states] == sorted(note.stem for note in folder.states.glob("*.json"))
    return states


async def saved(opened: Opened, folder: DataFolder) -> list[Path]:
    """Two questions about one document, and what they leave on disk."""
    async with opened() as model:
        _, first = await model.ask("France")
        assert first.cached_tokens == 0
        assert kept(folder) == []
        await model.ask("Italy")
        await model.settled()
    return kept(folder)


async def test_a_beginning_that_came_twice_is_not_computed_after_a_restart(opened: Opened, folder: DataFolder) -> None:
    """The third question finds it on disk; its answer is that of a model that computes all of it.

    Or, on a token that two words are nearly equally likely for, the one of llama.cpp's own cache in memory.
    """
    [state] = await saved(opened, folder)
    note = msgspec.json.decode(state.with_suffix(".json").read_bytes(), type=State)
    assert (note.model_version, note.size_bytes) == ("weights", state.stat().st_size)
    assert note.prefix_hash in state.name
    async with opened() as model:
        for place in PLACES[2:]:
            text, usage = await model.ask(place)
            assert usage.cached_tokens is not None
            assert usage.cached_tokens > 0.97 * usage.prompt_tokens
            warm, _ = await model.ask(place)
            cold, computed = await model.ask(place, cold=True)
            assert computed.cached_tokens == 0
            assert text in {cold, warm}


async def test_a_short_prompt_or_one_that_came_once_is_not_saved(opened: Opened, folder: DataFolder) -> None:
    """Nothing would be won."""
    async with opened() as model:
        for place in PLACES:
            await model.ask(place, document="You are a librarian.")
        await model.ask("France")
        await model.ask("France", document=DOCUMENT.replace("librarian", "teacher"))
        await model.settled()
    assert kept(folder) == []


def flipped(data: bytes) -> bytes:
    """Change one bit in the middle, which llama.cpp itself would not notice."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"no state at all" * 1000],
    ids=["flipped", "cut", "emptied", "foreign"],
)
async def test_a_damaged_state_is_thrown_away(
    opened: Opened, folder: DataFolder, damage: Callable[[bytes], bytes]
) -> None:
    """It is never given to llama.cpp; the answer is computed."""
    [state] = await saved(opened, folder)
    state.write_bytes(damage(state.read_bytes()))
    async with opened() as model:
        text, usage = await model.ask("Spain")
        cold, _ = await model.ask("Spain", cold=True)
        assert (text, usage.cached_tokens) == (cold, 0)
        await model.settled()
        assert state not in kept(folder)


async def test_a_state_with_the_right_sum_that_llamacpp_refuses_is_thrown_away(
    opened: Opened, folder: DataFolder
) -> None:
    """Its own check comes last."""
    [state] = await saved(opened, folder)
    note = msgspec.json.decode(state.with_suffix(".json").read_bytes(), type=State)
    state.write_bytes(b"\0" * note.size_bytes)
    import hashlib

    wrong = msgspec.structs.replace(note, sha256=hashlib.sha256(state.read_bytes()).hexdigest())
    state.with_suffix(".json").write_bytes(msgspec.json.encode(wrong))
    async with opened() as model:
        _, usage = await model.ask("Spain")
        assert usage.cached_tokens == 0
        assert state not in kept(folder)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"chain": ["zz"]}', b"\xff\xfe"])
async def test_a_damaged_note_is_no_note(opened: Opened, folder: DataFolder, note: bytes) -> None:
    """Without it a state is nothing."""
    [state] = await saved(opened, folder)
    state.with_suffix(".json").write_bytes(note)
    async with opened() as model:
        _, usage = await model.ask("Spain")
        assert usage.cached_tokens == 0


async def test_other_weights_have_states_of_their_own(opened: Opened, folder: DataFolder) -> None:
    """Those of the old ones are not looked at, and go when their room is needed."""
    [old] = await saved(opened, folder)
    async with opened(version="others") as model:
        _, usage = await model.ask("Spain")
        assert usage.cached_tokens == 0
        await model.ask("Poland")
        await model.settled()
    assert len(kept(folder)) == 2
    assert old in kept(folder)


async def test_the_least_recently_used_goes_first(opened: Opened, folder: DataFolder) -> None:
    """All together have a bound, which holds over restarts."""
    documents = [DOCUMENT.replace("librarian", who) for who in ("librarian", "teacher", "sailor")]
    [state] = await saved(opened, folder)
    bound = int(2.5 * state.stat().st_size)

    async def make(model: Model, document: str) -> None:
        for place in PLACES[:2]:
            await model.ask(place, document=document)
        await model.settled()

    async with opened(prefix_states_max_bytes=bound) as model:
        await make(model, documents[1])
    [other] = set(kept(folder)) - {state}
    async with opened(prefix_states_max_bytes=bound) as model:
        _, usage = await model.ask("Spain", document=documents[0])  # used, and so the younger one
        assert usage.cached_tokens
        await make(model, documents[2])
    assert len(kept(folder)) == 2
    assert state in kept(folder)
    assert other not in kept(folder)


async def test_tenants_do_not_share_states(opened: Opened, folder: DataFolder) -> None:
    """What one has made is not found by another: else its speed would tell that somebody had asked."""
    server = opened()
    async with server as model:
        for place in PLACES[:2]:
            await model.ask(place)
        await model.settled()
        states = model.backend._server
        assert isinstance(states, RememberingServer)
    [state] = kept(folder)
    from gateway.backends.prefix_states.chain import chain

    note = msgspec.json.decode(state.with_suffix(".json").read_bytes(), type=State)
    messages = [{"role": "system", "content": DOCUMENT}, {"role": "user", "content": "What is the capital of Italy?"}]
    assert [h.hex() for h in chain({"messages": messages})] == list(note.chain)
    assert not {h.hex() for h in chain({"messages": messages, "cache_salt": "b"})} & set(note.chain)


async def test_nothing_is_saved_while_somebody_is_answered(opened: Opened, folder: DataFolder) -> None:
    """A save holds up the whole server; it waits for a moment in which nobody is there."""
    async with opened() as model:
        await model.ask("France")
        transport = httpx.AsyncHTTPTransport(uds=str(model.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://llamacpp", timeout=60) as client:
            body = {"prompt": "Count", "n_predict": -1, "ignore_eos": True, "stream": True, "id_slot": 0}
            async with client.stream("POST", "/completion", json=body) as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                await model.ask("Italy")
                for _ in range(20):
                    await anext(lines)
                assert kept(folder) == []
        await model.settled()
    assert len(kept(folder)) == 1


async def test_a_second_slot_gets_the_beginning_too(opened: Opened, folder: DataFolder) -> None:
    """Two at once about one document: neither computes it."""
    await saved(opened, folder)
    async with opened() as model:
        answers = await asyncio.gather(model.ask("Spain"), model.ask("Poland"))
        for _, usage in answers:
            assert (usage.cached_tokens or 0) > 0.9 * usage.prompt_tokens


async def test_what_killed_processes_left_is_removed(opened: Opened, folder: DataFolder) -> None:
    """Data without a note, a note without data, and half a file: once they are old."""
    [state] = await saved(opened, folder)
    import os

    orphans = [folder.states / name for name in ("a.kv", "b.part")]
    for orphan in orphans:
        orphan.write_bytes(b"x")
        os.utime(orphan, (0, 0))
    lonely = folder.states / "c.json"
    lonely.write_bytes(state.with_suffix(".json").read_bytes())
    async with opened() as model:
        await model.ask("Spain")
    assert not any(path.exists() for path in (*orphans, lonely))
    assert kept(folder) == [state]


@pytest.mark.parametrize("how", ["variable", "file"])
def test_none_are_kept_or_read_when_none_may_be(how: str, tmp_path: Path) -> None:
    """`prefix_states_max_bytes = 0`: those of earlier runs stay as they are, and llama.cpp can save no others."""
    path = short_folder()
    document = {"role": "system", "content": DOCUMENT}

    def cached(server: Served, place: str) -> int:
        question = {"role": "user", "content": f"What is the capital of {place}?"}
        body = {"model": "gemma-3-askonce", "max_tokens": 8, "messages": [document, question]}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60, trust_env=False).json()
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    try:
        with started(Served(path, "--model", "bundled")) as server:
            for place in PLACES[:2]:
                cached(server, place)
            deadline = time.monotonic() + 60
            while not list((path / "states").glob("*.json")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with started(Served(path, "--model", "bundled")) as server:
            assert cached(server, PLACES[2]) > 0
        before = {file: file.stat().st_mtime_ns for file in (path / "states").iterdir()}
        file = tmp_path / "askonce.toml"
        file.write_text("prefix_states_max_bytes = 0")
        env = {"ASKONCE_PREFIX_STATES_MAX_BYTES": "0"} if how == "variable" else {"ASKONCE_CONFIG_FILE": str(file)}
        with started(Served(path, "--model", "bundled", env=env)) as server:
            assert cached(server, PLACES[3]) == 0
            cached(server, PLACES[4])
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path / "run" / "llama.sock"))) as client:
                saved = client.post("http://llamacpp/slots/0?action=save", json={"filename": "x.kv"})
            assert saved.status_code == 501
        assert {file: file.stat().st_mtime_ns for file in (path / "states").iterdir()} == before
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def started(server: Served) -> Generator[Served]:
    """For the length of the block."""
    server.start()
    try:
        yield server
    finally:
        server.stop()
