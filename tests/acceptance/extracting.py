"""A model that finds medicines, a gateway that is asked to extract them, and what it says."""

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import httpx

from gateway.canonical import Request
from gateway.errors import BackendUnavailable
from storage.entry import Chunk, Usage
from tests.acceptance.in_thread import MODEL, Gateway

PATH: Final = "/v1/extractions"
RECIPE: Final[dict[str, Any]] = {
    "description": "Extract the medicines.",
    "classes": {"medicine": {"dose": {"type": "string"}}, "allergy": {}},
    "examples": [
        {
            "text": "Took Fooprol 5 mg.",
            "records": [{"class": "medicine", "text": "Fooprol", "attributes": {"dose": "5 mg"}}],
        }
    ],
}
FIRST: Final = "Started Zanprol 10 mg, to be taken with a glass of water every morning before breakfast."
NOTE: Final = (
    f"{FIRST}\n\nNothing else happened today; the patient slept well and was told to come again next week.\n\n"
    "Glyprol 20 mg was stopped, then Glyprol 5 mg begun, because the higher dose was not tolerated.\n"
)
MEDICINE: Final = re.compile(r"([A-Z]\w+prol) (\d+ mg)")
CHUNK: Final = re.compile(r"\nQ: (?P<chunk>(?:(?!\nQ: ).)*)\nA: \Z", re.DOTALL)
Make = Callable[..., Gateway]


def chunk_of(request: Request) -> str:
    """The part of a text that is asked about."""
    found = CHUNK.search(request.prompt["messages"][0]["content"])
    assert found, request.prompt["messages"]
    return found["chunk"]


def answer_to(chunk: str) -> str:
    """What a good model says of it."""
    found = [{"medicine": name, "medicine_attributes": {"dose": dose}} for name, dose in MEDICINE.findall(chunk)]
    return json.dumps({"extractions": found})


class Model:
    """What stands behind the gateway: it finds every medicine, unless a test wants it otherwise."""

    def __init__(self, gateway: Gateway) -> None:
        self.asked: list[Request] = []
        self.say: Callable[[Request], str] = lambda request: answer_to(chunk_of(request))
        self.finish: Callable[[Request], str] = lambda _: "stop"
        self.holds: Callable[[Request], bool] = lambda _: False
        """While it says nothing."""
        self.down_for: Callable[[Request], bool] = lambda _: False
        gateway.backend.complete = self.complete

    @property
    def chunks(self) -> list[str]:
        """What it was asked about."""
        return [chunk_of(request) for request in self.asked]

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer."""
        self.asked.append(request)
        while self.holds(request):  # noqa: ASYNC110 -- a test's own thread changes it
            await asyncio.sleep(0.01)
        if self.down_for(request):
            raise BackendUnavailable
        await asyncio.sleep(0)
        yield Chunk(content=self.say(request))
        yield Chunk(finish_reason=self.finish(request))
        yield Chunk(usage=Usage(7, 3, 0))


class Asked:
    """A gateway that is asked to extract, and the model behind it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.model = Model(gateway)
        self.url = gateway.url + PATH

    def __call__(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """The reply to a request with some fields changed; those that are None are left out."""
        body = {"model": MODEL, "recipe": RECIPE, "text": NOTE, "chunk_chars": 100, **fields}
        said = {name: value for name, value in body.items() if value is not None}
        return httpx.post(self.url, json=said, headers=headers, timeout=30)

    def made(self, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """The extraction."""
        reply = self(headers, **fields)
        assert reply.status_code == (202 if fields.get("background") else 200), reply.text
        return reply.json()

    def found(self, name: str, rest: str = "", headers: dict[str, str] | None = None) -> Any:
        """What is found under an id."""
        return httpx.get(f"{self.url}/{name}{rest}", headers=headers, timeout=30)

    def done(self, name: str, *statuses: str) -> Any:
        """An extraction, once it has one of these statuses."""
        for _ in range(200):
            run = self.found(name).json()
            if run["status"] in (statuses or ("completed", "incomplete", "failed", "cancelled")):
                return run

            time.sleep(0.05)
        raise AssertionError(run["status"])


def events(text: str) -> list[Any]:
    """The events of a stream; each names its type twice."""
    found = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def words(run: Any) -> list[tuple[str, str, int]]:
    """What was found, and where."""
    return [(one["text"], one["attributes"]["dose"], one["start"]) for one in run["records"]]
