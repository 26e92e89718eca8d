"""`askonce verify` against a running gateway: one answer, many, and what happens when it is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from storage.keys import Wanted
from tests.acceptance.in_thread import MODEL, Gateway

ROOT = Path(__file__).parents[2]
PARIS = '[[line]]\nreply = "The capital of France is Paris."\n'
LYON = 'version = "2"\n[[line]]\nwhen = "1"\nreply = "The capital of France is Lyon."\n' + PARIS


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked(gateway: Gateway, text: str, **fields: Any) -> str:
    """Ask, and return the key of the answer."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0} | fields
    reply = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.headers["x-askonce-key"]


def another(gateway: Callable[..., Gateway], first: Gateway, script: str) -> Gateway:
    """A gateway that has what `first` has, and knows that nothing of it was deleted."""
    first.flushed()
    made = gateway(script)
    deadline = time.monotonic() + 15
    while not made.parts.invalidations.known:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return made


def verify(gateway: Gateway, *words: str) -> Result:
    """The command."""
    return CliRunner().invoke(main, ["verify", "--url", gateway.url, *words])


def test_one_answer_is_verified(gateway: Callable[..., Gateway]) -> None:
    """A line when it is the same; a picture and the status 1 when it is not."""
    first = gateway(PARIS)
    key = asked(first, "1")
    done = verify(first, key)
    assert (done.exit_code, done.stdout) == (0, f"identical  {key}  {MODEL}, 6 tokens compared\n")
    done = verify(another(gateway, first, LYON), key)
    assert done.exit_code == 1
    assert "    The capital of France is ┬ then: Paris.\n" in done.stdout
    assert "    └ now:  Lyon.\n" in done.stdout
    assert "! Another version of the model answers now.\n" in done.stdout
    proof = json.loads(verify(first, key, "--json").stdout)
    assert (proof["outcome"], proof["key"]) == ("identical", key)


def test_many_answers_are_verified(gateway: Callable[..., Gateway]) -> None:
    """Which of them would be others after an upgrade; the table says how many, and the status that there are some."""
    first = gateway(PARIS)
    keys = [asked(first, text) for text in "012"]
    drawn = asked(first, "1", temperature=1)
    first.flushed()
    assert verify(first, "--last", "10").exit_code == 0
    later = another(gateway, first, LYON)
    done = verify(later, "--last", "10", "--model", MODEL)
    assert done.exit_code == 1
    assert done.stdout.count("diverged") == 2
    assert done.stdout.splitlines()[-1].split() == [MODEL, "2", "1", "1", "0", "0"]
    assert keys[1] in done.stdout
    assert drawn in done.stdout
    done = verify(later, "--sample", "10", "--reproducible")
    assert "1 of 4 were sampled without a seed and are left out." in done.stderr
    assert done.stdout.splitlines()[-1].split() == [MODEL, "2", "1", "0", "0", "0"]
    done = verify(later, keys[0], keys[2], "0" * 64)
    assert done.exit_code == 2
    assert f"gone       {'0' * 64}" in done.stderr
    lines = verify(later, "--last", "4", "--json").stdout.splitlines()
    assert [json.loads(line)["outcome"] for line in lines].count("diverged") == 2
    done = verify(later, "--last", "4", "--model", "other")
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "Error: There is no such answer.\n")
    assert verify(later, "--last", "10", "--model", f"{MODEL}:latest").exit_code == 1
    assert verify(later, keys[1], "0" * 64).exit_code == 1


def test_a_backend_that_is_down_is_not_asked_for_ever(gateway: Callable[..., Gateway]) -> None:
    """After some failures in a row the rest is left alone; the status says that nothing is proved."""
    first = gateway(PARIS)
    for number in range(8):
        asked(first, str(number))
    down = another(gateway, first, "[[line]]\nrefuse_status = 503\n")
    done = verify(down, "--last", "8")
    assert done.exit_code == 2
    assert "5 in a row could not be verified" in done.stderr
    assert down.backend.calls == 5 * 3  # each is tried again
    assert done.stdout.splitlines()[-1].split() == [MODEL, "0", "0", "0", "0", "5"]


def test_an_answer_of_a_model_that_is_gone_is_not_proved(gateway: Callable[..., Gateway]) -> None:
    """It is kept, but nobody can be asked: that is a failure, and is named."""
    made = gateway(PARIS)
    key = asked(made, "1")
    entry = made.run(made.parts.tiers.find(bytes.fromhex(key))).found.entry
    query = msgspec.structs.replace(entry.query, model="gone")
    newer = msgspec.structs.replace(entry, created_at=entry.created_at + 1e-3, replaces=True)
    made.parts.tiers.put(msgspec.structs.replace(newer, query=query))
    done = verify(made, key, key)
    assert done.exit_code == 2
    assert done.stderr.count("The model 'gone' does not exist here") == 2


def test_what_cannot_be_asked_is_a_sentence(gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong words, an unknown key, a missing key, no askonce at all."""
    made = gateway(PARIS)
    for words in ([], ["0" * 64, "--last", "1"], ["--last", "1", "--sample", "1"], ["0" * 64, "--model", "m"]):
        assert verify(made, *words).exit_code == 2
    done = verify(made, "0" * 64)
    assert (done.exit_code, done.stderr) == (2, "Error: Nothing is kept for you under this key.\n")
    done = verify(made, "xyz")
    assert (done.exit_code, "64 hexadecimal digits" in done.stderr) == (2, True)
    assert verify(made, "--sample", "3").exit_code == 2
    store: Any = made.parts.access._kept._kept
    key = made.run(store.create(Wanted(tenant="default", scopes=("cache",))))
    deadline = time.monotonic() + 15
    while "wants a key" not in (done := verify(made, "--last", "1")).stderr:
        assert time.monotonic() < deadline
    assert done.exit_code == 2
    assert "no such answer" in verify(made, "--last", "1", "--api-key", key).stderr
    monkeypatch.setenv("ASKONCE_ADMIN_KEY", key)
    assert "no such answer" in verify(made, "--last", "1").stderr
    done = CliRunner().invoke(main, ["verify", "--last", "1", "--url", "http://127.0.0.1:9"])
    assert (done.exit_code, done.stderr[:20]) == (2, "Error: No askonce an")
    monkeypatch.setenv("ASKONCE_PORT", "abc")
    assert verify(made, "--last", "1").exit_code == 2


def test_stopping_it_shows_what_it_had(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """Ctrl-C ends the model's work too."""
    made = gateway(PARIS)
    for number in range(3):
        asked(made, str(number))
    made.flushed()
    backend = made.backend
    words = [sys.executable, "-u", "-m", "gateway.cli", "verify", "--last", "3", "--json", "--url", made.url]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert process.stdout
        assert process.stderr
        first = json.loads(process.stdout.readline())
        backend.hold_after = 1
        deadline = time.monotonic() + 30
        while not backend.held:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        said = process.stderr.read()
        rest = process.stdout.read().splitlines()
    assert process.returncode == 130
    assert first["outcome"] == "identical"
    assert "Stopped. What was verified until then:" in said
    assert int(said.splitlines()[-1].split()[1]) == 1 + len(rest)
    assert backend.ended.wait(15)
    assert backend.ends[-1] == "cancelled"
