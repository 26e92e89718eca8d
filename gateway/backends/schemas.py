"""JSON Schemas of clients, checked before a model is asked; and what was said, against them."""

import json
from collections.abc import Iterable
from typing import Any, NoReturn

import jsonschema_rs

from gateway.errors import InvalidRequest

_TOLD_CHARACTERS = 200
_FAULTS = (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, RecursionError)


class Schema:
    """A schema that can be used. Raises `InvalidRequest`, naming `param`, for one that is none or leads elsewhere."""

    def __init__(self, said: Any, param: str) -> None:
        self.said = said
        if said is False:
            message = f"'{param}' is false, a schema that nothing fits."
            raise InvalidRequest(message, param=param, code="invalid_schema")
        try:
            # Nothing is fetched: a schema could name any address in this network.
            self._validator = jsonschema_rs.validator_for(said, retriever=_nothing_outside)
        except _FAULTS as error:
            message = f"'{param}' is no JSON Schema that can be used: {_brief(error)}"
            raise InvalidRequest(message, param=param, code="invalid_schema") from error

    def misfit(self, text: str) -> str:
        """Why `text` is not JSON that fits; empty when it is."""
        try:
            value = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return "it is not JSON"
        try:
            return _first(self._validator.iter_errors(value))
        except _FAULTS as error:  # a pattern that takes too long
            return _brief(error)


def _first(errors: Iterable[jsonschema_rs.ValidationError]) -> str:
    for error in errors:
        path = ".".join(str(step) for step in error.instance_path)
        return f"at '{path}', {error.message}"[:_TOLD_CHARACTERS] if path else error.message[:_TOLD_CHARACTERS]
    return ""


def _brief(error: BaseException) -> str:
    return str(error).partition("\n")[0][:_TOLD_CHARACTERS]


def _nothing_outside(uri: str) -> NoReturn:
    message = f"'{uri}' is outside the schema"
    raise ValueError(message)


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
