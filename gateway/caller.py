"""Who asks, and what they may."""

from typing import Final

import msgspec

from gateway.errors import Forbidden
from storage.entry import Query

DEFAULT_TENANT: Final = "default"
SCOPES: Final = frozenset({"ask", "cache", "admin"})
"""`ask`: completions, embeddings and models; `cache`: what is kept for the tenant; `admin`: the whole server."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's program."""

    tenant: str
    scopes: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    """The models it may ask; None for all."""
    namespaces: frozenset[str] = frozenset()
    """What its tenant shares with others."""
    key_id: str = ""
    namespace: str = ""
    """The shared namespace this request is asked in; the tenant's own place when empty."""

    @property
    def scope(self) -> str:
        """Whose answers these are: part of every key. No tenant's name has a slash, so no two places meet."""
        return f"shared/{self.namespace}" if self.namespace else self.tenant

    def may_see(self, query: Query) -> bool:
        """Whether answers to `query` are its own, and of a model it may ask."""
        return query.scope == self.scope and (self.models is None or query.model in self.models)

    def within(self, namespace: str) -> "Caller":
        """This caller, asking in a shared namespace. Raises `Forbidden`."""
        if namespace not in self.namespaces:
            message = f"The tenant '{self.tenant}' does not share the namespace '{namespace}'."
            raise Forbidden(message, code="namespace_not_allowed", param="x-askonce-namespace")
        return msgspec.structs.replace(self, namespace=namespace)

    def expect(self, scope: str) -> None:
        """Raise `Forbidden` unless the key was made for this."""
        if scope not in self.scopes and "admin" not in self.scopes:
            has = ", ".join(sorted(self.scopes)) or "none"
            message = f"This needs a key with the scope '{scope}'; yours has: {has}."
            raise Forbidden(message, code="insufficient_scope")
