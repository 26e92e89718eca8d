"""Steps -> output items, and the events that tell of them as they grow."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from storage.entry import Chunk

Event = dict[str, Any]
Item = dict[str, Any]
Status = Literal["completed", "incomplete"]
_DELTAS = {
    "output_text": "response.output_text",
    "refusal": "response.refusal",
    "reasoning_text": "response.reasoning_text",
}
_FIELDS = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
"""Where a part of each type has its text."""


class Output:
    """The items of one answer: thoughts, a message, and calls of functions, in the order in which they begin.

    `name` is part of every item's id, so that an answer told again has the same ones.
    """

    def __init__(self, name: str, *, tells_logprobs: bool = False) -> None:
        self.items: list[Item] = []
        self._name = name
        self._tells_logprobs = tells_logprobs
        self._open: _Message | None = None
        self._calls: dict[int, _Call] = {}

    def step(self, chunk: Chunk) -> Iterator[Event]:
        """What one step tells."""
        if chunk.reasoning:
            yield from self._spoken("reasoning", "reasoning_text", chunk.reasoning, [])
        if chunk.content:
            found = (chunk.logprobs or {}).get("content") if self._tells_logprobs else None
            yield from self._spoken("message", "output_text", chunk.content, [_likelihood(one) for one in found or ()])
        if chunk.refusal:
            yield from self._spoken("message", "refusal", chunk.refusal, [])
        for delta in chunk.tool_calls:
            yield from self._called(delta)

    def end(self, status: Status) -> Iterator[Event]:
        """What the end of the answer tells. An answer without a word is an empty message."""
        if not self.items:
            yield from self._spoken("message", "output_text", "", [])
        if self._open:
            yield from self._open.end(status)
            self._open = None
        for place in sorted(self._calls):
            yield from self._calls[place].end(status)

    def _spoken(self, kind: str, part: str, text: str, likely: list[Any]) -> Iterator[Event]:
        if self._open is None or self._open.item["type"] != kind:
            if self._open:
                yield from self._open.end("completed")
            self._open = _Message(self._new(kind), len(self.items) - 1)
            yield _added(self._open.item, self._open.place)
        yield from self._open.say(part, text, likely)

    def _called(self, delta: dict[str, Any]) -> Iterator[Event]:
        place = int(delta.get("index", 0))
        function: dict[str, Any] = delta.get("function") or {}
        if place not in self._calls:
            if self._open:
                yield from self._open.end("completed")
                self._open = None
            item = self._new("function_call")
            item |= {"call_id": delta.get("id") or f"call_{self._name}_{place}", "name": "", "arguments": ""}
            self._calls[place] = _Call(item, len(self.items) - 1)
            item["name"] = function.get("name") or ""
            yield _added(item, len(self.items) - 1)
        else:
            self._calls[place].item["name"] += function.get("name") or ""
        yield from self._calls[place].say(function.get("arguments") or "")

    def _new(self, kind: str) -> Item:
        made = {
            "message": {"role": "assistant", "content": []},
            "reasoning": {"summary": [], "content": []},
            "function_call": {},
        }[kind]
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        item: Item = {"id": f"{prefix}_{self._name}_{len(self.items)}", "type": kind, "status": "in_progress", **made}
        self.items.append(item)
        return item


class _Message:
    """A message or thoughts: an item of parts, the last of which grows."""

    def __init__(self, item: Item, place: int) -> None:
        self.item = item
        self.place = place
        self._said: list[str] = []
        self._likely: list[Any] = []

    def say(self, part: str, text: str, likely: list[Any]) -> Iterator[Event]:
        parts: list[Any] = self.item["content"]
        if not parts or parts[-1]["type"] != part:
            yield from self._end_part()
            parts.append(_empty(part))
            self._said, self._likely = [], []
            yield self._event("response.content_part.added", part=_empty(part))
        self._said.append(text)
        self._likely += likely
        if text:
            told = {"logprobs": likely} if part == "output_text" else {}
            yield self._event(f"{_DELTAS[part]}.delta", delta=text, **told)

    def end(self, status: Status) -> Iterator[Event]:
        yield from self._end_part()
        self.item["status"] = status
        yield _done(self.item, self.place)

    def _end_part(self) -> Iterator[Event]:
        if not self.item["content"]:
            return
        part: Any = self.item["content"][-1]
        kind, field = part["type"], _FIELDS[part["type"]]
        part[field] = "".join(self._said)
        told = {"logprobs": self._likely} if kind == "output_text" else {}
        part |= told
        yield self._event(f"{_DELTAS[kind]}.done", **{field: part[field]}, **told)
        yield self._event("response.content_part.done", part=part)

    def _event(self, kind: str, **fields: Any) -> Event:
        where = {"item_id": self.item["id"], "output_index": self.place}
        return {"type": kind, **where, "content_index": len(self.item["content"]) - 1, **fields}


class _Call:
    """A call of a function. Several may grow in turn, so each ends with the answer."""

    def __init__(self, item: Item, place: int) -> None:
        self.item = item
        self.place = place
        self._said: list[str] = []

    def say(self, arguments: str) -> Iterator[Event]:
        if arguments:
            self._said.append(arguments)
            yield self._event("response.function_call_arguments.delta", delta=arguments)

    def end(self, status: Status) -> Iterator[Event]:
        self.item |= {"arguments": "".join(self._said), "status": status}
        told = {"name": self.item["name"], "arguments": self.item["arguments"]}
        yield self._event("response.function_call_arguments.done", **told)
        yield _done(self.item, self.place)

    def _event(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "item_id": self.item["id"], "output_index": self.place, **fields}


def items(name: str, chunks: Iterable[Chunk]) -> list[Item]:
    """All items of a complete answer."""
    output = Output(name)
    for chunk in chunks:
        for _ in output.step(chunk):
            pass
    for _ in output.end("completed"):
        pass
    return output.items


def _added(item: Item, place: int) -> Event:
    # A copy: what follows must not change an event that somebody has kept.
    fresh = {name: list(value) if isinstance(value, list) else value for name, value in item.items()}
    return {"type": "response.output_item.added", "output_index": place, "item": fresh}


def _done(item: Item, place: int) -> Event:
    return {"type": "response.output_item.done", "output_index": place, "item": item}


def _empty(kind: str) -> dict[str, Any]:
    told = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
    return {"type": kind, _FIELDS[kind]: "", **told}


def _likelihood(one: dict[str, Any]) -> dict[str, Any]:
    """A token's likelihood; where an engine does not give its bytes they are those of the text."""
    others = [_bytes(other) for other in one.get("top_logprobs") or ()]
    return {**_bytes(one), "top_logprobs": others}


def _bytes(one: dict[str, Any]) -> dict[str, Any]:
    found = one.get("bytes")
    return {**one, "bytes": found if found is not None else list(str(one.get("token", "")).encode())}
