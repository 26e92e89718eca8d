"""Steps of one choice as an engine says them -> as a client shall hear them: calls found, numbered and checked."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.backends.schemas import Schema
from gateway.backends.tools.offered import Offer, Tool
from gateway.backends.tools.reading import Argued, Listed, Named, Piece, Reader, Tagged
from gateway.errors import UnfitAnswer
from storage.entry import Chunk

_WHOLE: Final = frozenset({"stop", "tool_calls", "function_call"})
"""How an answer ends that says all it was to say."""


class Promise(msgspec.Struct, frozen=True):
    """What an answer is to be."""

    offer: Offer = Offer()
    schema: Schema | None = None
    """What the text has to fit, in an answer that calls nothing; None for any text."""
    written: bool = False
    """Whether calls are written in the text, for the engine knows nothing of them."""
    ids: str = ""
    """What ids of calls are made of."""

    def reader(self) -> Reader | None:
        """What finds the calls in the text."""
        if not (self.written and self.offer.open):
            return None
        return Listed() if self.offer.choice == "required" else Tagged()


class Choice:
    """One choice of an answer. Raises `UnfitAnswer` with the step that breaks the promise, at the latest the last."""

    def __init__(self, promise: Promise, index: int) -> None:
        self._promise = promise
        self._index = index
        self._reader = promise.reader()
        self._calls: dict[int, dict[str, str]] = {}
        """Each as far as it has come, by its place: `id`, `name`, `arguments`."""
        self._text: list[str] = []
        self._refused = False
        self._held: Chunk | None = None

    def hear(self, step: Chunk) -> Chunk | None:
        """What the client hears of `step`: nothing while it cannot be told yet what it says."""
        step = self._read(step) if self._reader else self._numbered(step)
        self._text.append(step.content)
        self._refused = self._refused or bool(step.refusal)
        if step.finish_reason:
            step = self._ended(step)
        step = _after(self._held, step)
        self._held = None
        if self._reader is None or step.finish_reason or _speaks(step):
            return step
        self._held = step
        return None

    def _read(self, step: Chunk) -> Chunk:
        """`step` with what is found in its text in place of it."""
        reader = self._reader
        assert reader is not None  # noqa: S101 -- asked for only where there is one
        found = reader.feed(step.content)
        if step.finish_reason:
            found += reader.end(cut=step.finish_reason != "stop")
        text = "".join(piece for piece in found if isinstance(piece, str))
        return msgspec.structs.replace(step, content=text, tool_calls=self._told(found))

    def _told(self, found: Sequence[Piece]) -> tuple[dict[str, Any], ...]:
        """Calls as deltas, one for each call: its name with the first, then its arguments."""
        deltas: dict[int, dict[str, Any]] = {}
        for piece in found:
            match piece:
                case Named(place, name):
                    self._check_name(name)
                    self._calls[place] = {"id": self._id(place), "name": name, "arguments": ""}
                    named = {"name": name, "arguments": ""}
                    deltas[place] = {"index": place, "id": self._id(place), "type": "function", "function": named}
                case Argued(place, text):
                    self._calls[place]["arguments"] += text
                    delta = deltas.setdefault(place, {"index": place, "function": {"arguments": ""}})
                    delta["function"]["arguments"] += text
                case _:
                    pass
        return tuple(deltas.values())

    def _numbered(self, step: Chunk) -> Chunk:
        """`step` with each delta of a call saying which call it belongs to."""
        if not step.tool_calls:
            return step
        return msgspec.structs.replace(step, tool_calls=tuple(self._placed(delta) for delta in step.tool_calls))

    def _placed(self, delta: dict[str, Any]) -> dict[str, Any]:
        function: dict[str, Any] = delta.get("function") or {}
        place = delta["index"] if "index" in delta else self._place(delta.get("id"), function.get("name"))
        call, labels = self._calls.setdefault(place, {"id": "", "name": "", "arguments": ""}), dict[str, Any]()
        if not call["id"]:
            call["id"] = delta.get("id") or self._id(place)
            labels = {"id": call["id"], "type": "function"}
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""
        return {"index": place, **labels, **{name: value for name, value in delta.items() if value is not None}}

    def _place(self, named: str | None, name: str | None) -> int:
        """The call that a delta without a number belongs to: the one with its id, a new one, or the last."""
        known = next((place for place, call in self._calls.items() if named and call["id"] == named), None)
        if known is not None:
            return known
        last = max(self._calls, default=-1)
        return last + 1 if named or name or last < 0 else last

    def _ended(self, step: Chunk) -> Chunk:
        """The last step, once everything has been said. An answer that was cut short, or given up, is as it is."""
        if step.finish_reason not in _WHOLE:
            return step
        self._check_calls()
        self._check_text()
        return msgspec.structs.replace(step, finish_reason="tool_calls") if self._calls else step

    def _check_text(self) -> None:
        schema = self._promise.schema
        if schema is None or self._calls or self._refused:
            return
        if why := schema.misfit("".join(self._text)):
            message = f"The model's answer does not fit 'response_format': {why}. Ask again, or relax the schema."
            raise UnfitAnswer(message)

    def _check_name(self, name: str) -> None:
        if all(tool.name != name for tool in self._promise.offer.tools):
            message = f"The model called '{name[:80]}', which is none of 'tools'. Ask again, or with other words."
            raise UnfitAnswer(message)

    def _check_calls(self) -> None:
        """Arguments that were promised: those of strict tools, and of all where the gateway had them written."""
        if len(self._calls) > 1 and not self._promise.offer.several:
            message = "The model made several calls where 'parallel_tool_calls' allows one."
            raise UnfitAnswer(message)
        tools: dict[str, Tool] = {tool.name: tool for tool in self._promise.offer.tools}
        for call in self._calls.values():
            tool = tools.get(call["name"])
            if tool is None or not (tool.strict or self._promise.written):
                continue
            if why := tool.schema.misfit(call["arguments"]):
                message = f"The model called '{tool.name}' with arguments that do not fit its parameters: {why}."
                raise UnfitAnswer(message)

    def _id(self, place: int) -> str:
        """The same for the same question, so that a second try of it agrees; another for any other."""
        return f"call_{self._promise.ids}{self._index:x}{place:02x}"


def _speaks(step: Chunk) -> bool:
    return bool(step.content or step.reasoning or step.refusal or step.tool_calls)


def _after(held: Chunk | None, step: Chunk) -> Chunk:
    """`step` with the tokens and probabilities of steps that said nothing by themselves."""
    if held is None:
        return step
    return msgspec.structs.replace(
        step,
        token_ids=_both(held.token_ids, step.token_ids),
        prompt_token_ids=held.prompt_token_ids or step.prompt_token_ids,
        logprobs=_joined(held.logprobs, step.logprobs),
    )


def _both(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if one is None or other is None else one + other


def _joined(one: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    if one is None or other is None:
        return one or other
    return {
        name: [*one[name], *other[name]]
        if isinstance(one.get(name), list) and isinstance(other.get(name), list)
        else other.get(name) or one.get(name)
        for name in one | other
    }
