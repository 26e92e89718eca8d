"""Downloads from a real HTTP server that speaks the hub's protocol, and fails in the ways that hubs do."""

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.models.hub import Hub, HubError, HubFile, HubUnreachable

CONTENT = bytes(range(256)) * 20_000
COMMIT = "c0ffee" * 6 + "abcd"
FILE = HubFile("org/repo", "folder/model.gguf")


class FakeHub(ThreadingHTTPServer):
    """HEAD describes a file and redirects, GET redirects to the storage, which may cut the connection."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.etag = hashlib.sha256(CONTENT).hexdigest()
        self.status, self.error_code, self.commit = 302, "", COMMIT
        self.cut_after: list[int] = []
        self.ignores_ranges = False
        self.ranges: list[str | None] = []
        self.tokens: list[str | None] = []
        self.heads = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.server.heads += 1
        self.server.tokens.append(self.headers["Authorization"])
        self.describe()

    def do_GET(self) -> None:
        if not self.path.startswith("/storage"):
            assert f"/org/repo/resolve/{COMMIT}/folder/model.gguf" == self.path
            self.describe()
            return
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        start = int(wanted[6:-1]) if wanted and not self.server.ignores_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        length = self.server.cut_after.pop(0) if self.server.cut_after else len(CONTENT)
        self.wfile.write(CONTENT[start : start + length])

    def describe(self) -> None:
        self.send_response(self.server.status)
        self.send_header("X-Error-Code", self.server.error_code)
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("X-Linked-Etag", f'"{self.server.etag}"')
        self.send_header("X-Linked-Size", str(len(CONTENT)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Location", f"{self.server.url}/storage/object")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def nothing(done: int, total: int) -> None:
    """Progress that nobody watches."""


def files_in(folder: Path) -> list[Path]:
    """All files, at any depth."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_file_is_downloaded_once(fake: FakeHub, tmp_path: Path) -> None:
    """It lies where it is looked for, progress ends with all of it, and the hub is not asked a second time."""
    seen: list[tuple[int, int]] = []
    hub = Hub(tmp_path, endpoint=fake.url, token="secret")
    path = await hub.fetch(FILE, lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "org--repo/folder/model.gguf" == hub.kept(FILE)
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert await hub.fetch(FILE, nothing) == path
    assert (fake.heads, fake.tokens) == (1, ["Bearer secret"])


async def test_a_broken_connection_is_resumed(fake: FakeHub, tmp_path: Path) -> None:
    """Each new request asks for the rest only."""
    fake.cut_after = [1_500_000, 2_000_000]
    path = await Hub(tmp_path, endpoint=fake.url, pause_s=0.01).fetch(FILE, nothing)
    assert path.read_bytes() == CONTENT
    assert fake.ranges == [None, "bytes=1500000-", "bytes=3500000-"]


async def test_a_later_start_goes_on(fake: FakeHub, tmp_path: Path) -> None:
    """What an earlier process brought is not downloaded again."""
    fake.cut_after = [1_500_000] + [0] * 5
    with pytest.raises(HubError, match=r"broke off .* will go on from there next time"):
        await Hub(tmp_path, endpoint=fake.url, pause_s=0.001).fetch(FILE, nothing)
    fake.cut_after, fake.ranges = [], []
    path = await Hub(tmp_path, endpoint=fake.url).fetch(FILE, nothing)
    assert path.read_bytes() == CONTENT
    assert fake.ranges == ["bytes=1500000-"]


async def test_a_storage_without_ranges_starts_again(fake: FakeHub, tmp_path: Path) -> None:
    """A server that sends everything anyway does not double the start of the file."""
    fake.cut_after, fake.ignores_ranges = [1_500_000], True
    path = await Hub(tmp_path, endpoint=fake.url, pause_s=0.01).fetch(FILE, nothing)
    assert path.read_bytes() == CONTENT


async def test_a_damaged_file_is_deleted(fake: FakeHub, tmp_path: Path) -> None:
    """A wrong sha256 leaves nothing behind that could be taken for a model."""
    fake.etag = "0" * 64
    with pytest.raises(HubError, match="arrived damaged"):
        await Hub(tmp_path, endpoint=fake.url).fetch(FILE, nothing)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "EntryNotFound", "has no file folder/model.gguf"),
        (401, "RepoNotFound", "has no repository org/repo, or it is private"),
        (404, "RepoNotFound", "has no repository org/repo, or it is private"),
        (401, "GatedRepo", "is gated: accept its licence"),
        (403, "", "is gated: accept its licence"),
    ],
)
async def test_refusals_say_what_to_do(fake: FakeHub, tmp_path: Path, status: int, code: str, message: str) -> None:
    """Nothing is retried and nothing else is served: the user asked for something that is not there."""
    fake.status, fake.error_code = status, code
    with pytest.raises(HubError, match=message) as refused:
        await Hub(tmp_path, endpoint=fake.url).fetch(FILE, nothing)
    assert not isinstance(refused.value, HubUnreachable)


async def test_a_refusal_names_the_setting_for_a_token(fake: FakeHub, tmp_path: Path) -> None:
    """By the name that askonce reads."""
    for fake.status, fake.error_code in ((401, "RepoNotFound"), (403, "GatedRepo")):
        with pytest.raises(HubError, match=r"\bASKONCE_HF_TOKEN\b"):
            await Hub(tmp_path, endpoint=fake.url).fetch(FILE, nothing)


@pytest.mark.parametrize("code", ["", "GatedRepo"])
async def test_one_sign_of_a_hub_is_enough(fake: FakeHub, tmp_path: Path, code: str) -> None:
    """Refusals for a repository have no commit, those for a file need no code."""
    fake.status, fake.error_code, fake.commit = 403, code, "" if code else COMMIT
    with pytest.raises(HubError, match="is gated") as refused:
        await Hub(tmp_path, endpoint=fake.url).fetch(FILE, nothing)
    assert not isinstance(refused.value, HubUnreachable)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_of_a_proxy_is_no_answer(fake: FakeHub, tmp_path: Path, status: int) -> None:
    """It knows nothing about the file, so the hub was not reached."""
    fake.status, fake.commit = status, ""
    with pytest.raises(HubUnreachable, match=f"answers with status {status}, and not as a hub does"):
        await Hub(tmp_path, endpoint=fake.url).fetch(FILE, nothing)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_hub_out_of_order_is_unreachable(fake: FakeHub, tmp_path: Path, status: int) -> None:
    """Its errors say nothing about the file."""
    fake.status = status
    with pytest.raises(HubUnreachable, match=f"status {status}"):
        await Hub(tmp_path, endpoint=fake.url).fetch(FILE, nothing)


async def test_no_hub_is_unreachable(tmp_path: Path) -> None:
    """A closed port, and a name that does not resolve."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for endpoint in (f"http://127.0.0.1:{port}", "http://hub.invalid"):
        with pytest.raises(HubUnreachable, match="cannot be reached"):
            await Hub(tmp_path, endpoint=endpoint).fetch(FILE, nothing)


async def test_a_silent_hub_does_not_hang_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is accepted and never answered ends within the deadline."""
    monkeypatch.setattr("gateway.models.hub._DESCRIBE_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        hub = Hub(tmp_path, endpoint=f"http://127.0.0.1:{server.getsockname()[1]}")
        async with asyncio.timeout(5):
            with pytest.raises(HubUnreachable):
                await hub.fetch(FILE, nothing)


async def test_no_room_is_said_before(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded that cannot be kept."""
    monkeypatch.setattr("gateway.models.hub._SPARE_BYTES", 2**60)
    with pytest.raises(HubError, match="has no room"):
        await Hub(tmp_path, endpoint=fake.url).fetch(FILE, nothing)
    assert fake.ranges == []
