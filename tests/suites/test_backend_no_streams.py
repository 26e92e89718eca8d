"""A backend that says that all is well, and something else than an answer."""

import pytest

from tests.suites.faulty import Peer, faulty
from tests.suites.test_backend_faults import ask, build


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ("<html><body>Welcome</body></html>", "text/html", "text/html instead of a stream: <html><body>Welcome"),
        ('{"error": {"message": "CUDA OOM"}}', "application/json", "application/json instead of a stream: CUDA OOM"),
        ("", "application/json", "application/json instead of a stream"),
    ],
)
async def test_what_is_no_stream_is_quoted(content: str, kind: str, words: str) -> None:
    """Whoever looks for the reason finds it."""

    async def says(peer: Peer) -> None:
        await peer.head(kind=kind)
        await peer.say(content)

    async with faulty(says) as server:
        _, fault, kept = await ask(build("vllm", server.url))
    assert fault is not None
    assert words in str(fault)
    assert not kept
