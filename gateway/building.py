"""The settings of a backend in, the backend out: one line in a table for each kind. Nothing is connected yet."""

from typing import Protocol

from gateway.backends import dialect, scripted
from gateway.backends.constraints import Manner
from gateway.backends.forms import Manners
from gateway.backends.openai_compatible import OpenAICompatible
from gateway.backends.openai_compatible import Server as OpenAIServer
from gateway.backends.parameters import Engine
from gateway.backends.prefix_states.server import remembering
from gateway.backends.scripted import Scripted
from gateway.backends.server import MAX_CONNECTIONS, Server
from gateway.backends.weights import Files
from gateway.canonical import Identity
from gateway.config import BackendConfig
from gateway.models.digest import Digests
from gateway.routing.backend import Backend


class Build(Protocol):
    """Makes the backend that settings describe; `files` are the models on this machine."""

    def __call__(self, backend: BackendConfig, files: Files | None = None) -> Backend:
        """The backend."""
        ...


def _server(backend: BackendConfig) -> Server:
    return Server(
        backend.replica_name, backend.url, api_key=backend.api_key, connect_timeout_s=backend.connect_timeout_s
    )


def _openai(accent: dialect.Dialect) -> Build:
    def build(backend: BackendConfig, files: Files | None = None) -> Backend:
        identity, server = _given(backend, accent.engine), _server(backend)
        manners = _manners(backend, accent.engine, accent.constrains)
        return OpenAICompatible(
            backend.replica_name, server, backend.model, accent, identity, files or Digests(), manners=manners
        )

    return build


def _llamacpp(backend: BackendConfig, files: Files | None = None) -> Backend:
    accent = dialect.LLAMACPP
    identity = _given(backend, accent.engine)
    server: OpenAIServer = _server(backend)
    if backend.prefix_states is not None and identity is not None:
        server = remembering(server, backend.url, backend.prefix_states, identity, backend.prefix_states_max_bytes)
    manners = _manners(backend, accent.engine, "guided" if backend.guidance else accent.constrains)
    return OpenAICompatible(
        backend.replica_name,
        server,
        backend.model,
        accent,
        identity,
        files or Digests(),
        manners=manners,
        embeds_together=backend.kv_unified,
    )


def _manners(backend: BackendConfig, engine: Engine, constrains: Manner) -> Manners:
    return Manners(engine=engine, constrains=constrains, tools=backend.tools, unsupported=backend.unsupported)


def _given(backend: BackendConfig, engine: str) -> Identity | None:
    """Who answers, where the settings say so."""
    return Identity(engine, backend.engine_version, backend.model_version) if backend.model_version else None


def _ollama(backend: BackendConfig, files: Files | None = None) -> Backend:
    del files  # it tells a digest itself
    # Its client brings pydantic and httpx: a third of a second and many megabytes that only its users should pay.
    import httpx  # noqa: PLC0415 -- see above

    from gateway.backends.ollama import Client, Ollama  # noqa: PLC0415 -- see above
    from gateway.backends.unbroken import UnbrokenLines  # noqa: PLC0415 -- it is httpx's

    timeout = httpx.Timeout(None, connect=backend.connect_timeout_s)
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=256)
    transport = UnbrokenLines(httpx.AsyncHTTPTransport(limits=limits))
    client = Client(backend.url, api_key=backend.api_key, timeout=timeout, transport=transport)
    manners = _manners(backend, "ollama", "format")
    identity = _given(backend, "ollama")
    return Ollama(backend.replica_name, client, _server(backend), backend.model, identity, manners=manners)


def _scripted(backend: BackendConfig, files: Files | None = None) -> Backend:
    del files
    return Scripted(backend.replica_name, scripted.read(backend.script))


BUILD: dict[str, Build] = {
    "vllm": _openai(dialect.VLLM),
    "openai": _openai(dialect.OPENAI),
    "llamacpp": _llamacpp,
    "ollama": _ollama,
    "scripted": _scripted,
}
