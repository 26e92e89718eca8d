"""A GGUF file and a data folder come in, the socket of a llama.cpp server of our own goes out."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from storage.embedded.child import Command, Notify, running
from storage.embedded.folder import DataFolder

_LOAD_TIMEOUT_S = 600.0  # A large model on a slow disk; a server that fails ends at once.


class LlamaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How llama.cpp runs; None leaves the choice to the server program."""

    slots: int = 4
    context_tokens: int | None = None  # per slot
    threads: int | None = None
    embeddings: bool = True


@asynccontextmanager
async def llamacpp(
    folder: DataFolder,
    model_path: Path,
    alias: str,
    *,
    options: LlamaOptions | None = None,
    notify: Notify | None = None,
) -> AsyncGenerator[Path]:
    """Serve `model_path` under the name `alias` for the length of the block; entered once the model is loaded.

    Raises:
        EmbeddedError: the model cannot be loaded; the message says why as far as llama.cpp tells.
    """
    socket = folder.run / "llama.sock"
    command = Command(
        name="llama.cpp",
        argv=_argv(model_path, socket, alias, options or LlamaOptions()),
        log_path=folder.logs / "llamacpp.log",
        record_path=folder.run / "llamacpp.pid",
        grace_s=5.0,
        advice="--model names another model.",
    )
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket)), timeout=5.0) as client:

        async def healthy() -> bool:
            if not socket.exists():
                return False
            try:
                return (await client.get("http://llamacpp/health")).is_success
            except httpx.TransportError:  # Not listening yet.
                return False

        async with running(command, ready=healthy, start_timeout_s=_LOAD_TIMEOUT_S, notify=notify):
            yield socket


def _argv(model_path: Path, socket: Path, alias: str, options: LlamaOptions) -> tuple[str, ...]:
    # As a file and not as a module: it imports nothing of ours, and works in whatever folder we were started.
    program = Path(__file__).with_name("llamacpp_server.py")
    argv = [sys.executable, "-P", str(program), "--model", str(model_path), "--socket", str(socket), "--alias", alias]
    argv += ["--slots", str(options.slots)]
    if options.context_tokens is not None:
        argv += ["--context", str(options.context_tokens)]
    if options.threads is not None:
        argv += ["--threads", str(options.threads)]
    if options.embeddings:
        argv.append("--embeddings")
    return tuple(argv)
