"""vLLM: a Hugging Face folder or repository comes in, a server on a private socket goes out."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import secrets
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.config import BackendConfig, Config
from gateway.engines import loading
from gateway.engines.asking import answers
from gateway.engines.engine import LAST_LINES, EngineMissing, Setting, Weights, environment, expect_free_name, marked
from gateway.engines.loading import Said
from gateway.models.repository import ModelFolder, folder_of
from storage.embedded.child import Command
from storage.embedded.folder import DataFolder
from storage.embedded.running import Care, running

_LOAD_TIMEOUT_S: Final = 3600.0  # Large weights from a slow disk, and kernels compiled anew; one that fails ends.
_LONGEST_PAUSE_S: Final = 60.0
_GIB: Final = 2**30
_SEEDS: Final = 2**31
_MODULE: Final = "vllm.entrypoints.cli.main"
_ASK_VERSION: Final = "import importlib.metadata as m; print(m.version('vllm'))"
_STRUCTURED: Final = {"backend": "xgrammar", "disable_any_whitespace": True}
"""Else a model may fill its whole answer with blanks between the tokens of a JSON document."""
_PARTS: Final = (
    (re.compile(r"Loading .*checkpoint shards:\s+(\d+)% "), "loading weights"),
    (re.compile(r"Loading weights took"), "weights are loaded"),
    (re.compile(r"(?:torch\.compile takes|Dynamo bytecode transform|Compiling a graph)"), "compiling"),
    (re.compile(r"Capturing .*graphs.*?:\s+(\d+)%"), "capturing graphs"),
    (re.compile(r"KV cache size"), "the KV cache is there"),
    (re.compile(r"Starting to load model|Initializing a V1 LLM engine"), "starting the engine"),
    (re.compile(r"Starting vLLM (?:API )?server"), "starting the server"),
)
_CAUSE: Final = re.compile(r"(?:[\w.]*(?:Error|Exception)|error): (?P<said>.+)")
_CONSEQUENCES: Final = ("Engine core initialization failed", "See root cause above", "Engine process failed to start")

_NO_DEVICE: Final = "Failed to infer device type"
_WITHOUT_GPU: Final = (
    "vLLM finds no GPU. On a machine without one, install a build of vLLM for processors and start askonce with the"
    " variable VLLM_TARGET_DEVICE=cpu"
)


@asynccontextmanager
async def serving(setting: Setting, wanted: str) -> AsyncGenerator[BackendConfig]:
    """Serve the model that `wanted` means for the length of the block. Raises `AskonceError`."""
    config, tell = setting.config, setting.tell
    python = _python(config)
    version = await _version(python)
    model = await folder_of(
        wanted,
        models_dir=setting.models_dir,
        hub_endpoint=config.hf_endpoint or None,
        hub_token=config.hf_token or None,
        progress=lambda done, total: tell.moving("model", f"{total / 2**20:.0f} MiB", done / max(1, total)),
    )
    tell.step("model", f"{model.name} ({model.path})")
    expect_free_name(config, model.name)
    weights = await Weights.of(model.path, setting.models_dir)
    socket = setting.folder.run / "vllm.sock"
    command = _command(setting.folder, python, socket, model, weights, config)
    care = Care(
        renewed=_renewed(weights, socket),
        starting=loading.reading(tell, "vllm", understood),
        longest_pause_s=_LONGEST_PAUSE_S,
        cause=cause,
        last_lines=LAST_LINES,
    )
    _free(socket)
    tell.step("vllm", f"starting vLLM {version} (its log: {command.log_path})")
    async with answers(f"unix:{socket}", "/health", "/v1/models") as ready:
        care = msgspec.structs.replace(care, healthy=ready)
        start = running(command, ready=ready, start_timeout_s=_LOAD_TIMEOUT_S, notify=tell.notice, care=care)
        async with start:
            tell.step("vllm", f"ready on {socket}")
            yield BackendConfig(
                kind="vllm",
                name="vllm",
                model=model.name,
                url=f"unix:{socket}",
                engine_version=marked(version, config.engine_args),
                model_version=weights.digest,
            )


def understood(line: str) -> Said | None:
    """What a line of vLLM's log says of how far its start is."""
    for pattern, words in _PARTS:
        if found := pattern.search(line):
            return Said(words, int(found[1]) / 100 if found.groups() else None)
    return None


def cause(log: str) -> str:
    """The last error in vLLM's log that is not the consequence of another; what to do, where it does not say so."""
    if _NO_DEVICE in log:
        return _WITHOUT_GPU
    for line in reversed(log.splitlines()):
        found = _CAUSE.search(line)
        if found and not any(words in line for words in _CONSEQUENCES):
            return found["said"].strip()[:500]
    return ""


def _python(config: Config) -> Path:
    """The Python that has vLLM. Raises `EngineMissing`."""
    if config.vllm_python is not None:
        return config.vllm_python
    if importlib.util.find_spec("vllm") is None:
        message = (
            "vLLM is not installed beside askonce: install askonce[vllm], or name the Python of another environment"
            " with vllm_python (ASKONCE_VLLM_PYTHON)."
        )
        raise EngineMissing(message)
    return Path(sys.executable)


async def _version(python: Path) -> str:
    """The version of vLLM there. Raises `EngineMissing`."""
    try:
        process = await asyncio.create_subprocess_exec(
            python, "-P", "-c", _ASK_VERSION, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError as refused:
        message = f"vllm_python names {python}, which cannot be started: {refused.strerror}."
        raise EngineMissing(message) from refused
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise EngineMissing(f"{python} has no vLLM: install it there, or name another Python with vllm_python.")
    return said.decode().strip()


def _command(
    folder: DataFolder, python: Path, socket: Path, model: ModelFolder, weights: Weights, config: Config
) -> Command:
    caches = folder.models / "vllm"
    return Command(
        name="vLLM",
        argv=(str(python), "-P", "-m", _MODULE, *arguments(model, socket, weights.digest, config)),
        log_path=folder.logs / "vllm.log",
        record_path=folder.run / "vllm.pid",
        env=environment(
            {
                "VLLM_NO_USAGE_STATS": "1",
                "DO_NOT_TRACK": "1",
                "HF_HUB_OFFLINE": "1",  # everything is in the folder, and the digest is that folder's
                "VLLM_CACHE_ROOT": str(caches / "cache"),
                "VLLM_CONFIG_ROOT": str(caches / "config"),
                "PYTHONUNBUFFERED": "1",
            }
        ),
        grace_s=30.0,
        advice="--model names another model, engine_args is what else vLLM is told.",
    )


def arguments(model: ModelFolder, socket: Path, digest: str, config: Config) -> tuple[str, ...]:
    """The words for `vllm serve`; those of the settings come last, so that they win."""
    words = ["serve", str(model.path), "--uds", str(socket), "--served-model-name", model.name]
    words += ["--seed", str(_seed()), "--generation-config", "vllm", "--enable-prompt-tokens-details"]
    words += ["--structured-outputs-config", _json(_STRUCTURED), "--disable-uvicorn-access-log"]
    words += ["--fingerprint-mode", "custom", "--fingerprint-value", digest]
    if config.context_tokens is not None:
        words += ["--max-model-len", str(config.context_tokens)]
    if config.gpu_memory_share is not None:
        words += ["--gpu-memory-utilization", str(config.gpu_memory_share)]
    return (*words, *_offloading(digest, config), *config.engine_args)


def _offloading(digest: str, config: Config) -> tuple[str, ...]:
    """vLLM's own: to memory, or to memory and then to disk. Files of other weights would be taken for its own."""
    if not config.kv_offload_max_bytes:
        return ()
    if config.kv_offload_dir is None:
        return ("--kv-offloading-size", str(config.kv_offload_max_bytes / _GIB))
    tiers = [{"type": "fs", "root_dir": str(config.kv_offload_dir / digest)}]
    more = {"cpu_bytes_to_use": config.kv_offload_max_bytes, "spec_name": "TieringOffloadingSpec"}
    transfer = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both"}
    return (
        "--kv-transfer-config",
        _json({**transfer, "kv_connector_extra_config": {**more, "secondary_tiers": tiers}}),
    )


def _renewed(weights: Weights, socket: Path) -> Callable[[Command], Awaitable[Command]]:
    async def renewed(last: Command) -> Command:
        command = await weights.unchanged(last)
        _free(socket)
        # With the same seed, what was sampled before the crash would be sampled again.
        words = list(command.argv)
        words[words.index("--seed") + 1] = str(_seed())
        return msgspec.structs.replace(command, argv=tuple(words))

    return renewed


def _free(socket: Path) -> None:
    """A server that was killed leaves its socket, and vLLM does not take one that is there."""
    socket.unlink(missing_ok=True)


def _seed() -> int:
    return secrets.randbelow(_SEEDS)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
