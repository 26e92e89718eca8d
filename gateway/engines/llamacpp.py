"""llama.cpp, embedded: a GGUF file and a data folder come in, a server on a private socket goes out."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from gateway.config import BackendConfig, Config
from gateway.engines import loading
from gateway.engines.asking import answers
from gateway.engines.engine import LAST_LINES, Setting, Weights, expect_free_name, marked
from gateway.models.source import ModelFile, resolve
from storage.embedded.child import Command
from storage.embedded.folder import DataFolder
from storage.embedded.running import Care, Notify, running

_LOAD_TIMEOUT_S = 600.0  # A large model on a slow disk; a server that fails ends at once.
_ERROR: Final = re.compile(r"^[\d.]+ E +(?:[\w ]+\(?\)?: +)?(?:error loading model: )?(?P<said>.+)", re.MULTILINE)


class LlamaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How llama.cpp runs; None leaves the choice to the server program."""

    slots: int = 4
    context_tokens: int | None = None  # per slot
    threads: int | None = None
    embeddings: bool = True
    states: Path | None = None
    """Where the states of its slots may be saved."""
    more: tuple[str, ...] = ()
    """`--name=value`, for any of llama.cpp's own parameters."""


@asynccontextmanager
async def serving(setting: Setting, wanted: str) -> AsyncGenerator[BackendConfig]:
    """Serve the model that `wanted` means for the length of the block. Raises `AskonceError`."""
    config, tell = setting.config, setting.tell
    model = await resolve(
        wanted,
        models_dir=setting.models_dir,
        hub_endpoint=config.hf_endpoint or None,
        hub_token=config.hf_token or None,
        progress=lambda done, total: tell.moving("model", f"{total / 2**20:.0f} MiB", done / max(1, total)),
    )
    if model.notice:
        tell.notice(model.notice)
    tell.step("model", f"{model.name} ({model.path})")
    expect_free_name(config, model.name)
    weights = await Weights.of(model.path, setting.models_dir)
    options, care = _options(config, setting.folder), await _care(setting, model, weights)
    server = llamacpp(setting.folder, model.path, model.name, options=options, notify=tell.notice, care=care)
    async with server as socket:
        await weights.expect()  # it has loaded what the answers will be named after
        tell.step("llama.cpp", f"ready on {socket} (its log: {setting.folder.logs / 'llamacpp.log'})")
        yield BackendConfig(
            kind="llamacpp",
            name="llamacpp",
            model=model.name,
            url=f"unix:{socket}",
            engine_version=marked(metadata.version("xllamacpp"), config.engine_args),
            model_version=weights.digest,
            guidance=True,
            kv_unified=True,
            prefix_states=options.states,
            prefix_states_max_bytes=config.prefix_states_max_bytes or 1,
        )


@asynccontextmanager
async def llamacpp(
    folder: DataFolder,
    model_path: Path,
    alias: str,
    *,
    options: LlamaOptions | None = None,
    notify: Notify | None = None,
    care: Care | None = None,
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
    async with answers(f"unix:{socket}", "/health") as healthy:
        care = msgspec.structs.replace(care or Care(), healthy=healthy, cause=cause, last_lines=LAST_LINES)
        async with running(command, ready=healthy, start_timeout_s=_LOAD_TIMEOUT_S, notify=notify, care=care):
            yield socket


def cause(log: str) -> str:
    """The first error in llama.cpp's log: the others are its consequences."""
    found = _ERROR.search(log)
    return found["said"].strip()[:500] if found else ""


def _options(config: Config, folder: DataFolder) -> LlamaOptions:
    return LlamaOptions(
        slots=config.slots,
        context_tokens=config.context_tokens,
        threads=config.threads,
        states=folder.states if config.prefix_states_max_bytes else None,
        more=config.engine_args,
    )


async def _care(setting: Setting, model: ModelFile, weights: Weights) -> Care:
    size_bytes = (await asyncio.to_thread(model.path.stat)).st_size
    return Care(renewed=weights.unchanged, starting=loading.measuring(setting.tell, "llama.cpp", size_bytes))


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
    if options.states is not None:
        argv += ["--states", str(options.states)]
    return (*argv, *options.more)
