"""The double of Ollama as a program with Ollama's command line, `serve`, and Ollama's variables.

It serves one model, once that was pulled into the folder OLLAMA_MODELS. Like Ollama it starts llama.cpp as its child.
What Ollama's own program would do beyond that is not shown by it: the program cannot be had in the tests.
"""

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from tests.engines import asgi, llamacpp
from tests.engines import ollama_wire as wire
from tests.engines.child import ROOT, free_port, wait_until_ready
from tests.engines.ollama_double import Lines, OllamaDouble, Reply
from tests.engines.ollama_engine import LlamaCpp, Model

NAME = "gemma-3-askonce"
FILE = ROOT / "gateway" / "models" / "bundled" / f"{NAME}.gguf"
STEPS = 20


class PullingOllama(OllamaDouble):
    """The double, which has no model before it was told to pull it."""

    def __init__(self, llama: LlamaCpp, model: Model, folder: Path) -> None:
        """Add the route of the pull."""
        super().__init__(llama, model)
        self.manifest = folder / "manifests" / NAME
        self.routes["POST", "/api/pull"] = self.pull

    async def answer(self, method: str, path: str, body: bytes, send: asgi.Send) -> None:
        """A model that is not there is not found."""
        needs = path in {"/api/show", "/api/chat", "/api/generate", "/api/embed"}
        if needs and not self.manifest.exists():
            return await asgi.send_json(send, 404, {"error": f"model '{NAME}' not found"})
        return await super().answer(method, path, body, send)

    async def tags(self, body: bytes) -> Reply:
        """GET /api/tags."""
        return await super().tags(body) if self.manifest.exists() else {"models": []}

    async def pull(self, body: bytes) -> Reply:
        """POST /api/pull."""
        return self.pulling(wire.decode(body, wire.ShowRequest))

    async def pulling(self, request: wire.ShowRequest) -> Lines:
        """What Ollama says of a pull, a line at a time; an error comes in such a line, too."""
        yield {"status": "pulling manifest"}
        if (request.model or request.name).removesuffix(":latest") != NAME:
            yield {"error": "pull model manifest: file does not exist"}
            return
        digest, total = f"sha256:{self.model.digest}", FILE.stat().st_size
        for step in range(STEPS + 1):
            await asyncio.sleep(0.01)
            layer = {"status": f"pulling {self.model.digest[:12]}", "digest": digest, "total": total}
            yield layer | ({"completed": total * step // STEPS} if step else {})
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        self.manifest.parent.mkdir(parents=True, exist_ok=True)
        self.manifest.write_text(digest)
        yield {"status": "success"}


@contextmanager
def runner() -> Generator[str]:
    """llama.cpp in this program's process group, where Ollama has it too; nothing but that ties it to us."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-m", "tests.engines.llamacpp", str(FILE), NAME, str(port))
    with tempfile.TemporaryDirectory(prefix="ollama-") as scratch:
        log = Path(scratch) / "llamacpp.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        try:
            wait_until_ready(process, f"{url}/health", log, llamacpp.START_WITHIN_S)
            yield url
        finally:
            process.terminate()
            process.wait()


async def serve() -> None:
    """`ollama serve`: on OLLAMA_HOST, with the models in OLLAMA_MODELS."""
    host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
    with runner() as url:
        llama = LlamaCpp(url)
        application: Any = PullingOllama(llama, await llama.model(NAME), Path(os.environ["OLLAMA_MODELS"]))
        print(f"Listening on {host}:{port} (version 0.33.0)", file=sys.stderr, flush=True)
        config = uvicorn.Config(application, host, int(port), lifespan="off", log_level="warning")
        await uvicorn.Server(config).serve()


def installed(folder: Path) -> Path:
    """The program in a folder that can be put on the PATH."""
    program = folder / "ollama"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.engines import ollama_program\nollama_program.main()\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def main() -> None:
    """Serve; other commands are not known."""
    if sys.argv[1:] != ["serve"]:
        sys.exit(f"Error: unknown command {sys.argv[1:]}")
    asyncio.run(serve())


if __name__ == "__main__":
    main()
