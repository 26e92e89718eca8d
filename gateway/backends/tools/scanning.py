"""The text of one call, `{"name": …, "arguments": {…}}`, in pieces of any size -> its name, and its arguments as they
come."""

import json
import re
from typing import Literal

from gateway.errors import UnfitAnswer

ARGUMENTS = frozenset({"arguments", "parameters"})
_SPACE = " \t\r\n"
_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_ENDS_SCALAR = frozenset(",}] \t\r\n")


class Value:
    """Finds where one JSON value ends, and keeps its text."""

    def __init__(self) -> None:
        self.text = ""
        self.done = False
        self._depth = 0
        self._string = False
        self._escaped = False
        self._scalar = False

    def take(self, text: str, at: int) -> int:
        """Take what belongs to the value from `text` on from `at`; where that ends."""
        begun = at
        while at < len(text) and not self.done:
            at = self._step(text, at)
        self.text += text[begun:at]
        return at

    def _step(self, text: str, at: int) -> int:
        if self._string:
            return self._in_string(text, at)
        if self._scalar:
            self.done = text[at] in _ENDS_SCALAR
            return at if self.done else at + 1
        if self._depth == 0:
            return self._begin(text, at)
        found = _OUTSIDE.search(text, at)
        if found is None:
            return len(text)
        mark = found[0]
        if mark == '"':
            self._string = True
        else:
            self._depth += 1 if mark in "{[" else -1
            self.done = self._depth == 0
        return found.end()

    def _begin(self, text: str, at: int) -> int:
        mark = text[at]
        self._string = mark == '"'
        self._depth = int(mark in "{[")
        self._scalar = not (self._string or self._depth)
        return at + 1

    def _in_string(self, text: str, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _IN_STRING.search(text, at)
        if found is None:
            return len(text)
        if found[0] == "\\":
            self._escaped = True
        else:
            self._string = False
            self.done = self._depth == 0
        return found.end()


class Call:
    """One call as it is written. Raises `UnfitAnswer` for what is none."""

    def __init__(self) -> None:
        self.name = ""
        self.arguments = ""
        """What of the arguments has come."""
        self.done = False
        self._at: Literal["open", "key", "colon", "value", "after"] = "open"
        self._key = Value()
        self._value: Value | None = None
        self._member = ""

    def take(self, text: str, at: int) -> int:
        """Take what belongs to the call from `text` on from `at`; where that ends."""
        while at < len(text) and not self.done:
            if self._at == "value" and self._value is not None:
                at = self._in_value(self._value, text, at)
            elif self._at == "key" and (self._key.text or text[at] == '"'):
                at = self._in_key(text, at)
            else:
                self._between(text[at])
                at = at if self._at == "value" and self._value is not None else at + 1
        return at

    def _between(self, mark: str) -> None:
        """One character outside keys and values."""
        if mark in _SPACE:
            return
        match self._at, mark:
            case "open", "{":
                self._at, self._key = "key", Value()
            case (("key" | "after"), "}"):
                self._end()
            case "after", ",":
                self._at, self._key = "key", Value()
            case "colon", ":":
                self._at, self._value = "value", None
            case "value", _:
                if self._member in ARGUMENTS and mark != "{":
                    raise UnfitAnswer(_unlike("its arguments are no object"))
                self._value = Value()
            case _:
                raise UnfitAnswer(_unlike(f"{mark!r} stands where it cannot"))

    def _in_key(self, text: str, at: int) -> int:
        at = self._key.take(text, at)
        if self._key.done:
            self._member, self._at = _string(self._key.text), "colon"
            if (self._member in ARGUMENTS and self.arguments) or (self._member == "name" and self.name):
                raise UnfitAnswer(_unlike(f"{self._member!r} stands in it twice"))
        return at

    def _in_value(self, value: Value, text: str, at: int) -> int:
        at = value.take(text, at)
        if self._member in ARGUMENTS:
            self.arguments = value.text
        if value.done:
            if self._member == "name":
                self.name = _string(value.text)
            self._at, self._value = "after", None
        return at

    def _end(self) -> None:
        if not self.name:
            raise UnfitAnswer(_unlike("it has no name"))
        self.arguments = self.arguments or "{}"
        self.done = True


def _string(text: str) -> str:
    try:
        value = json.loads(text)
        value.encode()
    except (ValueError, AttributeError) as error:  # also half a character, and what is no string
        raise UnfitAnswer(_unlike("a name in it is none")) from error
    return value


def _unlike(why: str) -> str:
    return f"The model wrote a call of a tool that cannot be read: {why}. Ask again, or with another temperature."
