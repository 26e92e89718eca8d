"""What a model says, in pieces of any size -> its text, and the calls written in it.

Two forms: text with `<tool_call>{…}</tool_call>` in it, and a JSON list of calls and nothing else. How the text was cut
into pieces changes nothing of what is found.
"""

from typing import Literal, Protocol

import msgspec

from gateway.backends.tools.scanning import Call
from gateway.errors import UnfitAnswer

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
_SPACE = " \t\r\n"


class Named(msgspec.Struct, frozen=True):
    """A call begins."""

    place: int
    name: str


class Argued(msgspec.Struct, frozen=True):
    """A call's arguments go on."""

    place: int
    text: str


Piece = str | Named | Argued


class Reader(Protocol):
    """Reads one choice."""

    calls: list[Call]

    def feed(self, text: str) -> list[Piece]:
        """What is found in `text`. Raises `UnfitAnswer`."""
        ...

    def end(self, *, cut: bool) -> list[Piece]:
        """What was held back. Raises `UnfitAnswer` when a call is not complete, unless the answer was `cut` short."""
        ...


class _Calls:
    """The calls of one choice, told as they come."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._told = 0
        """How much of the last call's arguments was told."""
        self._is_named = False

    def begin(self) -> None:
        """Another one."""
        self.calls.append(Call())
        self._told, self._is_named = 0, False

    def take(self, text: str, at: int, found: list[Piece]) -> int:
        """Read on in the last one."""
        call, place = self.calls[-1], len(self.calls) - 1
        at = call.take(text, at)
        if call.name and not self._is_named:
            self._is_named = True
            found.append(Named(place, call.name))
        if self._is_named and (new := call.arguments[self._told :]):
            self._told += len(new)
            found.append(Argued(place, new))
        return at


class Tagged:
    """Text with calls between tags. A tag that no JSON object follows is text."""

    def __init__(self) -> None:
        self._calls = _Calls()
        self.calls = self._calls.calls
        self._state: Literal["text", "opened", "call", "closing"] = "text"
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """What is found in `text`."""
        found: list[Piece] = []
        at = 0
        while at < len(text):
            match self._state:
                case "text":
                    at = self._text(text, at, found)
                case "opened":
                    at = self._opened(text, at, found)
                case "call":
                    at = self._calls.take(text, at, found)
                    if self.calls[-1].done:
                        self._state = "closing"
                case "closing":
                    at = self._closing(text, at)
        return found

    def end(self, *, cut: bool) -> list[Piece]:
        """What was held back. White space around calls is left out."""
        if self._state == "call" and not cut:
            raise UnfitAnswer(_BROKEN)
        held, self._held = self._held, ""
        if self._state in {"call", "closing"} or (self.calls and not held.strip(_SPACE)):
            return []
        if cut and self.calls and OPEN.startswith(held.strip(_SPACE)):  # another call was about to begin
            return []
        return [held] if held else []

    def _text(self, text: str, at: int, found: list[Piece]) -> int:
        self._held += text[at:]
        before, tag, after = self._held.partition(OPEN)
        if tag:
            said = before.rstrip(_SPACE)
            self._state, self._held = "opened", before[len(said) :] + OPEN
            _say(said, found)
            return len(text) - len(after)
        keep = _begun(self._held)
        white = len(self._held[: len(self._held) - keep].rstrip(_SPACE))
        if self.calls and not self._held[:white].strip(_SPACE):
            white = 0
        _say(self._held[:white], found)
        self._held = self._held[white:]
        return len(text)

    def _opened(self, text: str, at: int, found: list[Piece]) -> int:
        """After a tag: a call, unless it is anything else than an object."""
        mark = text[at]
        if mark in _SPACE:
            self._held += mark
            return at + 1
        if mark == "{":
            self._state, self._held = "call", ""
            self._calls.begin()
            return at
        _say(self._held, found)
        self._state, self._held = "text", ""
        return at

    def _closing(self, text: str, at: int) -> int:
        """After a call: the closing tag, which some models leave out."""
        mark = text[at]
        if not self._held and mark in _SPACE:
            return at + 1
        if CLOSE.startswith(self._held + mark):
            self._held += mark
            if self._held == CLOSE:
                self._state, self._held = "text", ""
            return at + 1
        self._state = "text"
        return at


class Listed:
    """A JSON list of calls, or one call, and nothing else."""

    def __init__(self) -> None:
        self._calls = _Calls()
        self.calls = self._calls.calls
        self._state: Literal["open", "item", "call", "after", "done"] = "open"
        self._single = False

    def feed(self, text: str) -> list[Piece]:
        """What is found in `text`."""
        found: list[Piece] = []
        at = 0
        while at < len(text):
            if self._state == "call":
                at = self._calls.take(text, at, found)
                if self.calls[-1].done:
                    self._state = "done" if self._single else "after"
            else:
                at += self._between(text[at])
        return found

    def end(self, *, cut: bool) -> list[Piece]:
        """Nothing is ever held back."""
        if self._state != "done" and not cut:
            raise UnfitAnswer(_BROKEN)
        return []

    def _between(self, mark: str) -> int:
        """One character outside calls; how many of it are read."""
        if mark in _SPACE:
            return 1
        match self._state, mark:
            case "open", "[":
                self._state = "item"
            case (("open" | "item"), "{"):
                self._single = self._state == "open"
                self._state = "call"
                self._calls.begin()
                return 0
            case "after", ",":
                self._state = "item"
            case "after", "]":
                self._state = "done"
            case _:
                raise UnfitAnswer(_BROKEN)
        return 1


_BROKEN = "The model was to call a tool, and what it wrote is no complete call. Ask again, or with another temperature."


def _say(text: str, found: list[Piece]) -> None:
    if text:
        found.append(text)


def _begun(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a tag."""
    return next((size for size in range(min(len(OPEN) - 1, len(text)), 0, -1) if OPEN.startswith(text[-size:])), 0)
