"""Server programs as children of the test run: a command in, a server that answers out, and nothing left behind."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent.parent
LEASH = Path(__file__).with_name("leash.py")
STOP_WITHIN_S = 30.0
LOG_TAIL_LINES = 60


class StartError(Exception):
    """The program ended, or did not answer in time; the message carries the end of its log."""


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    ready_url: str,
    log: Path,
    deadline_s: float,
    environment: Mapping[str, str] | None = None,
) -> Generator[None]:
    """Run the command from the repository's root until the block ends, once `ready_url` has answered 200."""
    leashed = [sys.executable, str(LEASH), *map(str, command)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            leashed,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        wait_until_ready(process, ready_url, log, deadline_s)
        yield
    finally:
        stop(process)


def wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path, deadline_s: float) -> None:
    """Ask until the server answers 200; a program that ends or takes too long raises `StartError`."""
    deadline = time.monotonic() + deadline_s
    while not answers(url):
        if process.poll() is not None:
            raise StartError(f"the server ended with {process.returncode}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise StartError(f"no answer from {url} within {deadline_s:.0f} s:\n{tail(log)}")
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Tell whether the URL answers 200 right now."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Close the leash's input, which ends the whole group, and wait until it is gone."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
