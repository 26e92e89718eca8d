"""The real vLLM: a folder in the Hugging Face layout in, an OpenAI-compatible server's address out."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.engines.child import ROOT, free_port, running

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
START_WITHIN_S = 600.0
FLAGS = (
    *("--host", "127.0.0.1"),
    *("--dtype", "bfloat16"),
    *("--max-model-len", "2048"),
    *("--max-num-seqs", "16"),
    *("--distributed-executor-backend", "uni"),  # one process less, and about ten seconds
    *("--generation-config", "vllm"),  # sampling defaults come from the request, not from the model's folder
    "--enforce-eager",
    "--enable-prompt-tokens-details",
)


@contextmanager
def serving(
    model: Path,
    name: str,
    scratch: Path,
    flags: Sequence[str] = (),
    *,
    port: int = 0,
    variables: Mapping[str, str] | None = None,
) -> Generator[str]:
    """Serve the model under a name until the block ends; caches and the log go to the scratch folder."""
    url = f"http://127.0.0.1:{(port := port or free_port())}"
    entry = (PYTHON, "-m", "vllm.entrypoints.cli.main", "serve", model)
    command = (*entry, "--port", str(port), "--served-model-name", name, *FLAGS, *flags)
    with running(
        command,
        ready_url=f"{url}/health",
        log=scratch / "vllm.log",
        deadline_s=START_WITHIN_S,
        environment={**environment(scratch), **(variables or {})},
    ):
        yield url


def engine_core(url: str) -> int:
    """The process that computes for the server at this address."""
    port = str(httpx.URL(url).port)
    started = next(process for process in psutil.process_iter(["cmdline"]) if port in (process.info["cmdline"] or ()))
    return next(child.pid for child in started.children(recursive=True) if "EngineCore" in child.name())


def environment(scratch: Path) -> dict[str, str]:
    """Keep vLLM on the processor, small, offline, silent, and out of the home folder."""
    return {
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CACHE_ROOT": str(scratch / "cache"),
        "VLLM_CONFIG_ROOT": str(scratch / "config"),
        "HF_HOME": str(scratch / "hub"),
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONSAFEPATH": "1",
    }
