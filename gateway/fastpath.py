"""A request in, the kept answer to it out, before the framework.

Everything else goes on to the framework, with what was found out on the way: its handlers do not do it again.
"""

from functools import partial
from typing import Any, Protocol

from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.access import presented
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.looking import Preview
from gateway.pipeline import kept
from gateway.prepared import PreparedReplies, Said
from gateway.protocol import OFFERED, Offered
from gateway.ready import Ready, Shelf
from gateway.routes.handed import Handed, hand
from gateway.routes.local_only import foreign
from gateway.routes.text import WIRES, formed


class Access(Protocol):
    """Tells callers by their keys."""

    async def caller(self, presented: str | None) -> Caller:
        """Who presents this key. Raises a `RequestError`."""
        ...


class Pipeline(Protocol):
    """Answers requests."""

    async def preview(self, request: Request, caller: Caller) -> Preview | None:
        """What is kept of a request without wishes; None while it is not known who should answer."""
        ...


class Parts(Protocol):
    """What a running application is made of."""

    @property
    def access(self) -> Access:
        """Who asks."""
        ...

    @property
    def pipeline(self) -> Pipeline:
        """What is kept."""
        ...

    @property
    def shelf(self) -> Shelf:
        """What is ready."""
        ...

    @property
    def prepared(self) -> PreparedReplies:
        """What is ready elsewhere."""
        ...


class FastPath:
    """ASGI middleware for requests that come by `FastProtocol`. `state.parts` are there once the application runs.

    `only_local`: what is asked for another site's sake is left to those who refuse it.
    """

    def __init__(self, app: ASGIApp, state: Any, *, only_local: bool) -> None:
        self._app = app
        self._state = state
        self._only_local = only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reply, or pass it on."""
        said: Any = scope
        offered: Offered | None = said.get(OFFERED)
        if offered is None or (self._only_local and foreign(offered.host, offered.origin)):
            await self._app(scope, receive, send)
            return
        parts: Parts = self._state.parts
        found = await _found(parts, offered, said)
        if found is None:
            await self._app(scope, receive, send)
            return
        ready, tier = found
        offered.give(partial(ready.form.reply, tier=tier.encode(), age_s=ready.marks.age_s))
        parts.shelf.given(ready, tier, offered.place)


async def _found(parts: Parts, offered: Offered, scope: Any) -> tuple[Ready, str] | None:
    """A reply with what is kept, and the tier that had it; None when nothing is, or something is wrong that the
    framework knows how to say.
    """
    since, wire = parts.shelf.stamp, WIRES[offered.path]
    try:
        key = presented(offered.authorization.decode("latin-1"), offered.api_key.decode("latin-1"))
        caller = await parts.access.caller(key)
        caller.expect("ask")
        if offered.namespace:
            caller = caller.within(offered.namespace.decode("latin-1"))
        question = wire.decode(offered.body)
        preview = await parts.pipeline.preview(question, caller)
    except Exception:  # noqa: BLE001 -- whatever it is, the framework meets it, too, and knows how to say it
        return None
    if preview is None or preview.hit is None:
        hand(scope, Handed(question, preview, offered.place, since))
        return None
    route, _, found = preview.hit
    made = formed(wire, question, found.entry, kept(found, route))
    parts.prepared.keep(
        Said(
            place=offered.place,
            caller=caller,
            question=question,
            form=made,
            entry=found.entry,
            fallback=route.fallback,
        )
    )
    return parts.shelf.made(made, found.entry, preview, since), found.tier
