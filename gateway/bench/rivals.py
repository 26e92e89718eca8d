"""Installed peers in, running ones out, each a real process in front of the same backend, timed to its first answer."""

import contextlib
import http
import http.client
import subprocess
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.bench import counting, installed, peers, processes
from gateway.bench.processes import BenchError
from gateway.bench.served import CHAT, Place
from storage.embedded.redis import binary as redis_binary

MODEL_FOLDER: Final = Path(__file__).parents[1] / "models" / "bundled" / "hf"
VLLM_MODEL: Final = "gemma-3-askonce"
_KEY: Final = "sk-bench"
_START_TIMEOUT_S: Final = 600.0
_REPLY_TIMEOUT_S: Final = 60.0
_ASK_AGAIN_S: Final = 0.02
_LITELLM: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches one at every start
    "LITELLM_TELEMETRY": "False",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
}
_VLLM: Final = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_TARGET_DEVICE": "cpu",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}
_VLLM_FLAGS: Final = (
    *("--host", "127.0.0.1"),
    *("--dtype", "bfloat16"),
    *("--max-model-len", "2048"),
    *("--max-num-seqs", "16"),
    *("--distributed-executor-backend", "uni"),
    *("--generation-config", "vllm"),
    *("--served-model-name", VLLM_MODEL),
    "--enforce-eager",
    "--disable-uvicorn-access-log",
)
_LOOPBACK: Final = """\
const net = require('net'), listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, port, '127.0.0.1', ...rest.filter((word) => typeof word === 'function'))
}
"""
"""Portkey's gateway listens on every network of the machine, and passes requests on to whom its callers name."""


class Rival(msgspec.Struct, frozen=True, kw_only=True):
    """A running server that is compared."""

    name: str
    version: str
    address: str
    pid: int = 0
    """Its first process; 0 for one that is not weighed."""
    pausable: bool = False
    """Whether it can be kept from using the processor while others are asked."""
    cold_start_s: float = 0.0
    """From starting the program to its first 200."""
    headers: dict[str, str] = {}
    """What each request must say besides."""
    path: str = CHAT
    model: str = peers.MODEL
    backend: str = ""
    """The address of the counting backend behind it; empty for one that computes its answers itself."""
    note: str = ""
    gives_one_reply: bool = False
    """Whether it gives the same bytes whatever it is asked: nothing is new to it."""
    data_dir: Path | None = None
    """Of askonce: where what it keeps is."""


class _Start(msgspec.Struct, frozen=True, kw_only=True):
    """How to start one."""

    rival: Rival
    words: Sequence[str | Path]
    environment: dict[str, str]


def address(port: int) -> str:
    """Where a peer with this port listens."""
    return f"127.0.0.1:{port}"


@contextlib.contextmanager
def litellm(place: Place, backend: str, *, python: Path, redis: bool = False) -> Generator[Rival]:
    """LiteLLM's proxy with one worker, its keys and its cache on: in its memory, or in a Redis of its own."""
    cache: dict[str, str] = {"type": "local"}
    name = "litellm-redis" if redis else "litellm"
    home = _home(place, name)
    with contextlib.ExitStack() as stack:
        if redis:
            cache = {"type": "redis", "url": f"unix://{stack.enter_context(_redis(place, home))}"}
        config, port = home / "config.yaml", processes.free_port()
        config.write_bytes(litellm_config(backend, cache))
        words = ("-P", "-m", "litellm.proxy.proxy_cli", "--config", config, "--host", "127.0.0.1", "--port", str(port))
        rival = Rival(
            name="LiteLLM, Redis cache" if redis else "LiteLLM, local cache",
            version=installed.LITELLM,
            address=address(port),
            headers={"authorization": f"Bearer {_KEY}"},
            backend=backend,
            note="Redis is on the tiers' cores and not weighed" if redis else "",
        )
        start = _Start(
            rival=rival,
            words=(python, *words, "--num_workers", "1", "--telemetry", "False"),
            environment=processes.sparse(home, **_LITELLM),
        )
        yield stack.enter_context(_running(place, home, start))


def litellm_config(backend: str, cache: dict[str, str]) -> bytes:
    """LiteLLM's settings, as JSON, which is YAML."""
    models = [
        {
            "model_name": model,
            "litellm_params": {"model": f"openai/{model}", "api_base": f"http://{backend}/v1", "api_key": "none"},
        }
        for model in (peers.MODEL, counting.SLOW)
    ]
    settings = {"cache": True, "cache_params": cache, "telemetry": False, "set_verbose": False, "num_retries": 0}
    return msgspec.json.encode(
        {"model_list": models, "litellm_settings": settings, "general_settings": {"master_key": _KEY}}
    )


@contextlib.contextmanager
def portkey(place: Place, backend: str, *, program: Path) -> Generator[Rival]:
    """Portkey's gateway with its simple cache asked for; npm's package is built without it. Raises `BenchError`."""
    home, port = _home(place, "portkey"), processes.free_port()
    shim = home / "loopback.cjs"
    shim.write_text(_LOOPBACK, "utf-8")
    rival = Rival(
        name="Portkey gateway",
        version=installed.PORTKEY,
        address=address(port),
        headers=portkey_headers(backend),
        backend=backend,
    )
    start = _Start(
        rival=rival,
        words=(installed.node(), "--require", shim, program, "--headless", f"--port={port}"),
        environment=processes.sparse(home, NODE_ENV="production"),
    )
    with _running(place, home, start) as running:
        yield running


def portkey_headers(backend: str) -> dict[str, str]:
    """What tells Portkey's gateway where to ask, and to keep answers."""
    target = {"provider": "openai", "api_key": "none", "custom_host": f"http://{backend}/v1"}
    return {"x-portkey-config": msgspec.json.encode({**target, "cache": {"mode": "simple"}}).decode()}


@contextlib.contextmanager
def vllm(place: Place, backend: str, *, python: Path) -> Generator[Rival]:
    """vLLM with the bundled model: what it costs to compute an answer. `backend` is not asked. Raises `BenchError`."""
    del backend
    home, port = _home(place, "vllm"), processes.free_port()
    words = ("-P", "-m", "vllm.entrypoints.cli.main", "serve", MODEL_FOLDER, "--port", str(port))
    rival = Rival(
        name="vLLM, asked directly",
        version=_version(python, "vllm"),
        address=address(port),
        model=VLLM_MODEL,
        note="it computes every answer, with the bundled model on the processor",
    )
    start = _Start(
        rival=rival,
        words=(python, *words, *_VLLM_FLAGS),
        environment=processes.sparse(home, VLLM_CACHE_ROOT=str(home), VLLM_CONFIG_ROOT=str(home), **_VLLM),
    )
    with _running(place, home, start) as running:
        yield running


def asked(rival: Rival, body: dict[str, Any]) -> tuple[int, bytes]:
    """Status and content of the reply to one request. Raises `OSError` when there is none."""
    connection = http.client.HTTPConnection(rival.address, timeout=_REPLY_TIMEOUT_S)
    try:
        headers = {**rival.headers, "content-type": "application/json"}
        connection.request("POST", rival.path, msgspec.json.encode(body), headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


@contextlib.contextmanager
def _running(place: Place, home: Path, start: _Start) -> Generator[Rival]:
    """Start it, wait for its first answer, and keep it on the servers' cores from then on, as askonce is."""
    log_path = home / "log"
    with log_path.open("wb") as log:
        started = time.perf_counter()
        with processes.program(start.words, start.environment, cwd=home, log=log) as process:
            _wait(start.rival, process, log_path)
            took_s = time.perf_counter() - started
            processes.pin_tree(process.pid, place.cores.servers)
            yield msgspec.structs.replace(start.rival, pid=process.pid, pausable=True, cold_start_s=took_s)


def _wait(rival: Rival, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    first = {"model": rival.model, "messages": [{"role": "user", "content": "Are you there?"}], "max_tokens": 1}
    end, said = time.perf_counter() + _START_TIMEOUT_S, "no answer"
    while process.poll() is None and time.perf_counter() < end:
        try:
            status, content = asked(rival, first)
        except OSError as error:
            said = str(error)
        else:
            if status == http.HTTPStatus.OK:
                return
            said = content.decode(errors="replace")
        time.sleep(_ASK_AGAIN_S)
    tail = log_path.read_text(errors="replace")[-2000:]
    message = f"{rival.name} did not answer ({said}). Its output: {tail}"
    raise BenchError(message)


@contextlib.contextmanager
def _redis(place: Place, home: Path) -> Generator[Path]:
    """The socket of a Redis that keeps nothing on disk, as a cache usually runs."""
    path = home / "redis.sock"
    words = (redis_binary(), "--port", "0", "--unixsocket", path, "--unixsocketperm", "700", "--save", "")
    with (
        (home / "redis.log").open("wb") as log,
        processes.program(words, processes.sparse(home), cwd=home, log=log) as process,
    ):
        processes.pin_tree(process.pid, place.cores.tiers)
        end = time.perf_counter() + _REPLY_TIMEOUT_S
        while not path.exists():
            if process.poll() is not None or time.perf_counter() > end:
                raise BenchError(f"Redis did not start: {(home / 'redis.log').read_text(errors='replace')[-500:]}")
            time.sleep(_ASK_AGAIN_S)
        yield path


def _home(place: Place, name: str) -> Path:
    home = place.folder / name
    home.mkdir()
    return home


def _version(python: Path, package: str) -> str:
    """The version of a package in another environment. Raises `LeftOut` where it has none."""
    said = subprocess.run(  # noqa: S603 -- an environment the caller named
        [python, "-P", "-c", f"import importlib.metadata as m; print(m.version({package!r}))"],
        check=False,
        capture_output=True,
        text=True,
    )
    if said.returncode:
        message = f"{python} has no {package}"
        raise installed.LeftOut(message)
    return said.stdout.strip()
