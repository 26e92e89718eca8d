"""What processes write down for each other about one flight, and under which keys.

`askonce:1:flight:<place>` is the lease: who leads. `askonce:1:steps:<place>:<token>` is that leader's stream of
batches, each under the number of its first step, so that no gap goes unnoticed. `askonce:1:listeners:<place>` holds who
follows, and until when that is believed. All of them expire. A place is a key, and the invalidation that its answers
must be younger than: who asks after one meets others who do, and nobody who asked before.
"""

from typing import Any, Literal

import msgspec

from storage.entry import Chunk
from storage.errors import StorageError

PREFIX = b"askonce:1:"
"""The number changes when an encoding does, so that an old replica's flights are never misread."""
_FIELD = b"batch"


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take, in seconds."""

    deadline_s: float = 0.25
    """What an asker waits for Redis before it goes on alone."""
    patience_s: float = 2.0
    """What those wait who have begun: a hiccup must not cost an answer that is half given."""
    lease_s: float = 5.0
    landed_s: float = 10.0
    """How long a complete answer can still be read here: until every tier has it."""
    landing_s: float = 0.25
    """How long its leader may take to say here that it is complete, once its client has all of it."""
    silence_s: float = 1.0
    """After so long without news a follower looks whether its leader is still there."""
    gather_s: float = 0.05
    """How long steps are gathered while nobody follows."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Whose answer somebody wants to hear."""

    key: bytes
    epoch: int = 0
    """The last invalidation that the asker knows: what its own answer will carry."""
    needs: int | None = None
    """An answer that was begun at a smaller epoch is not listened to; without a number, than the asker's own."""
    origin_id: str = ""
    """The `id` of the reply, if it is the first."""
    tags: tuple[str, ...] = ()
    """The words that the answer is given, if it is the first."""
    max_age_s: float | None = None
    """An answer is not heard when the backend was asked for it longer ago than this."""

    @property
    def place(self) -> bytes:
        """Where those meet who want to hear the same."""
        return self.key + (b":%d" % self.needs if self.needs else b"")

    def allows(self, epoch: int) -> bool:
        """Whether an answer that was begun at `epoch` may be listened to."""
        return epoch >= (self.epoch if self.needs is None else self.needs)

    def is_too_old(self, age_s: float) -> bool:
        """Whether an answer of this age is not wanted."""
        return self.max_age_s is not None and age_s > self.max_age_s


class Fault(msgspec.Struct, frozen=True):
    """Why there is no answer, as clients are told."""

    of: Literal["request", "backend"]
    status: int
    code: str
    type: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Steps that were ready together, and whether they are the last: of an answer, before a fault, or of a leader."""

    steps: tuple[Chunk, ...] = ()
    end: Literal["", "landed", "failed", "left"] = ""
    fault: Fault | None = None
    """With `failed`."""


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """Who leads a flight."""

    token: bytes
    epoch: int
    begun_at: float
    """Seconds since the epoch, UTC."""
    origin_id: str
    """The `id` of the reply this answer is first given in."""
    landed: bool = False
    """Whether the answer is complete."""
    tags: tuple[str, ...] = ()
    """The words that this answer is given to find or delete it by."""


class Names(msgspec.Struct, frozen=True):
    """The keys of one flight under one leader."""

    lease: bytes
    steps: bytes
    listeners: bytes


def names(place: bytes, token: bytes) -> Names:
    """The keys of the flight at `place` under the leader `token`."""
    return Names(PREFIX + b"flight:" + place, PREFIX + b"steps:" + place + b":" + token, PREFIX + b"listeners:" + place)


_ENCODER = msgspec.msgpack.Encoder()
_BATCH = msgspec.msgpack.Decoder(Batch)
_LEASE = msgspec.msgpack.Decoder(Lease)


def encode(value: Batch | Lease) -> bytes:
    """As msgpack."""
    return _ENCODER.encode(value)


def lease(data: bytes) -> Lease:
    """The lease in `data`. Raises `StorageError` when it is none."""
    return _read(_LEASE, data)


def batches(reply: Any) -> list[tuple[int, Batch]]:
    """The batches in the reply to XREAD for one stream, with their places. Raises `StorageError`."""
    ((_, entries),) = reply or ((b"", ()),)
    return [(int(name.partition(b"-")[0]), _read(_BATCH, fields.get(_FIELD, b""))) for name, fields in entries]


def _read(decoder: Any, data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"What another process wrote about a flight cannot be read: {error}"
        raise StorageError(message) from error


def ms(seconds: float) -> int:
    """In whole milliseconds, one at least: Redis takes nothing else."""
    return max(1, int(seconds * 1000))
