"""The real engines start, answer OpenAI's API with the bundled model, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai
import pytest

from tests.engines import llamacpp
from tests.engines.child import ROOT, StartError

pytestmark = pytest.mark.engines

URLS = ("vllm_url", "llamacpp_url")


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest) -> str:
    """Return each engine's address in turn."""
    return request.getfixturevalue(request.param)


def test_official_client_gets_an_answer(url: str, model_name: str) -> None:
    """A chat is answered, and equal greedy requests get equal answers."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [model_name]
        first, second = (
            client.chat.completions.create(
                model=model_name,
                messages=[{"role": "user", "content": "Hello"}],
                max_tokens=8,
                temperature=0,
            )
            for _ in range(2)
        )
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.usage is not None
    assert first.usage.completion_tokens > 0


def test_vllm_reports_its_prefix_cache(vllm_url: str, model_name: str) -> None:
    """The second of two long equal prompts is read from the cache, and the reply says so."""
    body = {"model": model_name, "messages": [{"role": "user", "content": "cache " * 200}], "max_tokens": 1}
    replies = [httpx.post(f"{vllm_url}/v1/chat/completions", json=body, timeout=60).json() for _ in range(2)]
    assert replies[1]["usage"]["prompt_tokens_details"]["cached_tokens"] >= 128


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    """The error carries what the program said."""
    with (
        pytest.raises(StartError, match="Failed to init server"),
        llamacpp.serving(tmp_path / "none.gguf", "x", tmp_path),
    ):
        pytest.fail("a missing model was served")


def test_nothing_outlives_the_test_run(model_file: Path, tmp_path: Path) -> None:
    """A server ends even when whoever started it is killed at once."""
    program = (
        "import sys, time; from pathlib import Path; from tests.engines import llamacpp\n"
        "with llamacpp.serving(Path(sys.argv[1]), 'x', Path(sys.argv[2])) as url:\n"
        "    print(url, flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, model_file, tmp_path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
    ) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        assert httpx.get(f"{url}/health").is_success
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and is_up(url):
        time.sleep(0.1)
    assert not is_up(url)


def is_up(url: str) -> bool:
    """Tell whether anything listens there."""
    try:
        httpx.get(url)
    except httpx.TransportError:
        return False
    return True
