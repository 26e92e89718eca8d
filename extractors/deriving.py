"""The records of examples -> the JSON Schemas of their classes."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from extractors.shapes import Schema, closed, type_of


class Record(Protocol):
    """What was found."""

    @property
    def name(self) -> str:
        """Its class."""
        ...

    @property
    def attributes(self) -> dict[str, Any]:
        """What is said of it."""
        ...


def derived(records: Iterable[Record]) -> dict[str, Schema]:
    """Classes with the attributes that these have, each of the types that it has there."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault(record.name, []).append(record.attributes)
    return {name: _of_objects(said) for name, said in found.items()}


def _of_objects(said: Sequence[dict[str, Any]]) -> Schema:
    names = dict.fromkeys(name for one in said for name in one)
    return closed({name: _of_values([one[name] for one in said if name in one]) for name in names})


def _of_values(values: Sequence[Any]) -> Schema:
    types = {type_of(value) for value in values}
    if types == {"object"}:
        return _of_objects(values)
    if types == {"array"}:
        items = [item for value in values for item in value]
        return {"type": "array", "items": _of_values(items) if items else {"type": "string"}}
    if types == {"integer", "number"}:
        return {"type": "number"}
    if types & {"array", "object"}:
        return {"anyOf": [_of_values([one for one in values if type_of(one) == kind]) for kind in sorted(types)]}
    return {"type": next(iter(types))} if len(types) == 1 else {"type": sorted(types)}
