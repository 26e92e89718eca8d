"""A gateway with keys whose database lies still stays closed, whatever is started again meanwhile."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.serving import ROOT, Served, short_folder
from tests.suites.frozen import frozen

HI = {"model": "parrot", "messages": [{"role": "user", "content": "Hi"}]}
NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"
OPEN, CLOSED, UNKNOWN = (200, ""), (401, "missing_api_key"), (503, "keys_unavailable")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serve a scripted model on a folder: `serve(folder, ASKONCE_…=…)`. Folders are new and go with the test."""
    script = tmp_path / "script.toml"
    script.write_text("[[line]]\n")
    backends = json.dumps([{"kind": "scripted", "model": "parrot", "script": str(script)}])
    made: list[Served] = []

    def start(folder: Path, **env: str) -> Served:
        made.append(Served(folder, env={"ASKONCE_BACKENDS": backends, **env}))
        return made[-1].start()

    yield start
    for one in made:
        one.stop()
        shutil.rmtree(one.data_dir, ignore_errors=True)


def key_of(gateway: Served) -> str:
    """A new key, made on the command line."""
    words = [sys.executable, "-m", "gateway.cli", "keys", "create", "--data-dir", str(gateway.data_dir)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def asked(gateway: Served, key: str = "") -> tuple[int, str]:
    """The status, and the code of a refusal; 0 while nobody answers."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.post(f"{gateway.url}/v1/chat/completions", json=HI, headers=headers, timeout=20)
    except httpx.TransportError:
        return 0, ""
    return reply.status_code, reply.json()["error"]["code"] if reply.is_error else ""


def until(expected: tuple[int, str], gateway: Served, key: str = "") -> None:
    """Ask until this is the reply."""
    deadline = time.monotonic() + 60
    while (said := asked(gateway, key)) != expected:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def worker(gateway: Served) -> psutil.Process:
    """The process that answers."""
    (found,) = (one for one in psutil.Process(gateway.pid).children() if "gateway.worker" in one.cmdline())
    return found


def test_a_new_worker_does_not_open_a_gateway_with_keys(serve: Callable[..., Served]) -> None:
    """It cannot ask the frozen Postgres, and asks nobody to come in; when Postgres is back it tells keys again."""
    gateway = serve(short_folder())
    assert asked(gateway) == OPEN
    key = key_of(gateway)
    until(CLOSED, gateway)
    (record,) = (gateway.data_dir / "postgres").rglob("postmaster.pid")
    with frozen(int(record.read_text().splitlines()[0])):
        old = worker(gateway)
        old.kill()
        old.wait(30)
        until(UNKNOWN, gateway)
        assert asked(gateway, key) == UNKNOWN
    until(OPEN, gateway, key)
    assert asked(gateway) == CLOSED


def test_a_gateway_started_again_without_its_database_stays_closed(serve: Callable[..., Served]) -> None:
    """Only on a folder that never served one with a key is everybody on this machine let in."""
    gateway = serve(short_folder())
    key_of(gateway)
    gateway.stop()
    gateway.start()  # the key was made, and nobody has asked since
    gateway.stop()
    again = serve(gateway.data_dir, ASKONCE_DATABASE_URL=NOWHERE)
    assert asked(again) == UNKNOWN
    new = serve(short_folder(), ASKONCE_DATABASE_URL=NOWHERE)
    assert asked(new) == OPEN
