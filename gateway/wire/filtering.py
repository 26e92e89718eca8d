"""OpenAI's filters -> an expression that Postgres decides about the attributes of a document. Pure.

A comparison says what stands under a key; `and` and `or` join others. Where nothing stands under a key, or something of
another type, a comparison is false, and `ne` and `nin` are true. A list has what one of its items is.
"""

import json
import math
from typing import Any, Final

from gateway.errors import InvalidRequest

_DEPTH: Final = 10
_COMPARISONS: Final = 200
"""In one filter, each value of a list counted."""
_LONGEST: Final = 1000
_SIGNS: Final = {"eq": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_JOINS: Final = {"and": " && ", "or": " || "}
_KNOWN: Final = "eq, ne, gt, gte, lt, lte, in, nin, and, or"


def path(said: Any, param: str = "filters") -> str:
    """The filter as a predicate of SQL/JSON. Raises `InvalidRequest`, which names `param`."""
    return _Compiler(param).predicate(said, "", _DEPTH)


class _Compiler:
    """Makes one predicate."""

    def __init__(self, param: str) -> None:
        self._param = param
        self._left = _COMPARISONS

    def predicate(self, said: Any, where: str, depth: int) -> str:
        """What a filter, or a part of one, is true of."""
        if not isinstance(said, dict):
            raise self._refusal("must be an object with 'type'", where)
        kind = said.get("type")
        if kind in _JOINS:
            return self._compound(said, where, depth)
        if kind not in (*_SIGNS, "ne", "in", "nin"):
            raise self._refusal(f"has a 'type' that is none of {_KNOWN}", where)
        self._expect(said, {"type", "key", "value"}, where)
        key = said.get("key")
        if not isinstance(key, str) or not 0 < len(key) <= _LONGEST or "\x00" in key:
            raise self._refusal("must have a 'key' that is a name", where)
        return self._comparison(kind, f"$.{_quoted(key)}", said.get("value"), where)

    def _compound(self, said: dict[str, Any], where: str, depth: int) -> str:
        self._expect(said, {"type", "filters"}, where)
        inner = said.get("filters")
        if not isinstance(inner, list) or not inner:
            raise self._refusal("must have 'filters', a list that is not empty", where)
        if depth == 0:
            raise self._refusal(f"is nested deeper than {_DEPTH} levels", where)
        parts = [self.predicate(one, f"{where}.filters[{place}]", depth - 1) for place, one in enumerate(inner)]
        return f"({_JOINS[said['type']].join(parts)})"

    def _comparison(self, kind: str, place: str, value: Any, where: str) -> str:
        if kind in ("in", "nin"):
            if not isinstance(value, list):
                raise self._refusal("must have a list as its 'value'", where)
            found = " || ".join([f"{place} == {self._value(one, where)}" for one in value]) or "false == true"
            return f"({found})" if kind == "in" else _unless(found)
        if kind == "ne":
            return _unless(f"{place} == {self._value(value, where)}")
        return f"({place} {_SIGNS[kind]} {self._value(value, where)})"

    def _value(self, value: Any, where: str) -> str:
        self._left -= 1
        if self._left < 0:
            raise self._refusal(f"compares with more than {_COMPARISONS} values", "")
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e300:
            return repr(value)
        if isinstance(value, str) and len(value) <= _LONGEST and "\x00" not in value:
            return _quoted(value)
        raise self._refusal("must have a string, a number, true or false as its 'value'", where)

    def _expect(self, said: dict[str, Any], known: set[str], where: str) -> None:
        if strange := next(iter(said.keys() - known), None):
            raise self._refusal(f"has the unknown field '{strange[:80]}'", where)

    def _refusal(self, what: str, where: str) -> InvalidRequest:
        place = self._param + where
        return InvalidRequest(f"'{place}' {what}.", param=place, code="invalid_value")


def _unless(predicate: str) -> str:
    """True where it is false, or cannot be decided."""
    return f"((!({predicate})) || (({predicate}) is unknown))"


def _quoted(text: str) -> str:
    """A string, as JSON and SQL/JSON write it."""
    return json.dumps(text)
