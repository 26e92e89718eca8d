"""Who asks, found out before any handler runs: nobody can forget to ask."""

from collections.abc import Collection
from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from gateway.access import presented
from gateway.caller import Caller
from gateway.errors import RequestError

NAMESPACE = "x-askonce-namespace"


class Authenticated(AbstractAuthenticationMiddleware):
    """Gives each request its `Caller` as `request.auth`. A route says with `opt={"scope": …}` what its key must be for.

    Routes with `exclude_from_auth=True` are for everybody.
    """

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """The caller. Raises `MissingKey`, `InvalidKey`, `Forbidden` and `AccessUnknown`."""
        caller: Caller = await connection.app.state.parts.access.caller(_of(connection))
        caller.expect(connection.route_handler.opt.get("scope", "ask"))
        if namespace := connection.headers.get(NAMESPACE):
            caller = caller.within(namespace)
        return AuthenticationResult(user=None, auth=caller)


async def names_for(connection: ASGIConnection[Any, Any, Any, Any], models: Collection[str]) -> list[str] | None:
    """Which of these models may be named to who asks, on a route that is for everybody; None for a stranger."""
    try:
        caller: Caller = await connection.app.state.parts.access.caller(_of(connection))
        caller.expect("ask")
    except RequestError:
        return None
    return [name for name in models if caller.models is None or name in caller.models]


def _of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    return presented(connection.headers.get("authorization", ""), connection.headers.get("x-api-key"))
