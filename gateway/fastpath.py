"""A request for text without wishes in, its reply out, before the framework: what it does for others is done here.

Everything else goes on to the framework.
"""

from functools import partial
from typing import Any

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.access import presented
from gateway.pipeline import kept
from gateway.prepared import Said
from gateway.protocol import OFFERED, Offered
from gateway.ready import Ready
from gateway.routes.failing import Refusal, refusal
from gateway.routes.incoming import Incoming
from gateway.routes.leaving import EventStream
from gateway.routes.local_only import foreign
from gateway.routes.parts import Parts
from gateway.routes.text import WIRES, formed, replying
from gateway.routes.whole import JSON, Whole
from gateway.steering import Steering

_NO_WISHES = Steering()
_RECORD = "postgres"
"""What comes from there was not asked for in a long time; its reply is shared when somebody else asks for it, too."""


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
        try:
            reply = await _reply(parts, offered, receive)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the client is told in the same way
            reply = _refused(parts, refusal(error, f"POST {offered.path}"))
        if isinstance(reply, EventStream):
            await reply(scope, receive, send)
        elif isinstance(reply, Whole):
            offered.give(reply.reply)
        else:
            ready, tier = reply
            offered.give(partial(ready.form.reply, tier=tier.encode(), age_s=ready.marks.age_s))
            parts.shelf.given(ready, tier, offered.place)


def _refused(parts: Parts, said: Refusal) -> Whole:
    parts.telemetry.refused(said.code)
    return Whole(msgspec.json.encode(said.content), said.headers | JSON, said.status)


async def _reply(parts: Parts, offered: Offered, receive: Receive) -> EventStream | Whole | tuple[Ready, str]:
    """What is kept, made ready, with the tier that had it; or the reply with what is said now.

    Raises what is wrong with the request, with who asks, or with who was to answer.
    """
    since, wire = parts.shelf.stamp, WIRES[offered.path]
    key = presented(offered.authorization.decode("latin-1"), offered.api_key.decode("latin-1"))
    caller = await parts.access.caller(key)
    caller.expect("ask")
    if offered.namespace:
        caller = caller.within(offered.namespace.decode("latin-1"))
    question = wire.decode(offered.body)
    if question.has_more_to_it:
        return await replying(Incoming(question), caller, _NO_WISHES, receive, parts, wire)
    preview = await parts.pipeline.preview(question, caller)
    if preview is None or preview.hit is None:
        asked = Incoming(question, preview, offered.place, since)
        return await replying(asked, caller, _NO_WISHES, receive, parts, wire)
    route, _, found = preview.hit
    made = formed(wire, question, found.entry, kept(found, route))
    if found.tier != _RECORD:
        said = Said(
            place=offered.place,
            caller=caller,
            question=question,
            form=made,
            entry=found.entry,
            fallback=route.fallback,
        )
        parts.prepared.keep(said)
    return parts.shelf.made(made, found.entry, preview, since), found.tier
