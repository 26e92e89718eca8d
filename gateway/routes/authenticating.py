"""Who asks, found out before any handler runs: nobody can forget to ask."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from gateway.caller import Caller

NAMESPACE = "x-askonce-namespace"


class Authenticated(AbstractAuthenticationMiddleware):
    """Gives each request its `Caller` as `request.auth`. A route says with `opt={"scope": …}` what its key must be for.

    Routes with `exclude_from_auth=True` are for everybody.
    """

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """The caller. Raises `MissingKey`, `InvalidKey`, `Forbidden` and `AccessUnknown`."""
        caller: Caller = await connection.app.state.parts.access.caller(_presented(connection))
        caller.expect(connection.route_handler.opt.get("scope", "ask"))
        if namespace := connection.headers.get(NAMESPACE):
            caller = caller.within(namespace)
        return AuthenticationResult(user=None, auth=caller)


def _presented(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """The key as OpenAI's clients send it, or as Anthropic's do."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key")
