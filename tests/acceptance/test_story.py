"""The README's story: ask, ask again, restart, lose Redis, look at the row."""

import json
import shutil
from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.serving import Served, short_folder

MODEL = "gemma-3-askonce"
QUESTION = {
    "model": MODEL,
    "temperature": 0,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}


@pytest.fixture
def server() -> Iterator[Served]:
    """A server of this test's own, since it is restarted."""
    folder = short_folder()
    server = Served(folder, "--model", "bundled").start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def ask(server: Served, **changes: object) -> httpx.Response:
    """Ask the question, with changes."""
    response = httpx.post(f"{server.url}/v1/chat/completions", json=QUESTION | changes, timeout=60)
    assert response.status_code == 200, response.text
    return response


def source(response: httpx.Response) -> tuple[str, str]:
    """Where an answer came from."""
    return response.headers["x-askonce-cache"], response.headers["x-askonce-tier"]


def content(response: httpx.Response) -> str:
    """What the model said."""
    return response.json()["choices"][0]["message"]["content"]


def test_the_story(server: Served) -> None:
    """Each tier answers once those above it are gone, with the same words under a new id."""
    first = ask(server)
    assert source(first) == ("miss", "backend")
    assert "Paris" in content(first)

    again = ask(server)
    assert source(again) == ("hit", "memory")
    assert content(again) == content(first)
    assert again.json()["id"] != first.json()["id"]
    assert again.headers["x-askonce-origin-id"] == first.json()["id"]
    assert int(again.headers["age"]) >= 0

    assert server.stop() == 0
    server.start()
    assert source(ask(server)) == ("hit", "redis")
    assert source(ask(server)) == ("hit", "memory")

    assert server.stop() == 0
    server.start()
    server.run("redis-cli", "FLUSHALL")
    from_postgres = ask(server)
    assert source(from_postgres) == ("hit", "postgres")
    assert content(from_postgres) == content(first)

    row = server.run("psql", "-At", "-c", "select model, text, engine from askonce.completions where kind = 'chat'")
    assert row.strip() == f"{MODEL}|{content(first)}|llamacpp"


def test_explain_says_what_the_cache_would_do(server: Served) -> None:
    """`askonce explain` names the tier before and after asking, and every part of the key."""
    file = server.data_dir.parent / f"{server.data_dir.name}-request.json"
    file.write_text(json.dumps(QUESTION))
    try:
        before = explained(server, str(file))
        key = ask(server).headers["x-askonce-key"]
        after = explained(server, str(file))
    finally:
        file.unlink()
    assert (before["tier"], after["tier"]) == ("backend", "memory")
    assert before["key"] == after["key"] == key
    assert before["parts"]["engine"] == "llamacpp"
    assert json.loads(before["prompt"])["messages"] == QUESTION["messages"]


def explained(server: Served, file: str) -> dict[str, object]:
    """`askonce explain FILE --json`."""
    import subprocess
    import sys

    from tests.acceptance.serving import ROOT

    words = [sys.executable, "-m", "gateway.cli", "explain", file, "--url", server.url, "--json"]
    return json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def test_equal_questions_are_equal_however_they_are_written(served: Served) -> None:
    """Permuted keys and defaults said out loud hit; any other change misses."""
    question = QUESTION | {"messages": [{"role": "user", "content": "Repeat: zabu mirota 42"}]}
    first = ask(served, **question)
    permuted = json.dumps(dict(reversed(question.items())), indent=3).replace('"role": "user"', '"role" :"user"')
    same = httpx.post(f"{served.url}/v1/chat/completions", content=permuted, timeout=60)
    assert source(first) == ("miss", "backend")
    assert source(same)[0] == "hit"
    assert source(ask(served, **question, top_p=1, n=1, user="somebody", metadata={"a": "b"}))[0] == "hit"
    for change in ({"temperature": 0.1}, {"seed": 1}, {"max_tokens": 50}, {"top_k": 40}, {"nobody_knows_this": 1}):
        assert source(ask(served, **(question | change)))[0] == "miss", change


def test_a_stream_and_a_whole_reply_share_one_answer(served: Served) -> None:
    """Whoever asks first, the other form is a hit with the same text and the same steps each time."""
    question = QUESTION | {"messages": [{"role": "user", "content": "Repeat: kolu tavide 7"}]}
    miss, first = stream(served, question)
    hit, second = stream(served, question)
    whole = ask(served, **question)
    assert (miss, hit, source(whole)[0]) == ("miss", "hit", "hit")
    assert first == second
    assert len(first) > 2
    assert "".join(first) == content(whole)


def stream(served: Served, question: dict[str, object]) -> tuple[str, list[str]]:
    """Where a streamed answer came from, and its steps."""
    url = f"{served.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=question | {"stream": True}, timeout=60) as response:
        assert response.status_code == 200
        events = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
        return response.headers["x-askonce-cache"], [delta["content"] for delta in deltas if "content" in delta]
