"""What is wrong with a value that should be as a JSON Schema says."""

from collections.abc import Iterator
from typing import Any, NoReturn

import jsonschema_rs

from extractors.shapes import Schema


def problems(value: Any, schema: Schema) -> list[str]:
    """What is wrong with `value`, a sentence each."""
    return list(misfits(validator(schema), value))


def validator(schema: Schema) -> Any:
    """What tells whether a value is as `schema` wants it. It fetches nothing, whatever a schema refers to."""
    return jsonschema_rs.Draft202012Validator(schema, retriever=_nothing_outside)


def misfits(validator: Any, value: Any) -> Iterator[str]:
    """What is wrong with a value, a sentence each."""
    try:
        for error in validator.iter_errors(value):
            yield _sentence(error)
    except (ValueError, RecursionError) as error:
        yield f"It cannot be checked: {str(error)[:80]}."


def forgiving(schema: Any) -> Any:
    """`schema` for what is said already: what is not said of a record is not held against it."""
    kept = {name: value for name, value in schema.items() if name != "required"}
    if "items" in schema:
        kept["items"] = forgiving(schema["items"])
    if "anyOf" in schema:
        kept["anyOf"] = [forgiving(one) for one in schema["anyOf"]]
    if "properties" in schema:
        kept["properties"] = {name: forgiving(value) for name, value in schema["properties"].items()}
    return kept


def _nothing_outside(uri: str) -> NoReturn:
    message = f"'{uri}' is outside the schema"
    raise ValueError(message)


def _sentence(error: Any) -> str:
    """What a validator found wrong, and where."""
    path = ".".join(map(str, error.instance_path))
    return f"{path + ': ' if path else ''}{error.message}."
