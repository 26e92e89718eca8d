"""What a client in another process or language says of each of its cases."""

from typing import Any

import msgspec


class Problem(msgspec.Struct):
    """What the client raised, with the fields of OpenAI's error envelope."""

    name: str
    status: int | None = None
    code: str | int | None = None
    param: str | None = None
    type: str | None = None
    message: str | None = None


class Outcome(msgspec.Struct):
    """One case: a value or a problem."""

    ok: bool
    value: dict[str, Any] | None = None
    error: Problem | None = None


Outcomes = dict[str, Outcome]


def decoded(output: bytes) -> Outcomes:
    """What a client printed."""
    return msgspec.json.decode(output, type=Outcomes)


def value(outcomes: Outcomes, name: str) -> dict[str, Any]:
    """Return what a case that must work gave."""
    outcome = outcomes[name]
    assert outcome.ok, (name, outcome.error)
    assert outcome.value is not None
    return outcome.value


def problem(outcomes: Outcomes, name: str) -> Problem:
    """Return what a case that must fail raised."""
    error = outcomes[name].error
    assert error is not None, name
    return error
