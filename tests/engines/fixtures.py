"""Pytest fixtures, one per engine and test run: each starts on first use and hands out the server's address."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import llamacpp, ollama_double, vllm
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
