"""Ollama: the name of a model comes in, a server of our own on a free port of this machine goes out."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx
import msgspec

from gateway.config import BackendConfig, Config, ConfigError
from gateway.engines.asking import answers, opened
from gateway.engines.engine import LAST_LINES, EngineMissing, Setting, environment, expect_free_name
from storage.embedded.child import Command
from storage.embedded.folder import DataFolder
from storage.embedded.running import Care, running
from storage.errors import EmbeddedError

DEFAULT_MODEL: Final = "gemma3:270m"
_START_TIMEOUT_S: Final = 60.0
_LOAD_TIMEOUT_S: Final = 600.0
_PULL_SILENCE_S: Final = 120.0
_PORTS_TRIED: Final = 5
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]*=.*", re.DOTALL)


@asynccontextmanager
async def serving(setting: Setting, wanted: str) -> AsyncGenerator[BackendConfig]:
    """Serve the model `wanted` for the length of the block, pulled if it is not there. Raises `AskonceError`."""
    config, tell = setting.config, setting.tell
    model = DEFAULT_MODEL if wanted == "default" else wanted
    expect_free_name(config, model)
    program = _program(config)
    async with AsyncExitStack() as stack:
        url = await _started(stack, setting, program)
        tell.step("ollama", f"ready on {url} (its log: {setting.folder.logs / 'ollama.log'})")
        async with opened(url, _PULL_SILENCE_S) as client:
            if not await _has(client, model):
                await _pull(client, model, setting)
            await _load(client, model, setting)
        tell.step("model", f"{model} is loaded")
        yield BackendConfig(kind="ollama", name="ollama", model=model, url=url)


async def _started(stack: AsyncExitStack, setting: Setting, program: str) -> str:
    """Start it on a port that is free; another program may take that first, so there are several tries."""
    for last in (*[False] * (_PORTS_TRIED - 1), True):
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        command = _command(setting.folder, program, port, setting.config)
        ready = await stack.enter_async_context(answers(url, "/api/version"))
        care = Care(healthy=ready, cause=_cause, last_lines=LAST_LINES)
        kept = running(command, ready=ready, start_timeout_s=_START_TIMEOUT_S, notify=setting.tell.notice, care=care)
        try:
            await stack.enter_async_context(kept)
        except EmbeddedError as failed:
            if last or "address already in use" not in str(failed):
                raise
        else:
            return url
    raise AssertionError  # The last try returns or raises.


def _program(config: Config) -> str:
    """The program. Raises `EngineMissing`."""
    wanted = str(config.ollama_program or "ollama")
    if (found := shutil.which(wanted)) is not None:
        return found
    message = (
        f"There is no program '{wanted}': install Ollama (its site has a package for Linux), or name the program with"
        " ollama_program (ASKONCE_OLLAMA_PROGRAM)."
    )
    raise EngineMissing(message)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _command(folder: DataFolder, program: str, port: int, config: Config) -> Command:
    return Command(
        name="Ollama",
        argv=(program, "serve"),
        log_path=folder.logs / "ollama.log",
        record_path=folder.run / "ollama.pid",
        env=variables(port, config),
        grace_s=10.0,
        advice="--model names another model, engine_args is what else Ollama is told.",
    )


def variables(port: int, config: Config) -> Mapping[str, str]:
    """Ollama's environment, which is all of its command line. Raises `ConfigError`."""
    for word in config.engine_args:
        if not _VARIABLE.fullmatch(word):
            message = f"`engine_args` for Ollama are variables, such as OLLAMA_FLASH_ATTENTION=1, and not '{word}'."
            raise ConfigError(message)
    ours = {"OLLAMA_HOST": f"127.0.0.1:{port}"}
    wanted = {
        "OLLAMA_NUM_PARALLEL": str(config.slots),
        "OLLAMA_KEEP_ALIVE": "-1",  # the model stays loaded
        "OLLAMA_NOPRUNE": "1",  # another Ollama of this user may be pulling into the same folder
    }
    if config.context_tokens is not None:
        wanted["OLLAMA_CONTEXT_LENGTH"] = str(config.context_tokens)
    said = dict(word.split("=", 1) for word in config.engine_args)
    return environment(wanted) | said | ours


async def _has(client: httpx.AsyncClient, model: str) -> bool:
    listed = (await _asked(client, "GET", "/api/tags")).get("models") or ()
    return bool({model, f"{model}:latest"} & {entry.get("model") for entry in listed})


async def _pull(client: httpx.AsyncClient, model: str, setting: Setting) -> None:
    """Have the model downloaded, and show how far that is. Raises `EmbeddedError` with Ollama's own words."""
    setting.tell.step("model", f"pulling {model}")
    said = ""
    try:
        async with client.stream("POST", "/api/pull", json={"model": model, "stream": True}) as reply:
            async for line in reply.aiter_lines():
                said = _shown(line, setting)
    except httpx.TransportError as broken:
        message = f"Ollama broke off the pull of {model} ({broken or type(broken).__name__}); it goes on next time."
        raise EmbeddedError(message) from broken
    if said != "success":
        raise EmbeddedError(f"Ollama ended the pull of {model} before it was complete: start again to go on.")


def _shown(line: str, setting: Setting) -> str:
    """Show one line of a pull; its status. Raises `EmbeddedError`."""
    try:
        event: Any = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return ""
    if not isinstance(event, dict):
        return ""
    if error := event.get("error"):
        raise EmbeddedError(f"Ollama cannot pull the model: {error}")
    status, total, completed = str(event.get("status", "")), event.get("total"), event.get("completed", 0)
    if isinstance(total, int) and total > 0 and isinstance(completed, int):
        setting.tell.moving("model", f"{status}, {total / 2**20:.0f} MiB", completed / total)
    else:
        setting.tell.moving("model", status)
    return status


async def _load(client: httpx.AsyncClient, model: str, setting: Setting) -> None:
    """Have it in memory before the first question. Raises `EmbeddedError`."""
    setting.tell.moving("model", f"loading {model}")
    await _asked(client, "POST", "/api/generate", {"model": model, "stream": False, "keep_alive": -1})


async def _asked(client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> dict[str, Any]:
    try:
        reply = await client.request(method, path, json=body, timeout=_LOAD_TIMEOUT_S)
        said: Any = msgspec.json.decode(reply.content)
    except (httpx.TransportError, msgspec.DecodeError) as broken:
        raise EmbeddedError(f"Ollama does not answer {path} ({broken or type(broken).__name__}).") from broken
    if reply.is_error or not isinstance(said, dict):
        error = said.get("error", reply.status_code) if isinstance(said, dict) else reply.status_code
        raise EmbeddedError(f"Ollama refuses {path}: {error}")
    return said


def _cause(log: str) -> str:
    """The last line that names an error."""
    return next((line.strip() for line in reversed(log.splitlines()) if "rror" in line), "")
