"""What one call to a backend gave: vectors by the keys of their inputs, and the same as a step of a flight."""

import base64
import binascii
from collections.abc import Mapping, Sequence

import msgspec

from gateway.canonical import Vector
from gateway.errors import BackendError
from storage.entry import Chunk


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors of one call."""

    vectors: Mapping[bytes, Vector]
    ours: bool
    """Whether this process made the call."""
    origin_id: str
    """The `id` of the reply they were first given in."""
    kept: bool
    """Whether all of them are kept, or will be if all goes well."""
    backend: str = ""
    """The replica that gave them."""


_DECODER = msgspec.msgpack.Decoder(dict[bytes, Vector])


def step(vectors: Mapping[bytes, Vector], backend: str = "") -> Chunk:
    """All vectors of a call as the one step of its flight: who follows hears all of them or none."""
    return Chunk(content=base64.b64encode(msgspec.msgpack.encode(vectors)).decode(), backend=backend)


def heard(steps: Sequence[Chunk], keys: Sequence[bytes]) -> dict[bytes, Vector]:
    """The vectors of `keys` in what another gateway passed on. Raises `BackendError` when they are not there."""
    try:
        found = _DECODER.decode(base64.b64decode("".join(said.content for said in steps), validate=True))
        return {key: found[key] for key in keys}
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError, KeyError) as error:
        message = "What another gateway was told of these inputs cannot be read. Ask again."
        raise BackendError(message) from error
