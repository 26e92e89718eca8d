"""A gateway that is asked for responses, and what its streams say."""

import json
from collections.abc import Callable
from typing import Any

import httpx
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.acceptance.in_thread import MODEL, Gateway

PATH = "/v1/responses"
HI: dict[str, Any] = {"model": MODEL, "input": "Hi there", "temperature": 0}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
Make = Callable[..., Gateway]


class Asked:
    """A gateway, asked for responses."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.url = gateway.url + PATH

    def __call__(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """The reply to a request with some fields changed."""
        return httpx.post(self.url, json=HI | fields, headers=headers, timeout=30)

    def made(self, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """The response."""
        reply = self(headers, **fields)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def found(self, name: str, rest: str = "", **params: Any) -> httpx.Response:
        """What is found under an id."""
        return httpx.get(f"{self.url}/{name}{rest}", params=params, timeout=30)

    def where(self, **fields: Any) -> str:
        """What the cache did."""
        return self(**fields).headers["x-askonce-cache"]


def events(text: str) -> list[Any]:
    """The events of a stream; each names its type twice, and numbers follow each other."""
    found = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        found.append(event)
    numbers = [event["sequence_number"] for event in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(found)))
    return found


def words(response: Any) -> str:
    """A response's text."""
    return Response.model_validate(response).output_text
