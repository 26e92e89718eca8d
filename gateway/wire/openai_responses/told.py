"""Output -> the reply: a response object, whole or at the end of its events."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from gateway.errors import BackendError
from gateway.wire import reply
from gateway.wire.openai_responses.asked import Asked
from gateway.wire.openai_responses.output import Event, Output, Status
from storage.entry import Chunk, Usage

PREFIX: Final = "resp_"
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Ends that leave an answer incomplete, and what the API calls them."""
_DEFAULTS: Final[dict[str, Any]] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and how it says that something was left out."""


class Told:
    """One response being given, or again: then it was complete at `completed_at`, and the events up to the one of the
    number `after` are left out.
    """

    def __init__(
        self, head: reply.Head, asked: Asked, *, stored: bool, completed_at: int | None = None, after: int = -1
    ) -> None:
        self.head = head
        self.stored = stored
        """Whether it can be found again afterwards."""
        self._asked = asked
        self._after = after
        self.completed_at = completed_at
        self._output = Output(name(head.id), tells_logprobs=asked.tells_logprobs)
        self._finish: str | None = None
        self._usage = Usage()
        self._number = 0

    def opening(self) -> bytes:
        """The events before the first step."""
        started = self._response("in_progress")
        kinds = ("response.created", "response.in_progress")
        return b"".join(self._event({"type": kind, "response": started}) for kind in kinds)

    def step(self, chunk: Chunk) -> bytes:
        """One step as events."""
        return b"".join(self._event(event) for event in self._taken(chunk))

    def closing(self) -> bytes:
        """The events that end a complete answer."""
        status = self._status()
        ended = b"".join(self._event(event) for event in self._output.end(status))
        return ended + self._event({"type": f"response.{status}", "response": self._response(status)})

    def failed(self, error: BackendError) -> bytes:
        """The event that ends an answer which broke off: it is too late for a status."""
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        said = {"code": code, "message": str(error), "type": error.code, "param": error.param}
        self.stored = False
        return self._event({"type": "response.failed", "response": {**self._response("failed"), "error": said}})

    def whole(self, chunks: Iterable[Chunk]) -> bytes:
        """All steps as one reply."""
        for chunk in chunks:
            _drain(self._taken(chunk))
        status = self._status()
        _drain(self._output.end(status))
        return msgspec.json.encode(self._response(status))

    def _taken(self, chunk: Chunk) -> Iterator[Event]:
        if chunk.usage is not None:
            self._usage += chunk.usage
            return
        self._finish = chunk.finish_reason or self._finish
        yield from self._output.step(chunk)

    def _status(self) -> Status:
        return "incomplete" if self._finish in _INCOMPLETE else "completed"

    def _event(self, event: Event) -> bytes:
        numbered = {"type": event["type"], "sequence_number": self._number, **event}
        self._number += 1
        if numbered["sequence_number"] <= self._after:
            return b""
        return b"event: " + event["type"].encode() + b"\n" + reply.sse(numbered)

    def _response(self, status: str) -> dict[str, Any]:
        ended = status in ("completed", "incomplete")
        why = _INCOMPLETE.get(self._finish or "") if ended else None
        return {
            "id": self.head.id,
            "object": "response",
            "created_at": self.head.created,
            "status": status,
            "completed_at": self.completed_at if status == "completed" else None,
            "error": None,
            "incomplete_details": {"reason": why} if why else None,
            "model": self.head.model,
            "output": self._output.items if status != "in_progress" else [],
            "usage": _usage(self._usage, self.head.provenance) if ended else None,
            **_repeated(self._asked.fields),
            "store": self.stored,
        }


def name(response_id: str) -> str:
    """What the ids of a response and of its items have in common."""
    return response_id.removeprefix(PREFIX)


def _drain(events: Iterator[Event]) -> None:
    """Have the events happen; nobody is told."""
    for _ in events:
        pass


def _repeated(fields: dict[str, Any]) -> dict[str, Any]:
    told = {field: fields.get(field, default) for field, default in _DEFAULTS.items()}
    told["reasoning"] = _DEFAULTS["reasoning"] | told["reasoning"]
    told["text"] = _DEFAULTS["text"] | told["text"]
    told["tools"] = [{"parameters": None, "strict": None, **tool} for tool in told["tools"]]
    return told


def _usage(counts: Usage, provenance: str) -> dict[str, Any]:
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        **reply.marker(provenance, counts.cost_micro_usd),
    }
