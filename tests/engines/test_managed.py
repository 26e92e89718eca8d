"""Engines that `askonce serve` starts: real vLLM, real llama.cpp, and Ollama's double as a program of its command line.

They die, hang, are missing and come back; meanwhile kept answers are given, and others are refused clearly.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.serving import ROOT, Served, short_folder
from tests.engines import ollama_program, vllm

pytestmark = pytest.mark.engines

MODEL = "gemma-3-askonce"
KEPT = "What is the capital of France?"


@pytest.fixture
def folder() -> Iterator[Path]:
    path = short_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder with a program `ollama`, for the PATH."""
    ollama_program.installed(tmp_path)
    return tmp_path


def ask(url: str, question: str, **more: Any) -> httpx.Response:
    """Ask the model, greedily."""
    body = {"model": MODEL, "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": question}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body | more, timeout=60, trust_env=False)


def recorded(folder: Path, engine: str) -> int:
    """The process id of the engine that runs now."""
    return json.loads((folder / "run" / f"{engine}.pid").read_text())["pid"]


def until(true: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait until something is the case."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def ollama_server(folder: Path, bin_folder: Path, *words: str) -> Served:
    """`askonce serve --engine ollama`, with the double's program first on the PATH."""
    env = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "OLLAMA_MODELS": str(folder / "models" / "ollama")}
    return Served(folder, "--engine", "ollama", "--model", MODEL, *words, env=env)


def on_this_processor(tmp_path: Path) -> dict[str, str]:
    """The environment for askonce, so that vLLM needs no GPU; askonce itself is found in the folder it starts in."""
    env = vllm.environment(tmp_path) | {"ASKONCE_VLLM_PYTHON": str(vllm.PYTHON)}
    del env["PYTHONSAFEPATH"]
    return env


def vllm_server(folder: Path, tmp_path: Path) -> Served:
    """`askonce serve --engine vllm`, with the tests' own environment of vLLM, on this machine's processor."""
    arguments = ["--dtype", "bfloat16", "--enforce-eager", "--max-num-seqs", "16"]
    arguments += ["--distributed-executor-backend", "uni"]
    env = on_this_processor(tmp_path) | {
        "ASKONCE_CONTEXT_TOKENS": "2048",
        "ASKONCE_ENGINE_ARGS": json.dumps(arguments),
    }
    return Served(folder, "--engine", "vllm", "--model", "bundled", env=env, ready_s=vllm.START_WITHIN_S)


def dies_and_comes_back(server: Served, engine: str, name: str, back_within_s: float) -> None:
    """SIGKILL at the engine: kept answers are given, others are refused clearly, until it is back by itself."""
    answer = ask(server.url, KEPT)
    assert answer.headers["x-askonce-cache"] == "miss"
    killed = recorded(server.data_dir, engine)
    os.kill(killed, signal.SIGKILL)
    until(lambda: f"{name} ended with status -9" in server.text, 10, server.text)
    asked = 0
    while f"{name} is back" not in server.text:
        asked += 1
        kept = ask(server.url, KEPT)
        assert kept.headers["x-askonce-cache"] == "hit"
        assert kept.json()["choices"] == answer.json()["choices"]
        other = ask(server.url, f"Question {asked}?")
        if other.is_error:
            assert other.status_code in {502, 503}
            assert other.status_code != 503 or other.headers["retry-after"]
            assert other.json()["error"]["code"] in {"backend_unavailable", "backend_error"}
        assert asked < 10_000
        time.sleep(back_within_s / 200)
    assert recorded(server.data_dir, engine) != killed
    again = ask(server.url, "Is it back?")
    assert (again.status_code, again.headers["x-askonce-cache"]) == (200, "miss")


def test_llamacpp_comes_back(folder: Path) -> None:
    """The embedded one."""
    server = Served(folder, "--model", "bundled").start()
    try:
        dies_and_comes_back(server, "llamacpp", "llama.cpp", 10)
    finally:
        server.stop()


def test_ollama_is_started_pulls_and_comes_back(folder: Path, bin_folder: Path) -> None:
    """The model is pulled, with progress, the first time only; the log is named; nothing of it outlives askonce."""
    server = ollama_server(folder, bin_folder).start()
    try:
        assert "100 % of pulling" in server.text
        assert str(folder / "logs" / "ollama.log") in server.text
        dies_and_comes_back(server, "ollama", "Ollama", 20)
        group = recorded(folder, "ollama")
        assert len(members(group)) == 2
    finally:
        assert server.stop() == 0
    assert not members(group)
    server.start()
    try:
        assert "pulling" not in server.text
        assert ask(server.url, KEPT).headers["x-askonce-cache"] == "hit"
    finally:
        server.stop()


def members(group: int) -> list[int]:
    """The processes of a process group."""
    found: list[int] = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


def test_a_killed_parent_leaves_no_engine_to_the_next_start(folder: Path, bin_folder: Path) -> None:
    """SIGKILL at askonce and at Ollama's own process: llama.cpp below it is ended before Ollama is started again."""
    server = ollama_server(folder, bin_folder).start()
    group = recorded(folder, "ollama")
    assert len(members(group)) == 2
    os.kill(server.pid, signal.SIGSTOP)  # or it would start another
    os.kill(group, signal.SIGKILL)
    server.kill()
    assert len(members(group)) == 1
    server.start()
    try:
        assert not members(group)
        assert ask(server.url, KEPT).status_code == 200
    finally:
        server.stop()


def test_two_gateways_do_not_collide(folder: Path, bin_folder: Path) -> None:
    """Each has an Ollama of its own, on a port of its own."""
    other_folder = short_folder()
    servers = [ollama_server(folder, bin_folder), ollama_server(other_folder, bin_folder)]
    try:
        for server in servers:
            server.start()
        assert [ask(server.url, KEPT).status_code for server in servers] == [200, 200]
        assert recorded(folder, "ollama") != recorded(other_folder, "ollama")
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(other_folder, ignore_errors=True)


def refused(folder: Path, *words: str, env: dict[str, str] | None = None) -> str:
    """What a serve says that does not start; never with a stack trace."""
    server = Served(folder, *words)
    done = subprocess.run(
        server.command("serve", "--port", "0", *words),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback (most" not in done.stderr.rpartition("Error: ")[2]
    return done.stderr


def test_a_missing_program_is_named_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    """For each engine that is no part of askonce."""
    said = refused(folder, "--engine", "ollama", "--model", MODEL, env={"PATH": "/usr/bin:/bin"})
    assert "There is no program 'ollama': install Ollama" in said
    assert "ASKONCE_OLLAMA_PROGRAM" in said
    said = refused(folder, "--engine", "vllm", "--model", "bundled")
    assert "install askonce[vllm]" in said
    assert "ASKONCE_VLLM_PYTHON" in said
    said = refused(folder, "--engine", "vllm", "--model", "bundled", env={"ASKONCE_VLLM_PYTHON": str(tmp_path)})
    assert "cannot be started" in said
    python = str(ROOT / ".venv" / "bin" / "python")
    said = refused(folder, "--engine", "vllm", "--model", "bundled", env={"ASKONCE_VLLM_PYTHON": python})
    assert "has no vLLM" in said


def test_a_model_that_ollama_does_not_know_is_named(folder: Path, bin_folder: Path) -> None:
    """In Ollama's own words."""
    env = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "OLLAMA_MODELS": str(folder / "models" / "ollama")}
    said = refused(folder, "--engine", "ollama", "--model", "no-such-model", env=env)
    assert "pull model manifest: file does not exist" in said


def test_words_for_llamacpp_reach_it(folder: Path) -> None:
    """Its own parameters by their names; others are refused with the word."""
    server = Served(folder, "--model", "bundled", "--engine-arg=--n-ubatch=64", "--engine-arg=--cache_ram_mib=0")
    try:
        server.start()
        assert ask(server.url, KEPT).status_code == 200
    finally:
        server.stop()
    said = refused(folder, "--model", "bundled", "--engine-arg=--no-such-thing=1")
    assert "no parameter 'no_such_thing'" in said


def test_other_weights_are_not_served_under_the_old_name(folder: Path, tmp_path: Path) -> None:
    """The file changes while llama.cpp is down: it is not started with it, for kept answers are the old one's."""
    file = tmp_path / "model.gguf"
    shutil.copyfile(ROOT / "gateway" / "models" / "bundled" / f"{MODEL}.gguf", file)
    whole = file.read_bytes()
    server = Served(folder, "--model", str(file)).start()
    try:
        killed = recorded(folder, "llamacpp")
        os.kill(killed, signal.SIGSTOP)
        other = tmp_path / "other.gguf"
        other.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        other.replace(file)
        os.kill(killed, signal.SIGKILL)
        until(lambda: "is another one than at the start" in server.text, 20, server.text)
        assert ask(server.url, KEPT, model="model").status_code == 503
        file.write_bytes(whole)
        until(lambda: "llama.cpp is back" in server.text, 30, server.text)
        assert ask(server.url, KEPT, model="model").status_code == 200
    finally:
        server.stop()


def test_vllm_is_started_and_comes_back(folder: Path, tmp_path: Path) -> None:
    """The real one: its load is shown, its answers name the weights, it dies and comes back, and leaves nothing."""
    server = vllm_server(folder, tmp_path).start()
    try:
        assert "100 % of loading weights" in server.text
        assert str(folder / "logs" / "vllm.log") in server.text
        dies_and_comes_back(server, "vllm", "vLLM", 120)
        transport = httpx.HTTPTransport(uds=str(folder / "run" / "vllm.sock"))
        with httpx.Client(transport=transport, base_url="http://vllm", timeout=60) as client:
            body = {"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": "cache " * 200}]}
            first, second = (client.post("/v1/chat/completions", json=body).json() for _ in range(2))
        record = httpx.get(f"{server.url}/v1/cache/{ask(server.url, KEPT).headers['x-askonce-key']}", timeout=10)
        assert first["system_fingerprint"] in record.text
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        group = recorded(folder, "vllm")
        core = next(process for process in map(psutil.Process, members(group)) if "EngineCore" in process.name())
        core.kill()
        until(lambda: server.text.count("vLLM is back") == 2, 180, server.text)
        assert ask(server.url, "And now?").status_code == 200
        group = recorded(folder, "vllm")
    finally:
        assert server.stop() == 0
    assert not members(group)


def test_why_vllm_does_not_start_is_said(folder: Path, tmp_path: Path) -> None:
    """The error itself, and the last lines of the log."""
    env = on_this_processor(tmp_path)
    words = ("--engine", "vllm", "--model", "bundled", "--engine-arg=--no-such-flag")
    said = refused(folder, *words, env=env)
    assert "unrecognized arguments: --no-such-flag" in said
    assert "the last lines of" in said
    assert str(folder / "logs" / "vllm.log") in said
