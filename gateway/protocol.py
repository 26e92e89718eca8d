"""HTTP as uvicorn speaks it; but a reply that is ready is given where its request is parsed: no scope, no task.

What is not ready goes on as it always does, and with it what may be found out sooner than the framework would.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.prepared import PreparedReplies
from gateway.ready import Place, Ready, Shelf
from gateway.routes.reading import LARGE_BYTES
from gateway.routes.text import WIRES

OFFERED: Final = "askonce.offered"
"""Where in its scope a request has what can be answered before the framework sees it."""
_PATHS: Final = frozenset(path.encode() for path in WIRES)
_WISHES: Final = frozenset({b"cache-control", b"x-askonce-tags", b"x-askonce-replay", b"x-askonce-semantic"})
"""Headers by which one request is answered otherwise than another."""
_PLACES: Final = {
    b"host": 1,
    b"origin": 2,
    b"authorization": 3,
    b"x-api-key": 4,
    b"x-askonce-namespace": 5,
    b"content-length": 6,
}
"""Headers that decide whether a request is answered, and with whose answers, by their place among its bytes."""
_BEHIND: Final = 4
"""Requests that wait behind one that is being answered, before no more are read."""
_SMALL_BYTES: Final = 2048
"""Bodies up to here are kept as they are; of longer ones, their sha256."""


Reply = Callable[[bytes], bytes]
"""Makes all bytes of a reply. What it is given is the header that tells the date, as it is sent."""


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is whole, and whose client has no wishes."""

    path: str
    host: bytes
    origin: bytes
    authorization: bytes
    api_key: bytes
    namespace: bytes
    body: bytes
    place: Place
    give: Callable[[Reply], None]
    """Sends all of a reply."""


class Parts(Protocol):
    """What a running application is made of."""

    @property
    def shelf(self) -> Shelf:
        """What is ready."""
        ...

    @property
    def prepared(self) -> PreparedReplies:
        """What is ready elsewhere."""
        ...


class Application(Protocol):
    """What is served."""

    @property
    def parts(self) -> Parts:
        """What it is made of."""
        ...

    @property
    def max_body_bytes(self) -> int:
        """Larger requests are refused."""
        ...


class FastProtocol(HttpToolsProtocol):
    """One connection to an `Application`."""

    def __init__(self, config: Config, *arguments: Any, **named: Any) -> None:
        super().__init__(config, *arguments, **named)
        application = cast("Application", config.app)
        self._shelf = application.parts.shelf
        self._prepared = application.parts.prepared
        self._max_bytes = min(LARGE_BYTES, application.max_body_bytes)
        self._parts: list[bytes] | None = None
        """Of a request that may be ready: its bytes that decide what it is answered, its body last."""
        self._parked: list[bytes] | None = None
        """Of a request that is whole, and may be ready elsewhere."""
        self._running: RequestResponseCycle | None = None
        self._date: tuple[object, bytes] = (None, b"")

    def on_message_begin(self) -> None:
        """What is parked does not hold up who comes after it."""
        if self._parked is not None:
            self._unpark()
        if self.timeout_keep_alive_task is not None:  # of a reply that was ready, to what came in the same packet
            self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait for the body of what may be ready; it is there in a moment."""
        self._parts = self._deciding()
        if self._parts is None:
            self._begin()

    def on_body(self, body: bytes) -> None:
        """Take a part of it."""
        if self._parts is None:
            super().on_body(body)
        else:
            self._parts[-1] += body

    def on_message_complete(self) -> None:
        """Give what is ready."""
        if self._parts is None:
            super().on_message_complete()
            return
        parts, self._parts = self._parts, None
        place = _place(parts)
        reply = self._shelf.reply(place, self._dated())
        if reply is not None:
            self.transport.write(reply)
            self.on_response_complete()
            return
        self._parked = parts
        if not self._prepared.ask(place, partial(self._told, parts, place)):
            self._unpark()

    def _told(self, parts: list[bytes], place: Place, ready: Ready | None) -> None:
        """Give what is ready elsewhere, unless the request went on meanwhile."""
        if self._parked is not parts:
            return
        if ready is None or self.flow.write_paused:
            self._unpark()
            return
        self._parked = None
        self.transport.write(ready.form.reply(self._dated(), b"redis", ready.marks.age_s))
        self.on_response_complete()
        self._shelf.given(ready, "redis", place)

    def _unpark(self) -> None:
        """What is parked goes on."""
        if self._parked is None:
            return
        parts, self._parked = self._parked, None
        path, host, origin, authorization, api_key, namespace, _, body = parts
        self._pass_on(body)
        cast("dict[str, Any]", self.scope)[OFFERED] = Offered(
            path=path.decode("ascii"),
            host=host,
            origin=origin,
            authorization=authorization,
            api_key=api_key,
            namespace=namespace,
            body=body,
            place=_place(parts),
            give=partial(self._give, self.cycle),  # others may come before this one is answered
        )
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for what is parked, nor for what is being answered while others wait behind it."""
        self._parked = None
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        """A request whose body is on its way, or that is parked, is still answered."""
        self._unpark()
        if self._parts is not None:
            parts, self._parts = self._parts, None
            self._pass_on(parts[-1])
        super().shutdown()

    def _give(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        is_last = not cycle.keep_alive  # the gateway is about to stop
        content = reply(self._dated() + b"connection: close\r\n" if is_last else self._dated())
        cycle.response_started = cycle.response_complete = True
        if not cycle.disconnected:
            self.transport.write(content)
        if is_last:
            self.transport.close()
        self.on_response_complete()

    def _begin(self) -> None:
        super().on_headers_complete()
        if 0 < len(self.pipeline) <= _BEHIND:  # uvicorn would read no more, and not see that the client leaves
            self.flow.resume_reading()

    def _pass_on(self, body: bytes) -> None:
        self._begin()
        if body:
            super().on_body(body)

    def _deciding(self) -> list[bytes] | None:
        """The bytes that decide what a request is answered, where it is one that may be ready."""
        parser, cycle = cast("Any", self.parser), cast("RequestResponseCycle | None", self.cycle)
        if self.url not in _PATHS or parser.get_method() != b"POST" or self.flow.write_paused:
            return None
        if self.pipeline or (cycle is not None and not cycle.response_complete):  # that one is answered first
            return None
        parts, said = [self.url, b"", b"", b"", b"", b"", b"", b""], 0
        for name, value in self.headers:
            if (place := _PLACES.get(name)) is not None:
                if said & 1 << place:  # twice: which one counts, others decide
                    return None
                said |= 1 << place
                parts[place] = value
            elif name in _WISHES:
                return None
        if self.expect_100_continue or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        length = parts[6]
        return parts if length.isdigit() and len(length) < 8 and int(length) <= self._max_bytes else None

    def _dated(self) -> bytes:
        headers = self.server_state.default_headers
        if self._date[0] is not headers:
            self._date = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._date[1]


def _place(parts: list[bytes]) -> Place:
    """No two different requests have the same."""
    body = parts[-1]
    if len(body) <= _SMALL_BYTES:
        return tuple(parts)
    return (*parts[:-1], hashlib.sha256(body).digest())
