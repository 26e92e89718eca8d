"""A server on loopback serves this machine's programs, and no web page of another site."""

from typing import Any

import pytest

from gateway.routes.local_only import LocalOnly


async def status(**headers: str) -> int:
    """What a request with these headers is answered."""
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await LocalOnly(application)({"type": "http", "headers": raw}, None, send)  # type: ignore[arg-type]
    return sent[0]["status"]


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST"])
async def test_programs_of_this_machine_are_served(host: str) -> None:
    """However they name it, with pages of their own or without."""
    assert await status(host=host) == 200
    assert await status(host=host, origin="http://localhost:3000") == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "", "[::1"])
async def test_a_name_that_only_resolves_here_is_refused(host: str) -> None:
    """DNS rebinding shows in the Host header."""
    assert await status(host=host) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example"])
async def test_a_page_of_another_site_is_refused(origin: str) -> None:
    """The browser says whose page it is."""
    assert await status(host="127.0.0.1:8080", origin=origin) == 403
