"""A real `askonce serve` as a child process: started, timed to its first answer, weighed, restarted."""

import contextlib
import http.client
import socket
import subprocess
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.bench import peers, processes
from gateway.bench.processes import BenchError, Cores

CHAT = "/v1/chat/completions"
START_TIMEOUT_S = 120.0
_ASK_AGAIN_S = 0.005
_SETTINGS = """\
model = "bundled"

[[backends]]
kind = "openai"
model = "{model}"
url = "http://{address}"
"""


class Served(msgspec.Struct, frozen=True):
    """A running askonce."""

    address: str
    data_dir: Path
    process: "subprocess.Popen[bytes]"
    first_answer_s: float
    """From starting the program to the first 200."""
    first_status: str
    """`hit` or `miss`: what that answer was."""

    def worker(self) -> int:
        """The process id of its one worker."""
        pids = [pid for pid in processes.descendants(self.process.pid) if _is_worker(processes.command_of(pid))]
        if len(pids) != 1:
            message = f"askonce has {len(pids)} workers, not one."
            raise BenchError(message)
        return pids[0]

    def pin(self, cores: Cores) -> None:
        """Keep its worker and its tiers where they belong while requests are measured."""
        processes.pin(self.worker(), cores.servers)
        for pid in processes.descendants(self.process.pid):
            if Path((processes.command_of(pid) or [""])[0]).name.startswith(("postgres", "redis-server")):
                processes.pin(pid, cores.tiers)

    def key(self) -> str:
        """A new key of a tenant of the benchmark's own; from now on every request needs one."""
        words = ("-m", "gateway.cli", "keys", "create", "--tenant", "bench", "--data-dir", str(self.data_dir))
        said = processes.said(words, cwd=self.data_dir.parent)
        return said.split()[0]

    def llamacpp_socket(self) -> str:
        """Where its llama.cpp listens."""
        for pid in processes.descendants(self.process.pid):
            words = processes.command_of(pid)
            if any("llamacpp_server" in word for word in words):
                return words[words.index("--socket") + 1]
        raise BenchError("askonce has started no llama.cpp.")


class Place(msgspec.Struct, frozen=True):
    """What every start of a run shares: a folder, the instant backend's address, and the cores."""

    folder: Path
    instant: str
    cores: Cores

    @contextlib.contextmanager
    def served(
        self, data_dir: str, first: dict[str, Any], said: str = "", headers: Mapping[str, str] | None = None
    ) -> Generator[Served]:
        """askonce with the data folder of this name; the clock runs until it has answered `first` with these `headers`.

        `said` are its settings; without any it has the bundled model and the instant backend. Raises `BenchError` when
        it does not answer.
        """
        settings, log_path = self.folder / f"{data_dir}.toml", self.folder / f"{data_dir}.log"
        settings.write_text(said or _SETTINGS.format(model=peers.MODEL, address=self.instant), "utf-8")
        data, port = self.folder / data_dir, processes.free_port()
        words = ("-m", "gateway.cli", "serve", "--port", str(port), "--data-dir", str(data), "--config", str(settings))
        with log_path.open("wb") as log:
            started = time.perf_counter()
            with processes.running(words, cwd=self.folder, log=log) as process:
                replied = _first_answer(process, port, first, log_path, headers or {})
                took_s = time.perf_counter() - started
                served = Served(f"127.0.0.1:{port}", data, process, took_s, replied.get("x-askonce-cache", ""))
                served.pin(self.cores)
                yield served


def post(
    address: str, body: dict[str, Any], headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content of the reply to one chat request. Raises `OSError` when there is none."""
    connection = http.client.HTTPConnection(address, timeout=START_TIMEOUT_S)
    try:
        connection.request("POST", CHAT, msgspec.json.encode(body), {"content-type": "application/json", **headers})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def flush_redis(data_dir: Path) -> None:
    """Have the embedded Redis forget everything."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(data_dir / "run" / "redis.sock"))
        connection.sendall(b"FLUSHALL\r\n")
        if connection.recv(64) != b"+OK\r\n":
            raise BenchError("The embedded Redis did not flush.")


def _first_answer(
    process: "subprocess.Popen[bytes]", port: int, first: dict[str, Any], log_path: Path, said: Mapping[str, str]
) -> dict[str, str]:
    end = time.perf_counter() + START_TIMEOUT_S
    heard = "no answer"
    while process.poll() is None and time.perf_counter() < end:
        try:
            status, headers, content = post(f"127.0.0.1:{port}", first, said)
        except OSError as error:
            heard = str(error)
        else:
            if status == http.HTTPStatus.OK:
                return headers
            heard = content.decode(errors="replace")
        time.sleep(_ASK_AGAIN_S)
    tail = log_path.read_text(errors="replace")[-2000:]
    message = f"askonce did not answer ({heard}). Its output: {tail}"
    raise BenchError(message)


def _is_worker(words: list[str]) -> bool:
    return "gateway.worker" in words or any(word.endswith("gateway/worker.py") for word in words)
