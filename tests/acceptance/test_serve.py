"""`askonce serve` as a program: starting, stopping, dying and being started twice."""

import contextlib
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.serving import ROOT, Served, short_folder

MODEL = "gemma-3-askonce"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that is gone afterwards."""
    folder = short_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def ask(url: str, text: str = "What is the capital of France?") -> httpx.Response:
    """One question."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def family(pid: int) -> list[psutil.Process]:
    """All processes below `pid`."""
    return psutil.Process(pid).children(recursive=True)


def workers_of(server: Served) -> list[psutil.Process]:
    """The gateway processes that run."""
    return [child for child in family(server.pid) if "gateway.worker" in words(child)]


def words(process: psutil.Process) -> str:
    """The command line; empty for one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one too
        return ""


def wait_until_kept(server: Served) -> None:
    """Until Postgres has an answer."""
    deadline = time.monotonic() + 20
    while server.run("psql", "-At", "-c", "select count(*) from askonce.completions").strip() == "0":
        assert time.monotonic() < deadline


def gone(processes: list[psutil.Process], within_s: float) -> bool:
    """Whether all of them have ended in time."""
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return not alive


def test_a_clean_stop_ends_every_child(folder: Path) -> None:
    """SIGTERM: status 0, no process left."""
    server = Served(folder, "--model", "bundled").start()
    children = family(server.pid)
    names = " ".join(words(child) for child in children)
    assert all(program in names for program in ("postgres", "redis-server", "llamacpp_server", "gateway.worker"))
    assert server.stop() == 0
    assert gone(children, 2)


def test_what_was_counted_is_written_before_a_clean_stop(folder: Path) -> None:
    """An answer and a hit of the last second, with their tokens."""
    server = Served(folder, "--model", "bundled").start()
    answers = [ask(server.url).headers["x-askonce-cache"] for _ in range(3)]
    assert server.stop() == 0
    server.start()
    try:
        counted = "select cache, sum(requests), sum(prompt_tokens) > 0 from askonce.usage group by 1 order by 1"
        rows = server.run("psql", "-At", "-c", counted).split()
    finally:
        server.stop()
    assert answers == ["miss", "hit", "hit"]
    assert rows == ["generated|1|t", "hit|2|t"]


def test_a_killed_parent_takes_its_children_along_and_never_blocks_the_next_start(folder: Path) -> None:
    """SIGKILL at the parent alone: everything ends, and what was answered is still there."""
    server = Served(folder, "--model", "bundled").start()
    assert ask(server.url).headers["x-askonce-cache"] == "miss"
    time.sleep(1.2)  # Redis writes its file every second
    children = family(server.pid)
    server.kill()
    assert gone(children, 15)  # before the next start, which would end leftovers itself
    server.start()
    try:
        assert ask(server.url).headers["x-askonce-cache"] == "hit"
    finally:
        server.stop()


class Silent(socketserver.ThreadingTCPServer):
    """Takes whatever it is asked, and never answers."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.asked = threading.Event()
        super().__init__(("127.0.0.1", 0), SilentHandler)


class SilentHandler(socketserver.StreamRequestHandler):
    """Notes that it was asked for a completion."""

    def handle(self) -> None:
        """Read until the other side ends."""
        assert isinstance(self.server, Silent)
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                if b"POST" in line:
                    self.server.asked.set()


def test_a_worker_does_not_outlive_its_parent_for_long(folder: Path) -> None:
    """SIGKILL at the parent alone, with a request open that nobody answers and five minutes for it to finish."""
    with Silent() as silent:
        threading.Thread(target=silent.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{silent.server_address[1]}"
        identity = '"engine_version": "1", "model_version": "1"'
        backends = f'[{{"kind": "openai", "model": "{MODEL}", "url": "{url}", {identity}}}]'
        env = {"ASKONCE_BACKENDS": backends, "ASKONCE_DRAIN_S": "300", "ASKONCE_MODEL": "none"}
        server = Served(folder, env=env, ready_s=30).start()
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as client:
            body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello"}}]}}'.encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            assert silent.asked.wait(20)
            [worker] = workers_of(server)
            server.kill()
            assert gone([worker], 20)
        silent.shutdown()


def test_a_second_serve_on_the_same_folder_says_who_has_it(folder: Path) -> None:
    """A clear sentence with the pid and the way out, and the first one is unharmed."""
    server = Served(folder, "--model", "bundled").start()
    try:
        words = server.command("serve", "--port", "0", "--model", "bundled")
        second = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 1
        assert str(server.pid) in second.stderr
        assert "--data-dir" in second.stderr
        assert "Traceback" not in second.stderr
        assert ask(server.url).status_code == 200
    finally:
        server.stop()


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    """No traceback, and nothing left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", "gateway.cli", "serve", "--data-dir", str(folder), "--port", str(port)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_is_refused_with_those_that_exist(folder: Path) -> None:
    """A typo in a variable's name does not pass silently."""
    words = [sys.executable, "-m", "gateway.cli", "serve", "--data-dir", str(folder)]
    env = {**os.environ, "ASKONCE_PROT": "1"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ASKONCE_PROT" in done.stderr
    assert "ASKONCE_PORT" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("ASKONCE_REDIS_URL", "nonsense", "redis_url"),
        ("ASKONCE_REDIS_URL", "redis://127.0.0.1:1/0?socket_timeout=soon", "redis_url"),
        ("ASKONCE_DATABASE_URL", "nonsense", "database_url"),
        ("ASKONCE_DATABASE_URL", "postgresql://127.0.0.1:1/x?sslmode=maybe", "database_url"),
        ("ASKONCE_BACKENDS", '[{"kind": "scripted", "model": "s", "script": "missing.toml"}]', "script"),
        ("ASKONCE_DATA_DIR", "~nosuch/x", "data_dir"),
        (
            "ASKONCE_BACKENDS",
            '[{"kind": "vllm", "model": "m", "url": "http://127.0.0.1:1"},'
            ' {"kind": "vllm", "model": "m", "url": "http://127.0.0.1:1"}]',
            "give one of them another `name`",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_one_sentence(folder: Path, variable: str, value: str, named: str) -> None:
    """Before anything serves, with the setting's name."""
    env = {**os.environ, "ASKONCE_DATA_DIR": str(folder), "ASKONCE_MODEL": "bundled", variable: value}
    words = [sys.executable, "-m", "gateway.cli", "serve", "--port", "0"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1
    assert named in sentences[0]


def test_several_workers_serve_one_port_and_share_what_they_know(folder: Path) -> None:
    """Two processes answer; one that is killed is replaced."""
    server = Served(folder, "--model", "bundled", "--workers", "2").start()
    try:
        workers = workers_of(server)
        assert len(workers) == 2
        assert ask(server.url).status_code == 200
        wait_until_kept(server)  # what the killed one had not handed on yet would be lost with it
        os.kill(workers[0].pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            now = workers_of(server)
            if len(now) == 2 and workers[0] not in now:
                break
            time.sleep(0.1)
        assert len(now) == 2
        for _ in range(8):
            assert ask(server.url).headers["x-askonce-cache"] == "hit"
    finally:
        server.stop()


def test_an_address_given_on_the_command_line_is_known_to_the_workers(folder: Path) -> None:
    """On loopback only this machine's names are answered to; on all addresses every name is."""
    for host, status in (("127.0.0.1", 403), ("0.0.0.0", 200)):
        env = {"ASKONCE_ADMIN_KEY": "a" * 32}  # nobody without a key is served where others can reach
        server = Served(folder, "--model", "bundled", "--host", host, env=env).start()
        try:
            elsewhere = {"host": "gateway.example"}
            assert httpx.get(f"{server.url}/healthz", headers=elsewhere, timeout=10).status_code == status
        finally:
            server.stop()


def test_without_a_hub_the_default_is_the_bundled_model_and_says_so(folder: Path) -> None:
    """An unreachable hub costs one sentence, not the start."""
    server = Served(folder, env={"ASKONCE_HF_ENDPOINT": "http://127.0.0.1:9"}).start()
    try:
        assert "bundled" in server.text
        models = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert [model["id"] for model in models] == [MODEL]
    finally:
        server.stop()


def test_migrate_status_with_and_without_a_server(folder: Path) -> None:
    """The embedded database is asked whether it is being served or not."""
    server = Served(folder, "--model", "bundled")
    assert "not applied" in server.run("migrate", "--status")
    assert "0001_completions.sql" in server.run("migrate")
    assert "not applied" not in server.run("migrate", "--status")
    again = server.run("migrate")
    assert "Nothing to do" in again
    assert "Tenants' SQL is ready" in again


def test_the_start_tells_the_truth_about_the_schema_and_the_models(folder: Path) -> None:
    """A database that is down is not called ready, and models are named."""
    script = folder.parent / f"{folder.name}.toml"
    script.write_text("[[line]]\n")
    backends = ",".join(f'{{"kind": "scripted", "model": "{name}", "script": "{script}"}}' for name in ("b", "a"))
    env = {"ASKONCE_BACKENDS": f"[{backends}]", "ASKONCE_DATABASE_URL": "postgresql://u@127.0.0.1:9/x"}
    server = Served(folder, env=env).start()
    try:
        assert re.search(r"s  schema +not prepared: it will be once Postgres is back\n", server.text)
        assert re.search(r"  Models +b, a\n", server.text)
    finally:
        server.stop()
        script.unlink()


def refused(url: str, within_s: float) -> bool:
    """Whether new connections are refused, at once or within some time."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except ConnectionRefusedError:
            return True
        time.sleep(0.02)
    return False


def test_open_streams_finish_when_the_server_stops(folder: Path) -> None:
    """SIGTERM waits for an answer that is on its way, and keeps it; who comes now is refused and does not wait."""
    script = folder.parent / f"{folder.name}.toml"
    script.write_text('[[line]]\nreply = "one two three four five six"\nstep_delay_s = 0.8\n')
    backends = f'[{{"kind": "scripted", "model": "s", "script": "{script}"}}]'
    server = Served(folder, "--workers", "2", env={"ASKONCE_BACKENDS": backends}).start()
    body = {"model": "s", "messages": [{"role": "user", "content": "x"}], "stream": True}
    try:
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            os.kill(server.pid, signal.SIGTERM)
            assert refused(server.url, within_s=4)
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""] or rest[-1] == "data: [DONE]"
        assert server.stop() == 0
        server.start()
        again = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"stream": False}, timeout=30)
        assert again.headers["x-askonce-cache"] == "hit"
    finally:
        server.stop()
        script.unlink()
