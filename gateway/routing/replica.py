"""One backend of a model, and what is known of it: who it is, how it is, and how much it has to do."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any, Final, Literal, TypeVar

from gateway.canonical import Description, Identity
from gateway.config import ReplicaConfig
from gateway.errors import BackendError, BackendGone, BackendTimeout, BackendUnreachable, may_pass
from gateway.routing.backend import Backend
from storage.breaker import Breaker

PING_S: Final = 2.0
RENEW_S: Final = 60.0
"""The longest a backend may take to say who it is: it may have to read its weights for that."""
DESCRIBE_S: Final = 10.0
"""Whether it embeds it says by embedding a word, which waits in line with all others."""
_PATIENCE_S: Final = 1.0
"""How long requests wait for one that may be another by now and does not say."""
_FAILURES: Final = 3
"""So many failures in a row that others did not have make an outlier."""
_AWAY: Final = (BackendUnreachable, BackendGone)

T = TypeVar("T")

_LOG = logging.getLogger("askonce")

State = Literal["ready", "silent", "away"]
"""`silent`: it takes connections, and says nothing. `away`: it does not, or may have become another one."""


def _nothing() -> None:
    pass


class Replica:
    """A backend in its pool. Everything here is one worker's own view."""

    def __init__(
        self, backend: Backend, settings: ReplicaConfig | None = None, *, kind: str = "openai", workers: int = 1
    ) -> None:
        self.backend = backend
        self.name = backend.name
        self.kind = kind
        self.identity: Identity | None = None
        self.state: State = "ready"
        self.fault: BackendError | None = None
        """What went wrong last; None while all is well."""
        self.outstanding = 0
        self.calls = {"answered": 0, "refused": 0, "failed": 0}
        """How many ended how."""
        self.life = 1
        """Which of its processes this is, as far as that was noticed."""
        self.introduced = asyncio.Event()
        """Set once it has been asked who it is, whatever came of it."""
        self.unsure = False
        """Its server may have been replaced just now: nothing is asked of it, or given in its name, before it says."""
        self.lost = asyncio.Event()
        """Set when it has gone away."""
        self.on_room = self.on_identity = self.on_return = _nothing
        """Called when it takes more or less than before; when it is another one; when it is back, most likely as
        another process.
        """
        self.breaker = Breaker(first_s=0.5)
        self.silences = 0
        """How often in a row it did not say how it is."""
        self._failures = 0
        self._rests_until = self._heard_at = self._spent_s = self._spent_at = 0.0
        self._asked_at = float("-inf")
        self._failed_to_return = self._returning = False
        self._renewing: asyncio.Task[None] | None = None
        self._described: tuple[Identity | None, Description] | None = None
        self.configure(settings or ReplicaConfig(), workers)

    def configure(self, settings: ReplicaConfig, workers: int) -> None:
        """Use it differently from now on."""
        self.settings = settings
        self.weight = settings.weight
        most = settings.max_concurrency
        self.limit = max(1, most // workers) if most else None
        """The most that this worker gives it."""
        self._rests_until = 0.0

    def usable(self, now: float, *, in_need: bool = False) -> bool:
        """Whether it may be asked at all; `in_need`, also when it does not say how it is."""
        return not self.unsure and self.is_there(now, in_need=in_need)

    def is_there(self, now: float, *, in_need: bool = False) -> bool:
        """Whether it may be asked once it has said who it is, if it has to say that first."""
        if self.state != "ready" and not (in_need and self.state == "silent"):
            return False
        rested = self._rests_until <= now and not (self.breaker.is_tripped and self.breaker.left_s)
        return rested and self.identity is not None

    def is_returning(self, now: float) -> bool:
        """Whether it is being asked who it is since a moment ago, and may be usable in another."""
        return self._returning and now - self._asked_at < _PATIENCE_S

    def rests_s(self, now: float) -> float:
        """How long it is still to be left alone: it said so, or its breaker is open."""
        return max(self._rests_until - now, self.breaker.left_s)

    @property
    def has_room(self) -> bool:
        """Whether it takes one more."""
        return self.limit is None or self.outstanding < self.limit

    def begin(self) -> None:
        """It is given one more. After failures, this one is a trial: others are kept out until it is decided."""
        self.spent_s()
        self.outstanding += 1
        if self.breaker.is_tripped:
            self.breaker.admits()

    def spent_s(self) -> float:
        """The seconds that one request would have had of it until now, had it been there all the time: those that run
        at the same time share each of them.
        """
        now = time.monotonic()
        self._spent_s += (now - self._spent_at) / max(1, self.outstanding)
        self._spent_at = now
        return self._spent_s

    def end(self) -> None:
        """It is done with one."""
        self.spent_s()
        self.outstanding -= 1
        self.on_room()

    def heard(self) -> None:
        """It has said something."""
        self._heard_at = time.monotonic()

    def succeeded(self) -> None:
        """It gave a whole answer."""
        self.calls["answered"] += 1
        self._well()

    def _well(self) -> None:
        self._failures = self.silences = 0
        self.fault = None
        self.breaker.succeeded()

    def failed(self, error: BackendError) -> None:
        """It gave none. Whether that is its own fault is for `outdone` to say, unless it has gone."""
        if not may_pass(error):  # it refused the request, which is an answer too
            self.calls["refused"] += 1
            self._well()
            return
        self.calls["failed"] += 1
        self._blame(error)

    def _blame(self, error: BackendError) -> None:
        self.fault = error
        if error.retry_after_s:
            self._rests_until = time.monotonic() + error.retry_after_s
        elif is_lost(error):
            self._lose(error)
            self.renew()
        self.on_room()

    def outdone(self, life: int) -> None:
        """Another one answered what this one failed to, in that life."""
        self._failures += life == self.life
        if self._failures >= _FAILURES:
            self.breaker.failed()
            self.on_room()

    async def watch(self, quiet_s: float) -> None:
        """See who it is, if that is not certain, and whether it is there, unless it was heard in the last `quiet_s`."""
        if self.look() or self.state != "ready" or self.identity is None:
            await self.returned()
        if self.state == "ready" and time.monotonic() - self._heard_at > quiet_s:
            await self._ping()

    def look(self) -> bool:
        """Whether it has to be asked who it is before that is relied on."""
        if self.backend.known != self.identity:
            self._rename(self.backend.known)
        if self.state != "ready":
            # Where nothing listens that is said at once, so that no answer of the old weights is given for the new.
            return isinstance(self.fault, BackendUnreachable)
        self.unsure = self.backend.doubted()
        return not self.backend.certain()

    def waits_s(self) -> float:
        """How long a request shall wait for it to say who it is: all together, not each anew."""
        self.renew()
        return max(0.0, self._asked_at + _PATIENCE_S - time.monotonic())

    async def returned(self) -> None:
        """Ask who it is, and whether it is there if it was not."""
        await asyncio.shield(self.renew())

    async def was(self, identity: Identity) -> bool:
        """Whether what it has answered until now was answered as `identity`."""
        return await self.backend.confirms(identity)

    def renew(self) -> "asyncio.Task[None]":
        """Start asking who it is, unless that is being asked."""
        if self._renewing is None or self._renewing.done():
            self._asked_at, self._returning = time.monotonic(), True
            asyncio.get_running_loop().call_later(_PATIENCE_S, self._room)  # who waits for it waits no longer
            self._renewing = asyncio.create_task(self._renew(), name=f"identity of {self.name}")
        return self._renewing

    async def described(self) -> Description:
        """What it tells of its model, asked again once it is another one. Raises `BackendError`."""
        if self._described is None or self._described[0] != self.identity:
            identity = self.identity
            self._described = identity, await self._told(self.backend.described(), DESCRIBE_S)
        return self._described[1]

    @property
    def breaker_state(self) -> str:
        """`closed`, `open`, or `trial` when the next call decides."""
        return "open" if self.breaker.left_s else "trial" if self.breaker.is_tripped else "closed"

    def shown(self, model: str) -> dict[str, Any]:
        """All of this, for people."""
        now = time.monotonic()
        identity = self.identity
        return {
            "model": model,
            "name": self.name,
            "kind": self.kind,
            "state": "unsure" if self.unsure else self.state,
            "breaker": self.breaker_state,
            "rests_s": round(self.rests_s(now), 3),
            "outstanding": self.outstanding,
            "limit": self.limit,
            "weight": self.weight,
            "engine": identity and identity.engine,
            "engine_version": identity and identity.engine_version,
            "model_version": identity and identity.model_version,
            "last_error": str(self.fault) if self.fault else None,
        }

    async def aclose(self) -> None:
        """Close the connections."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
        await self.backend.aclose()

    async def _renew(self) -> None:
        away = self.state != "ready"
        try:
            if away:
                await self._told(self.backend.ping(), PING_S)
            # One that is only due to be asked again may stay silent for once.
            asked = self.backend.renew() if away or self.unsure or self.identity is None else self.backend.identity()
            identity = await self._told(asked, RENEW_S)
        except BackendError as error:
            self._failed_to_return = self._failed_to_return or self.state == "away"
            (self._lose if is_lost(error) or self.unsure or self.identity is None else self._unheard)(error)
            self.unsure = False
        else:
            self.unsure = False
            self._present(identity)
        finally:
            self._returning = False
            self.introduced.set()
            self.on_room()

    def _room(self) -> None:
        self.on_room()

    async def _ping(self) -> None:
        try:
            await self._told(self.backend.ping(), PING_S)
        except BackendError as error:
            (self._blame if is_lost(error) else self._unheard)(error)
        else:
            self.silences = 0

    async def _told(self, question: Awaitable[T], within_s: float) -> T:
        """The answer. Raises `BackendError`, whatever happens."""
        try:
            async with asyncio.timeout(within_s):
                return await question
        except BackendError:
            raise
        except TimeoutError as error:
            raise BackendTimeout(f"Backend '{self.name}' did not say within {within_s:g} s how it is.") from error
        except Exception as error:
            _LOG.exception("Backend '%s' could not be asked how it is", self.name)
            raise BackendError(f"Backend '{self.name}' could not be asked how it is; the log has more.") from error

    def _present(self, identity: Identity) -> None:
        if self._failed_to_return:  # a new process, most likely, that has failed nobody yet
            self._failures, self.fault, self.breaker = 0, None, Breaker(first_s=0.5)
            self._failed_to_return = False
            self.life += 1
        self.silences, self._rests_until = 0, self._rests_until if self.state == "ready" else 0.0
        back, self.state = self.state != "ready", "ready"
        if back:
            self.on_return()
        if identity != self.identity:
            self._rename(identity)
        elif back:
            self.on_room()

    def _rename(self, identity: Identity | None) -> None:
        self.identity = identity
        self.on_identity()
        self.on_room()

    def _unheard(self, error: BackendError) -> None:
        """It is there, but does not say how it is: busy for once, or stuck."""
        self.fault = error
        self.silences += 1
        busy = self.outstanding and time.monotonic() - self._heard_at < 5 * PING_S
        if self.state == "ready" and self.silences >= _FAILURES and not busy:
            self.state = "silent"
            self.on_room()

    def _lose(self, error: BackendError) -> None:
        self.fault = error
        self.lost.set()
        if self.state != "away":
            self.state = "away"
            self.on_room()


def is_lost(error: BackendError) -> bool:
    """Whether it says that the process is not there, or was not for a moment."""
    return isinstance(error, _AWAY) or error.code == "connect_timeout"
