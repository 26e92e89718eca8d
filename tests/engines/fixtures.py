"""Pytest fixtures, one per engine and test run: each starts on first use and hands out the server's address."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.serving import Served, short_folder
from tests.engines import llamacpp, minilm_install, ollama_double, vllm
from tests.engines.child import ROOT

MODEL = "gemma-3-askonce"
BUNDLED = ROOT / "gateway" / "models" / "bundled"


@pytest.fixture(scope="session")
def model_name() -> str:
    """Name the model as every engine here serves it."""
    return MODEL


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """Return the bundled model in the Hugging Face layout, for vLLM."""
    return BUNDLED / "hf"


@pytest.fixture(scope="session")
def model_file() -> Path:
    """Return the bundled model as GGUF, for llama.cpp and what is built on it."""
    return BUNDLED / f"{MODEL}.gguf"


@pytest.fixture(scope="session")
def vllm_url(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the bundled model with the real vLLM."""
    with vllm.serving(model_folder, MODEL, tmp_path_factory.mktemp("vllm")) as url:
        yield url


@pytest.fixture(scope="session")
def llamacpp_url(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the bundled model with the real llama.cpp."""
    with llamacpp.serving(model_file, MODEL, tmp_path_factory.mktemp("llamacpp")) as url:
        yield url


@pytest.fixture(scope="session")
def ollama_url(llamacpp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Speak Ollama's API over that llama.cpp."""
    with ollama_double.serving(llamacpp_url, MODEL, tmp_path_factory.mktemp("ollama")) as url:
        yield url


@pytest.fixture(scope="session")
def sentence_file() -> Path:
    """Return all-MiniLM-L6-v2 as GGUF, which `make engines` has put there."""
    if not minilm_install.is_ready():
        pytest.fail("all-MiniLM-L6-v2 is not installed: run `make engines`")
    return minilm_install.FILE


@pytest.fixture(scope="session")
def sentences(sentence_file: Path) -> Iterator[Served]:
    """Serve all-MiniLM-L6-v2 with `askonce serve`, on its embedded llama.cpp."""
    folder = short_folder()
    server = Served(folder, "--model", str(sentence_file))
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
