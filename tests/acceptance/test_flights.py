"""Five hundred clients, one question, two gateways, one model: who asks, who follows, what a dying leader costs."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.acceptance.serving import Served, short_folder

CLIENTS = 500
STEPS = [f"{number} " for number in range(40)]
STEP_S = 0.05
QUESTION = {"model": "counted", "messages": [{"role": "user", "content": "Count."}], "stream": True, "temperature": 0}


class Model:
    """A server with OpenAI's API that counts how often it is asked, and says its steps one by one."""

    def __init__(self) -> None:
        self.calls = 0
        self.repeats = True
        """Whether each call is answered the same; else each has its own words from the first step on."""
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            models = json.dumps({"data": [{"id": "counted", "root": "weights"}]})
            writer.write(f"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{models}".encode())
        else:
            self.calls += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            for step in said(1 if self.repeats else self.calls):
                writer.write(event({"delta": {"content": step}}))
                await writer.drain()
                self.begun.set()
                await asyncio.sleep(STEP_S)
            await self.may_end.wait()
            writer.write(event({"delta": {}, "finish_reason": "stop"}) + b"data: [DONE]\n\n")
        writer.close()


def said(call: int) -> list[str]:
    """The steps of one call's answer."""
    return STEPS if call == 1 else [f"{step.strip()}-{call} " for step in STEPS]


def event(choice: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return f"data: {json.dumps({'choices': [{'index': 0, **choice}]})}\n\n".encode()


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    """The model both gateways ask."""
    found = Model()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await found.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield found
    server.close()


@pytest.fixture
async def gateways(database_url: str, redis_url: str, model: Model) -> AsyncIterator[tuple[Served, Served]]:
    """Two programs on machines of their own, as far as they can tell: they share Postgres and Redis."""
    backends = [{"kind": "openai", "model": "counted", "url": model.url, "model_version": "w"}]
    env = {
        "ASKONCE_DATABASE_URL": database_url,
        "ASKONCE_REDIS_URL": redis_url,
        "ASKONCE_BACKENDS": json.dumps(backends),
    }
    folders: list[Path] = [short_folder(), short_folder()]
    found = [Served(folder, env=env) for folder in folders]
    try:
        yield await asyncio.to_thread(found[0].start), await asyncio.to_thread(found[1].start)
    finally:
        for gateway, folder in zip(found, folders, strict=True):
            await asyncio.to_thread(gateway.stop)
            shutil.rmtree(folder, ignore_errors=True)


def kill_worker(gateway: Served) -> None:
    """SIGKILL to the process that answers, as when a machine dies."""
    (worker,) = (one for one in psutil.Process(gateway.pid).children() if "gateway.worker" in one.cmdline())
    worker.kill()


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections without a limit."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def heard(session: aiohttp.ClientSession, gateway: Served) -> tuple[str, list[str]]:
    """What one client is told: where its answer comes from, and every step."""
    status, steps, code = await ended(session, gateway)
    assert code == ""
    return status, steps


async def ended(
    session: aiohttp.ClientSession, gateway: Served, begun: Callable[[], object] = bool
) -> tuple[str, list[str], str]:
    """The same, and the code of the error that ends the stream; empty for one that ends with [DONE].

    `begun` is called when the first step is there.
    """
    async with session.post(f"{gateway.url}/v1/chat/completions", json=QUESTION) as reply:
        assert reply.status == 200, await reply.text()
        lines: list[bytes] = []
        async for line in reply.content:
            if line.startswith(b"data: "):
                lines.append(line[6:].strip())
                if b'"content":"0 "' in line:
                    begun()
    *events, last = lines
    code = "" if last == b"[DONE]" else json.loads(last)["error"]["code"]
    deltas = [choice["delta"].get("content") for one in events for choice in json.loads(one).get("choices", ())]
    return reply.headers["x-askonce-cache"], [text for text in deltas if text], code


async def test_five_hundred_streams_are_one_call(model: Model, gateways: tuple[Served, Served]) -> None:
    """On two gateways: one asks, and everybody hears every step."""
    async with client() as session:
        told = await asyncio.gather(*(heard(session, gateways[number % 2]) for number in range(CLIENTS)))
        assert model.calls == 1
        assert all(steps == STEPS for _, steps in told)
        statuses = [status for status, _ in told]
        assert statuses.count("miss") == 1
        assert set(statuses) <= {"miss", "coalesced", "hit"}
        assert (await heard(session, gateways[1]))[0] == "hit"
    assert model.calls == 1


async def test_a_leader_that_is_killed_costs_one_more_call(model: Model, gateways: tuple[Served, Served]) -> None:
    """Those who follow on the other gateway hear the whole answer all the same, and each step once."""
    leader, other = gateways
    async with client() as session:
        leading = asyncio.create_task(heard(session, leader))
        await model.begun.wait()
        following = [asyncio.create_task(heard(session, other)) for _ in range(CLIENTS - 1)]
        await asyncio.sleep(len(STEPS) * STEP_S / 2)
        kill_worker(leader)
        told = await asyncio.gather(*following)
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await leading
    assert model.calls == 2
    assert all("".join(steps) == "".join(STEPS) for _, steps in told)
    assert {status for status, _ in told} == {"coalesced"}


async def test_a_second_answer_that_is_another_is_given_to_nobody(
    model: Model, gateways: tuple[Served, Served]
) -> None:
    """Those who have heard of the first are told so, and hear nothing of the second; it is not tried a third time."""
    model.repeats, listening = False, asyncio.Semaphore(0)
    model.may_end.clear()  # before everybody has heard its beginning
    leader, other = gateways
    async with client() as session:
        leading = asyncio.create_task(ended(session, leader))
        await model.begun.wait()
        following = [asyncio.create_task(ended(session, other, listening.release)) for _ in range(CLIENTS - 1)]
        for _ in following:
            await listening.acquire()
        kill_worker(leader)
        model.may_end.set()
        told = await asyncio.gather(*following)
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await leading
    assert model.calls <= 2
    assert {code for _, _, code in told} == {"answer_changed"}
    assert all(steps == STEPS[: len(steps)] for _, steps, _ in told)
