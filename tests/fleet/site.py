"""Three replicas and a real `askonce serve` before them."""

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.acceptance.serving import ROOT, Served, short_folder
from tests.engines.child import free_port


class Replica:
    """One replica, served by one process after the other on the same port."""

    def __init__(self, name: str, *, slots: int = 1000, first_s: float = 0.0, step_s: float = 0.0) -> None:
        self.name = name
        self.port = free_port()
        self._how = [str(slots), str(first_s), str(step_s)]
        self._process: subprocess.Popen[str] | None = None

    def start(self, weights: str = "w1") -> None:
        """Serve."""
        words = [sys.executable, "-m", "tests.fleet.model", str(self.port), weights, *self._how]
        self._process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "up\n"

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End its process, without a farewell."""
        assert self._process
        assert self._process.stdout
        self._process.send_signal(how)
        self._process.wait(10)
        self._process.stdout.close()
        self._process = None

    def be(self, mode: str) -> None:
        """Misbehave like this from now on."""
        self._control("/be", mode.encode())

    @property
    def calls(self) -> int:
        """How often this process was asked."""
        return int(self._control("/calls"))

    def settings(self, **more: Any) -> str:
        """Its table in askonce.toml."""
        lines = [f'name = "{self.name}"', 'kind = "vllm"', 'alias = "m"', 'model = "m"']
        lines += [f'url = "http://127.0.0.1:{self.port}"', *(f"{name} = {json.dumps(more[name])}" for name in more)]
        return "[[backends]]\n" + "\n".join(lines) + "\n"

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            self.kill()

    def _control(self, path: str, content: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", content, 20) as reply:
            return reply.read()


class Site:
    """The replicas, the settings, and the gateway."""

    def __init__(self, folder: Path, replicas: list[Replica], options: Sequence[str], **settings: Any) -> None:
        self.replicas = replicas
        self.file = folder / "askonce.toml"
        self._settings = settings
        self.write("".join(replica.settings(**settings) for replica in replicas))
        self.served = Served(folder / "data", "--config", str(self.file), *options)

    def write(self, text: str) -> None:
        """Have other settings, once they are read again."""
        self.file.write_text(text, "utf-8")

    def settings(self, *replicas: Replica) -> str:
        """The settings of these replicas."""
        return "".join(replica.settings(**self._settings) for replica in replicas)


@contextlib.contextmanager
def running(*replicas: Replica, options: Sequence[str] = (), **settings: Any) -> Iterator[Site]:
    """All of it, until the block ends. `settings` are those of every replica, `options` are askonce's."""
    with contextlib.ExitStack() as stack:
        for replica in replicas:
            stack.callback(replica.close)
            replica.start()
        folder = short_folder()
        stack.callback(lambda: subprocess.run(["rm", "-rf", str(folder)], check=False))
        site = Site(folder, list(replicas), options, **settings)
        site.served.start()
        stack.callback(site.served.stop)
        yield site
