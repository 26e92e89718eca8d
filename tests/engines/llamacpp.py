"""The real llama.cpp server, in a process of its own: a GGUF file in, its address out.

Run as a program, it is that process:  python -m tests.engines.llamacpp MODEL NAME PORT
"""

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.engines.child import free_port, running

START_WITHIN_S = 120.0
SLOTS = 2
CONTEXT_TOKENS_PER_SLOT = 2048


@contextmanager
def serving(model: Path, name: str, scratch: Path, *, port: int = 0) -> Generator[str]:
    """Serve the model under a name until the block ends."""
    url = f"http://127.0.0.1:{(port := port or free_port())}"
    command = (sys.executable, "-m", "tests.engines.llamacpp", model, name, str(port))
    with running(command, ready_url=f"{url}/health", log=scratch / "llamacpp.log", deadline_s=START_WITHIN_S):
        yield url


def serve(model: str, name: str, port: int) -> None:
    """Answer until a signal ends the process. Two slots, so that requests can run at the same time."""
    xllamacpp: Any = import_module("xllamacpp")  # only this process loads the engine
    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.model_alias = [name]
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.n_ctx = SLOTS * CONTEXT_TOKENS_PER_SLOT
    settings.n_parallel = SLOTS
    settings.cpuparams.n_threads = 1
    settings.swa_full = True
    settings.embedding = True
    settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    settings.endpoint_metrics = True
    settings.verbosity = 2
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
