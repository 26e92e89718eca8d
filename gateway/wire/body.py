"""Request bytes -> a JSON object and its typed fields, with an error that says how to mend what is wrong."""

import json
import re
from typing import Any, NoReturn, TypeVar

import msgspec

from gateway.errors import InvalidRequest

MAX_DEPTH = 100
MAX_VALUES = 1_000_000
_TOLD_CHARACTERS = 80
# A string that never ends is one token too, and nothing is tried twice: time stays linear in the body.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{\]}]', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_LENGTH = re.compile(r"Expected `(\w+)` of length (<=|>=) (\d+)")
_LIMIT = re.compile(r"Expected `(?:int|float)` (<=|>=|<|>) (\S+)")
_WRONG = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_VALUE = re.compile(r"Invalid enum value ('?[^'`]*'?)")
_SIGNS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}

_OWN = {"extract": "/v1/extractions", "retrieval": "/v1/search"}
"""Fields of askonce's own, and where else they could be meant."""

T = TypeVar("T")


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises `InvalidRequest` for bytes that are not UTF-8, malformed JSON, a name that occurs twice in one object,
    NaN and infinities, more than `MAX_DEPTH` levels or `MAX_VALUES` values,
    half surrogate pairs, and anything that is not an object.
    """
    text = _utf8(body)
    _bounded(body)
    try:
        value: Any = _DECODE(text)
    except json.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise InvalidRequest(message, code="invalid_json") from error
    except ValueError as error:  # an integer of more digits than Python reads
        message = "The body holds a number with too many digits."
        raise InvalidRequest(message, code="invalid_json") from error
    if not isinstance(value, dict):
        message = 'The body must be a JSON object, such as {"model": …, "messages": […]}.'
        raise InvalidRequest(message, code="invalid_json")
    if _SURROGATE.search(body):
        _whole_characters(value)
    return value


def typed(raw: dict[str, Any], shape: type[T]) -> T:
    """The known fields of `raw`, checked. Raises `InvalidRequest` naming the first field that does not fit."""
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from error


def unknown(raw: dict[str, Any], shape: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of `raw` that `shape` does not know. Raises `InvalidRequest` for one that is askonce's own: no engine
    knows it, and who sends it is waiting for what nobody will do.
    """
    found = {name: value for name, value in raw.items() if name not in shape.__struct_encode_fields__}
    for name, instead in _OWN.items():
        if found.get(name) is not None:
            message = f"'{name}' is a field of /v1/chat/completions; otherwise there is {instead}."
            raise InvalidRequest(message, param=name, code="unsupported_parameter")
    return found


def expect_known(raw: dict[str, Any], shape: type[msgspec.Struct]) -> None:
    """Raise `InvalidRequest` for a field that `shape` does not know: what is misspelt would be passed over."""
    if strange := next(iter(unknown(raw, shape)), None):
        known = ", ".join(sorted(shape.__struct_encode_fields__))
        name = strange[:_TOLD_CHARACTERS].encode(errors="replace").decode()
        message = f"'{name}' is not known here; these are: {known}."
        raise InvalidRequest(message, param=name, code="unknown_parameter")


def _utf8(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        message = (
            f"The body is not valid UTF-8: byte {error.start} ({error.object[error.start]:#04x}) fits no character."
        )
        raise InvalidRequest(message, code="invalid_utf8") from error
    if text.startswith("\ufeff"):
        message = "The body is not valid JSON: it begins with a byte order mark (BOM), which JSON does not have."
        raise InvalidRequest(message, code="invalid_json")
    return text


def _bounded(body: bytes) -> None:
    """Refuse absurd nesting before a recursive parser meets it, and more values than any prompt has."""
    opened = body.count(b"[") + body.count(b"{")
    if opened + body.count(b",") > MAX_VALUES:
        message = f"The body holds more than {MAX_VALUES} values."
        raise InvalidRequest(message, code="too_many_values")
    if opened <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                message = f"The body is nested deeper than {MAX_DEPTH} levels."
                raise InvalidRequest(message, code="nesting_too_deep")
        elif mark in b"]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        twice = twice[:_TOLD_CHARACTERS].encode(errors="replace").decode()
        message = f"The name {twice!r} occurs twice in one object; which value counts would be a guess."
        raise InvalidRequest(message, param=twice, code="duplicate_key")
    return found


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON; leave the field out or send a number."
    raise InvalidRequest(message, code="invalid_json")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        message = f"The number {digits[:20]} is too large."
        raise InvalidRequest(message, code="invalid_json")
    return value


_DECODE = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite).decode


def _whole_characters(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        message = "A string holds half of a surrogate pair (\\ud800–\\udfff), which is not a character."
        raise InvalidRequest(message, code="invalid_unicode") from error


def _misfit(reason: str) -> InvalidRequest:
    found = _PATH.match(reason)
    what, path = (found["what"], found["path"] or "") if found else (reason, "")
    if missing := re.match(r"Object missing required field `(\w+)`", what):
        param = f"{path.removeprefix('$').removeprefix('.')}.{missing[1]}".removeprefix(".")
        return InvalidRequest(f"'{param}' is missing.", param=param, code="missing_field")
    param = path.removeprefix("$").removeprefix(".") or None
    must = _must(what)
    if param == "messages":
        must = must.replace("item", "message")
    return InvalidRequest(f"'{param or 'body'}' {must}.", param=param, code="invalid_value")


def _must(what: str) -> str:
    """What a field must be, in a client's words: "must be a number, not a string"."""
    if length := _LENGTH.match(what):
        kind, sign, count = length.groups()
        if kind == "str":
            return "must not be empty" if count == "1" else f"must have {_SIGNS[sign]} {count} characters"
        return f"must have {_SIGNS[sign]} {'one item' if count == '1' else f'{count} items'}"
    if limit := _LIMIT.match(what):
        return f"must be {_SIGNS[limit[1]]} {limit[2]}"
    if wrong := _WRONG.match(what):
        wanted = [_KINDS.get(kind, kind) for kind in wrong[1].split(" | ") if kind != "null"]
        got = "a fraction" if wrong[2] == "float" else _KINDS.get(wrong[2], wrong[2])
        return f"must be {' or '.join(wanted)}, not {got}"
    if value := _VALUE.match(what):
        return f"has the unknown value {value[1]}"
    return "is out of range" if "out of range" in what else "has a value that does not fit"
