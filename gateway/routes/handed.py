"""What was found out about a request before the framework had it, handed to the handler in the scope."""

from typing import Any, Final

import msgspec

from gateway.canonical import Request
from gateway.looking import Preview
from gateway.ready import Place, Stamp

_NAME: Final = "askonce.handed"


class Handed(msgspec.Struct, frozen=True):
    """Its body, decoded, and what is kept of it."""

    question: Request
    preview: Preview | None = None
    place: Place = ()
    """Its bytes."""
    since: Stamp | None = None
    """When it came, where it has no wishes."""


def hand(scope: Any, said: Handed) -> None:
    """Hand it over."""
    scope[_NAME] = said


def handed(scope: Any) -> Handed | None:
    """What was handed over, if anything was."""
    return scope.get(_NAME)
