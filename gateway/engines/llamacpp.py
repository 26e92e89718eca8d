"""llama.cpp, embedded: a GGUF file and a data folder come in, a server on a private socket goes out."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

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

    name: Literal["llamacpp", "embedding"] = "llamacpp"
    """What its files are called: two may run side by side."""
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
    async with _serving(setting, wanted, _options(setting.config, setting.folder)) as backend:
        yield backend


@asynccontextmanager
async def embedding(setting: Setting, wanted: str) -> AsyncGenerator[BackendConfig]:
    """Serve a model that embeds, beside the one that answers, for the length of the block. Raises `AskonceError`."""
    options = LlamaOptions(name="embedding", slots=setting.config.slots, threads=setting.config.threads)
    async with _serving(setting, wanted, options) as backend:
        yield backend


@asynccontextmanager
async def _serving(setting: Setting, wanted: str, options: LlamaOptions) -> AsyncGenerator[BackendConfig]:
    config, tell = setting.config, setting.tell
    step = "model" if options.name == "llamacpp" else options.name
    model = await resolve(
        wanted,
        models_dir=setting.models_dir,
        hub_endpoint=config.hf_endpoint or None,
        hub_token=config.hf_token or None,
        progress=lambda done, total: tell.moving(step, f"{total / 2**20:.0f} MiB", done / max(1, total)),
    )
    if model.notice:
        tell.notice(model.notice)
    tell.step(step, f"{model.name} ({model.path})")
    expect_free_name(config, model.name)
    weights = await Weights.of(model.path, setting.models_dir)
    care = await _care(setting, model, weights)
    server = llamacpp(setting.folder, model.path, model.name, options=options, notify=tell.notice, care=care)
    async with server as socket:
        await weights.expect()  # it has loaded what the answers will be named after
        tell.step("llama.cpp", f"ready on {socket} (its log: {setting.folder.logs / f'{options.name}.log'})")
        yield BackendConfig(
            kind="llamacpp",
            name=options.name,
            model=model.name,
            url=f"unix:{socket}",
            engine_version=marked(metadata.version("xllamacpp"), options.more),
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
    options = options or LlamaOptions()
    socket = folder.run / ("llama.sock" if options.name == "llamacpp" else "embed.sock")
    command = Command(
        name="llama.cpp",
        argv=_argv(model_path, socket, alias, options),
        log_path=folder.logs / f"{options.name}.log",
        record_path=folder.run / f"{options.name}.pid",
        grace_s=5.0,
        advice=f"{'--model' if options.name == 'llamacpp' else 'embedding_model'} names another model.",
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
