"""A real `askonce serve`, started as a user starts it, for tests that look at it from outside."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
READY_S = 60.0


class Served:
    """`askonce serve` on a data folder. `start` and `stop` may alternate."""

    def __init__(
        self, data_dir: Path, *arguments: str, env: dict[str, str] | None = None, ready_s: float = READY_S
    ) -> None:
        self.data_dir = data_dir
        self._ready_s = ready_s
        self.url = ""
        self.output: list[str] = []
        self._arguments = arguments
        self._env = {**_clean_environment(), **(env or {})}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "Served":
        """Start, and wait until it answers."""
        self.output.clear()
        self._process = subprocess.Popen(
            self.command("serve", "--port", "0", *self._arguments),
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        deadline = time.monotonic() + self._ready_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                time.sleep(0.2)
                raise AssertionError("askonce serve ended:\n" + self.text)
            if self._answers():
                return self
            time.sleep(0.02)
        self.kill()
        raise AssertionError("askonce serve did not get ready:\n" + self.text)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL to the parent alone."""
        return self._end(signal.SIGKILL)

    def command(self, *words: str) -> list[str]:
        """An `askonce` command line on the same data folder."""
        command, *rest = words
        return [sys.executable, "-m", "gateway.cli", command, "--data-dir", str(self.data_dir), *rest]

    def run(self, *words: str) -> str:
        """Run an `askonce` command and return what it prints."""
        done = subprocess.run(
            self.command(*words), cwd=ROOT, env=self._env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def pid(self) -> int:
        """The parent's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def text(self) -> str:
        """Everything it has printed since the last start."""
        return "".join(self.output)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            self.output.extend(lines)

    def _answers(self) -> bool:
        found = re.search(r"ready after .*?: (http://[\d.]+:\d+)", self.text)
        if not found:
            return False
        self.url = found[1]
        try:
            return httpx.get(self.url + "/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def _end(self, number: int) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, number)
        return self._process.wait(timeout=40)


def short_folder() -> Path:
    """A new folder with a path short enough for sockets."""
    return Path(tempfile.mkdtemp(prefix="ao-", dir="/tmp"))


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ASKONCE_")}
