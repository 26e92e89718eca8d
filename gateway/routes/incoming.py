"""A request for text, decoded, with what was found out before."""

import msgspec

from gateway.canonical import Request
from gateway.looking import Preview
from gateway.ready import Place, Stamp


class Incoming(msgspec.Struct, frozen=True):
    """What is asked, and what is kept of it, if that was looked up."""

    question: Request
    preview: Preview | None = None
    place: Place = ()
    """Its bytes."""
    since: Stamp | None = None
    """When it came, where it has no wishes."""
