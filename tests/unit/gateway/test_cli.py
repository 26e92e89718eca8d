"""The command line: what it takes from the settings, and what it says when another server answers."""

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from gateway import supervisor
from gateway.cli import main
from gateway.supervisor import ServePlan
from storage import migrate

ROOT = Path(__file__).parents[3]
EXPLAINED = {"key": "ab", "parts": {"model": "m"}, "prompt": "hello", "tier": "memory", "backend": "m"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class FakeGateway:
    """What answers `explain`, and where it was asked."""

    def __init__(self) -> None:
        self.asked = ""
        self.query: Any = None
        self.response = httpx.Response(200, json=EXPLAINED)

    def request(self, method: str, url: str, **sent: Any) -> httpx.Response:
        """As that of `httpx.Client`."""
        assert method == "POST"
        self.asked, self.query = url, sent["params"]
        return self.response


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    gateway = FakeGateway()
    monkeypatch.setattr(httpx.Client, "request", lambda _, *words, **sent: gateway.request(*words, **sent))
    return gateway


def run(*words: str) -> Result:
    """One command, with an empty request on its stdin."""
    return CliRunner().invoke(main, words, input="{}")


def test_status_without_a_database_makes_none(tmp_path: Path) -> None:
    """Each step is named as not applied; looking changes nothing."""
    done = run("migrate", "--status", "--data-dir", str(tmp_path / "data"))
    assert done.exit_code == 0
    assert [line.split() for line in done.output.splitlines()] == [
        [step.name, "not", "applied"] for step in migrate.steps()
    ]
    assert list(tmp_path.iterdir()) == []


def test_help_has_the_programs_name() -> None:
    """Also when it is run as a module."""
    words = [sys.executable, "-m", "gateway.cli", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("Usage: askonce ")


def test_explain_asks_what_is_configured(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configured host and port, unless another address is given."""
    assert "kept in memory" in run("explain", "-").output
    assert gateway.asked == "http://127.0.0.1:8080/v1/cache/explain"
    monkeypatch.setenv("ASKONCE_HOST", "0.0.0.0")
    Path("askonce.toml").write_text("port = 9000\n")
    assert run("explain", "-").exit_code == 0
    assert gateway.asked == "http://127.0.0.1:9000/v1/cache/explain"
    assert run("explain", "-", "--url", "http://other:1").exit_code == 0
    assert gateway.asked == "http://other:1/v1/cache/explain"


def test_explain_says_where_the_request_would_be_sent(gateway: FakeGateway) -> None:
    """When it is told."""
    assert run("explain", "-", "--path", "/api/chat").exit_code == 0
    assert gateway.query == {"path": "/api/chat"}
    assert run("explain", "-").exit_code == 0
    assert not gateway.query


def test_what_was_asked_leaves_the_terminal_alone(gateway: FakeGateway) -> None:
    """No control character gets through, of a prompt, a field's name or a refusal; JSON stays what it is."""
    evil = "\x1b[2J\x9b31m\r\u202e"
    nearest = {
        "key": "ab",
        "created_at": 0,
        "differs": [{"field": evil, "asked": evil, "kept": [evil]}],
        "more": 3,
    }
    said = EXPLAINED | {"prompt": evil, "why": evil, "parts": {"model": evil}, "backend": evil, "nearest": nearest}
    gateway.response = httpx.Response(200, json=said)
    for words in (["explain", "-"], ["explain", "-", "--json"]):
        done = run(*words)
        assert done.exit_code == 0
        assert all(line.isprintable() for line in done.stdout.split("\n"))
    assert json.loads(done.stdout) == said
    assert "  and 3 more\n" in run("explain", "-").stdout
    gateway.response = httpx.Response(400, json={"error": {"message": evil}})
    assert all(line.isprintable() for line in run("explain", "-").stderr.split("\n"))


def test_explain_does_not_go_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the environment names knows nothing of this machine's servers."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.dumps(EXPLAINED).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.timeout = 10
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = run("explain", "-", "--url", f"http://127.0.0.1:{server.server_port}")
        thread.join()
    assert "kept in memory" in done.output


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, {"error": "not found"}),
        (404, {"detail": "Not Found"}),
        (500, []),
        (200, {}),
        (200, "ok"),
        (302, EXPLAINED),
    ],
)
def test_another_server_is_named(gateway: FakeGateway, status: int, said: object) -> None:
    """One sentence instead of a traceback."""
    gateway.response = httpx.Response(status, json=said)
    done = run("explain", "-")
    assert done.exit_code == 2
    assert f"What answers at http://127.0.0.1:8080 (status {status}) is no askonce" in done.output


def test_a_refusal_is_shown(gateway: FakeGateway) -> None:
    """In askonce's own words."""
    gateway.response = httpx.Response(400, json={"error": {"message": "A request has 'messages'."}})
    done = run("explain", "-")
    assert (done.exit_code, done.output) == (2, "Error: A request has 'messages'.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["keys", "create", "--label", "\udcff"], "An argument is not UTF-8: b'\\xff'."),
        (["keys", "create", "--model", "\udcff"], "An argument is not UTF-8"),
        (["keys", "list", "--tenant", "\udcff"], "An argument is not UTF-8"),
        (["keys", "revoke", "\udcff"], "An argument is not UTF-8"),
        (["namespaces", "join", "\udcff", "b"], "An argument is not UTF-8"),
        (["explain", "-", "--path", "\udcff"], "An argument is not UTF-8"),
        (["verify", "--last", "3", "--model", "\udcff"], "An argument is not UTF-8"),
        (["verify", "--last", "3", "--api-key", "é"], "The key to ask with has characters that no header can carry."),
        (["explain", "-", "--api-key", "é"], "The key to ask with has characters that no header can carry."),
        (["explain", "-", "--api-key", "a\nb"], "The key to ask with has characters that no header can carry."),
        (["explain", "-", "--url", "http://a:b"], "'http://a:b' is no address of an askonce"),
        (["verify", "--last", "3", "--url", "http://a:b"], "'http://a:b' is no address of an askonce"),
        (["explain", "-", "--url", "localhost:80"], "'localhost:80' is no address of an askonce"),
        (["explain", "-", "--url", f"http://{'a' * 70}"], "is no address of an askonce"),
        (["keys", "create", "--model", ""], "a model's name is empty"),
    ],
)
def test_words_that_cannot_be_asked_with_are_a_sentence(words: list[str], said: str) -> None:
    """With the status of wrong usage, and nothing is sent: no server is blamed."""
    done = run(*words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_a_wrong_variable_is_one_sentence_whatever_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option would win, but the workers' environment is the same."""
    monkeypatch.setenv("ASKONCE_PORT", "abc")
    done = run("serve", "--port", "18090")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert done.output.startswith("Error: ASKONCE_PORT is not valid: ")


@pytest.mark.parametrize(("field", "default"), [("threads", None), ("workers", 1), ("database_connections", 8)])
def test_settings_reach_the_plan(monkeypatch: pytest.MonkeyPatch, field: str, default: int | None) -> None:
    """Those of the embedded servers."""
    plans: list[ServePlan] = []

    async def serve(plan: ServePlan, **_: Any) -> int:
        plans.append(plan)
        return 0

    monkeypatch.setattr(supervisor, "serve", serve)
    assert run("serve").exit_code == 0
    monkeypatch.setenv(f"ASKONCE_{field.upper()}", "3")
    assert run("serve").exit_code == 0
    assert [getattr(plan.config, field) for plan in plans] == [default, 3]
