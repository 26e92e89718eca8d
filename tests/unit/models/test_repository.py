"""Repositories, from a real HTTP server that speaks the hub's protocol: complete, of one commit, asked for once."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.models.hub import HubError, HubUnreachable
from gateway.models.repository import folder_of
from gateway.models.source import BUNDLED_FOLDER, ModelNotUsable

FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"[1]",
    "chat_template.jinja": b"{{ messages }}",
    "model-00001-of-00002.safetensors": b"a" * 5000,
    "model-00002-of-00002.safetensors": b"b" * 3000,
    "pytorch_model.bin": b"c" * 9000,
    "README.md": b"# hello",
    "onnx/model.onnx": b"d",
}


class FakeHub(ThreadingHTTPServer):
    """One repository, at one commit after another."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(FILES)
        self.commit = "c1"
        self.asked: list[str] = []
        self.missing: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        hub = self.server
        hub.asked.append(f"{self.command} {self.path}")
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/org/repo?"):
            files = [{"rfilename": name, "size": len(data)} for name, data in hub.files.items()]
            content, status = json.dumps({"sha": hub.commit, "siblings": files}).encode(), 200
        elif self.path.startswith(f"/org/repo/resolve/{hub.commit}/") and name not in hub.missing:
            content, status = hub.files[name], 200
        else:
            content, status = b"", 404
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("X-Repo-Commit", hub.commit)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_what_a_model_is_loaded_from_is_downloaded_once(hub: FakeHub, tmp_path: Path) -> None:
    """Weights in one form, and what is beside them; progress counts all of it; the hub is not asked again."""
    shown: list[tuple[int, int]] = []
    model = await folder_of(
        "org/repo", models_dir=tmp_path, hub_endpoint=hub.url, progress=lambda *of: shown.append(of)
    )
    assert model.name == "org/repo"
    found = {path.name for path in model.path.iterdir() if not path.name.startswith(".")}
    assert found == {name for name in FILES if name not in {"README.md", "pytorch_model.bin", "onnx/model.onnx"}}
    total = sum(len(FILES[name]) for name in found)
    assert shown[-1] == (total, total)
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)
    hub.asked.clear()
    assert await folder_of("org/repo", models_dir=tmp_path, hub_endpoint=hub.url) == model
    assert hub.asked == []


async def test_commits_are_not_mixed(hub: FakeHub, tmp_path: Path) -> None:
    """A download that broke off goes on with the files of one commit only."""
    hub.missing = {"model-00002-of-00002.safetensors"}
    with pytest.raises(HubError):
        await folder_of("org/repo", models_dir=tmp_path, hub_endpoint=hub.url)
    hub.missing, hub.commit = set(), "c2"
    hub.files = {name: data[::-1] + b"2" for name, data in FILES.items()}
    model = await folder_of("org/repo", models_dir=tmp_path, hub_endpoint=hub.url)
    for name in ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert (model.path / name).read_bytes() == hub.files[name]


async def test_a_repository_that_is_not_there_is_named(hub: FakeHub, tmp_path: Path) -> None:
    """Or one without weights, and a hub that does not answer."""
    with pytest.raises(HubError, match="no repository org/other"):
        await folder_of("org/other", models_dir=tmp_path, hub_endpoint=hub.url)
    hub.files = {"config.json": b"{}"}
    with pytest.raises(HubError, match="no weights"):
        await folder_of("org/repo", models_dir=tmp_path, hub_endpoint=hub.url)
    with pytest.raises(HubUnreachable):
        await folder_of("org/repo", models_dir=tmp_path, hub_endpoint="http://127.0.0.1:1")


async def test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    """The bundled one too; what is none gets a sentence."""
    bundled = await folder_of("bundled", models_dir=tmp_path)
    assert (bundled.path, bundled.name) == (BUNDLED_FOLDER, "gemma-3-askonce")
    assert (await folder_of(str(BUNDLED_FOLDER), models_dir=tmp_path)).name == "gemma-3-askonce"
    with pytest.raises(ModelNotUsable, match=r"no config\.json"):
        await folder_of(str(tmp_path), models_dir=tmp_path)
    for spec in ("default", "org/repo:file.gguf", "no-such-thing"):
        with pytest.raises(ModelNotUsable, match="does not serve"):
            await folder_of(spec, models_dir=tmp_path)
