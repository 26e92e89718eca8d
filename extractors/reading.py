"""What a model said about one part of a text in; the records it named out, and whether that is all it meant to say.

The form is LangExtract's: `{"extractions": [{"<class>": "<words of the text>", "<class>_attributes": {…}}, …]}`. Models
put it into fences, speak before and after it, leave out its frame, or end in the middle of it. What can be read without
guessing is read, and what had to be forgiven is told.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeGuard

import msgspec

FRAME: Final = "extractions"
SUFFIX: Final = "_attributes"

Status = Literal["ok", "empty", "refused", "truncated", "invalid"]
"""`ok`: all of it was read. `empty`: there is nothing to extract, and the model said so in the right form. `refused`:
it spoke, but not in this form. `truncated`: it ended before it was done; what was complete is there. `invalid`: no
record, or not every record, could be read.
"""

_THINK, _THOUGHT = "<think>", "</think>"
_FENCED: Final = re.compile(r"```[ \t]{0,8}\w{0,20}[ \t]{0,8}\r?\n(.*?)(?:```|\Z)", re.DOTALL)
_BEGIN: Final = re.compile(r"[{\[]")
_NEXT: Final = re.compile(r"[\s,]*")
_UNSAYABLE: Final = re.compile("[\x00\ud800-\udfff]")
_TOLD: Final = 80
_DEEPEST: Final = 32


class Said(msgspec.Struct, frozen=True):
    """One record, as the model named it."""

    name: str
    """Its class."""
    text: str
    attributes: dict[str, Any] | None = None
    group: int = 0
    """Which item of the list it was in: records of one item belong together."""


class Reading(msgspec.Struct, frozen=True):
    """What was read."""

    status: Status
    said: tuple[Said, ...] = ()
    problems: tuple[str, ...] = ()
    """What was wrong or had to be forgiven, a sentence each, as a model that is asked again is to be told."""


class _Found(msgspec.Struct):
    """What was parsed, and what that took."""

    items: list[Any]
    problems: list[str]
    is_whole: bool = True


_CUT: Final = "The answer ends before it is complete; say less about each record."


def read(text: str, finish_reason: str | None = None) -> Reading:
    """The records in a completion. `finish_reason`: as its backend told it; `length` says that it is not all."""
    spoken = _without_thoughts(text).strip()
    if not spoken:
        return Reading("invalid", problems=("The answer is empty; give a JSON object, with an empty list if need be.",))
    was_cut = finish_reason == "length"
    found = _parsed(spoken)
    if found is None:
        status: Status = "truncated" if was_cut else "invalid" if _BEGIN.search(spoken) else "refused"
        told = _CUT if status == "truncated" else "The answer is not JSON; give the JSON object and nothing else."
        return Reading(status, problems=(told,))
    problems = found.problems
    said, are_all = _records(found.items, problems)
    if was_cut or not found.is_whole:
        status = "truncated"
        problems.append(_CUT)
    else:
        status = "invalid" if not are_all else "ok" if said else "empty"
    return Reading(status, tuple(said), tuple(dict.fromkeys(problems)))


def _without_thoughts(text: str) -> str:
    """What comes after the thoughts. Where the prompt has begun them, only their end is there."""
    said = text.lstrip()
    if said.startswith(_THINK):
        return said.partition(_THOUGHT)[2]
    before, _, after = said.partition(_THOUGHT)
    return after if after.strip() and not before.startswith(("{", "[", "```")) else text


def _parsed(spoken: str) -> _Found | None:
    """The items of everything in `spoken` that is JSON; None when there is none."""
    blocks = [block for block in _FENCED.findall(spoken) if _BEGIN.search(block)]
    found = [one for block in blocks or [spoken] if (one := _block(block)) is not None]
    if not found:
        return None
    problems = [problem for one in found for problem in one.problems]
    if len(found) > 1:
        problems.append(f"The answer has {len(found)} blocks of JSON; give one.")
    return _Found([item for one in found for item in one.items], problems, all(one.is_whole for one in found))


def _block(text: str) -> _Found | None:
    """The items of what is JSON in a block: all of it, or what comes before a place where it is not."""
    problems: list[str] = []
    values: list[Any] = []
    decoder, at, beside = _decoder(problems), 0, False
    while begin := _BEGIN.search(text, at):
        beside |= bool(text[at : begin.start()].strip())
        try:
            value, at = decoder.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            if any(map(_is_framed, values)):
                break
            return _salvaged(text[begin.start() :], problems)
        values.append(value)
    if beside or text[at:].strip():
        problems.append("There are words beside the JSON object; give the object and nothing else.")
    return _of_values(values, problems)


def _of_values(values: list[Any], problems: list[str]) -> _Found | None:
    """The items of those that have the frame; where none has, of all that may be lists or items."""
    values = [value for value in values if _is_framed(value)] or values
    if len(values) > 1:
        problems.append(f"There are {len(values)} JSON objects; give one.")
    found = [items for value in values if (items := _items(value, problems)) is not None]
    return _Found([item for items in found for item in items], problems) if found else None


def _is_framed(value: Any) -> TypeGuard[dict[str, list[Any]]]:
    return isinstance(value, dict) and isinstance(value.get(FRAME), list)


def _items(value: Any, problems: list[str]) -> list[Any] | None:
    """The list in its frame; a bare list, or one item, is forgiven."""
    if _is_framed(value):
        return value[FRAME]
    if isinstance(value, list):
        problems.append(f'The list has no frame; give {{"{FRAME}": […]}}.')
        return value
    if isinstance(value, dict) and value and FRAME not in value:
        problems.append(f'The record has no frame; give {{"{FRAME}": […]}}.')
        return [value]
    return None


def _salvaged(text: str, problems: list[str]) -> _Found | None:
    """The items that are complete, of a list that is not."""
    begin = text.find("[")
    if begin < 0:
        return None
    items: list[Any] = []
    decoder, at = _decoder(problems), begin + 1
    while True:
        at = _after(text, at)
        try:
            item, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        items.append(item)
    return _Found(items, problems, is_whole=False) if items or not text[at:].strip() else None


def _after(text: str, at: int) -> int:
    found = _NEXT.match(text, at)
    return found.end() if found else at


def _decoder(problems: list[str]) -> json.JSONDecoder:
    """One that tells what is not quite JSON."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(name for name, _ in found)
        problems.extend(f"The name '{_shown(name)}' is there twice." for name, count in counts.items() if count > 1)
        return dict(found)

    def constant(name: str) -> None:
        problems.append(f"'{name}' is not JSON; give null.")

    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=constant, strict=False)


def _records(items: Sequence[Any], problems: list[str]) -> tuple[list[Said], bool]:
    """The records in the items, and whether these are all that the items should have been."""
    said: list[Said] = []
    are_all = True
    for number, item in enumerate(items):
        try:
            said += _of_item(item, number, problems)  # what an item names before what is wrong in it stays
        except _UnfitError as error:
            problems.append(f"Item {number + 1} {error}.")
            are_all = False
    return said, are_all


class _UnfitError(Exception):
    """What is wrong with an item."""


def _of_item(item: Any, number: int, problems: list[str]) -> Iterator[Said]:
    if not isinstance(item, dict):
        message = f"is {_kind(item)}, not an object"
        raise _UnfitError(message)
    if "extraction_class" in item and "extraction_text" in item:
        problems.append("A record names its class and its text in fields of their own; give the class as the name.")
        name = str(item["extraction_class"])
        item = {name: item["extraction_text"], name + SUFFIX: item.get("attributes")}
    fields = {name.rstrip(": "): value for name, value in item.items()}
    names = [name for name in fields if not name.endswith(SUFFIX)]
    if not names:
        raise _UnfitError("names no class")
    for name in names:
        _check(name, "a class")
        yield Said(name, _text(name, fields[name]), _attributes(name, fields, problems), number)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        message = f"has {_kind(value)} as '{_shown(name)}', not the words of the text"
        raise _UnfitError(message)
    text = str(value)
    if not text.strip() or (isinstance(value, float) and not math.isfinite(value)):
        message = f"has no words as '{_shown(name)}'"
        raise _UnfitError(message)
    _check(text, name)
    return text


def _attributes(name: str, fields: dict[str, Any], problems: list[str]) -> dict[str, Any] | None:
    value = fields.get(name + SUFFIX)
    if value is None:
        if name + SUFFIX not in fields:
            problems.append(f"A record has no '{_shown(name)}{SUFFIX}'; give an empty object where there are none.")
        return None
    if not isinstance(value, dict):
        message = f"has {_kind(value)} as '{_shown(name)}{SUFFIX}', not an object"
        raise _UnfitError(message)
    _check(value, name + SUFFIX)
    return value


def _check(value: Any, name: str) -> None:
    """Raises for what no database holds, no text that was sent as UTF-8 has, and nobody could go through."""
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > _DEEPEST:
            message = f"is nested too deep as '{_shown(name)}'"
            raise _UnfitError(message)
        if isinstance(one, dict):
            waiting += [(inner, depth + 1) for inner in (*one, *one.values())]
        elif isinstance(one, list):
            waiting += [(inner, depth + 1) for inner in one]
        elif (isinstance(one, str) and _UNSAYABLE.search(one)) or (isinstance(one, float) and not math.isfinite(one)):
            message = f"has characters as '{_shown(name)}' that no text has"
            raise _UnfitError(message)


def _shown(name: str) -> str:
    """A name as it can be told."""
    return _UNSAYABLE.sub("\ufffd", name[:_TOLD])


def _kind(value: Any) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")
