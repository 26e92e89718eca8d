"""SQL on a real `askonce serve`: there by itself, once its test has been passed."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.serving import Served, short_folder

ENDLESS = "select position('b' || repeat('a', 20000) in repeat('a', 20000000))"
"""It takes a minute, and heeds neither a timeout nor a request to end."""


def test_sql_is_there_by_itself(served: Served) -> None:
    """With the embedded Postgres, as any user has it."""
    [[session, current]] = rows(served, "select session_user, current_user")
    assert session == current
    assert session.startswith("askonce_")
    assert "Tenants' SQL is off" not in served.text


@pytest.fixture
def hurried() -> Iterator[Served]:
    """One whose statements may take a second."""
    server = Served(short_folder(), env={"ASKONCE_SQL_TIMEOUT_S": "1"})
    try:
        yield server.start()
    finally:
        server.stop()


def test_a_statement_that_cannot_be_ended_hurts_nobody(hurried: Served) -> None:
    """It is refused; answers are given and kept meanwhile, and statements run again a moment later."""
    rows(hurried, "select 1")
    refused: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: refused.append(asked(hurried, ENDLESS)))
    asking.start()
    told = 0
    while "was killed" not in hurried.text:
        told += 1
        chat = {"model": "gemma-3-askonce", "messages": [{"role": "user", "content": f"Say {told}."}], "max_tokens": 2}
        assert httpx.post(f"{hurried.url}/v1/chat/completions", json=chat, timeout=30).status_code == 200
    asking.join()
    assert refused[0].status_code in (503, 504), refused[0].text
    deadline = time.monotonic() + 30
    while rows(hurried, "select count(*) from completions") != [[told]]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rows(served: Served, statement: str) -> Any:
    """What a statement gives, once statements can be run."""
    deadline = time.monotonic() + 30
    while True:
        said = asked(served, statement)
        if said.status_code == 200:
            return said.json()["rows"]
        assert said.json()["error"]["code"] == "sql_unavailable", said.text
        assert time.monotonic() < deadline, said.text
        time.sleep(0.1)


def asked(served: Served, statement: str) -> httpx.Response:
    """The reply to a statement."""
    return httpx.post(f"{served.url}/v1/sql", json={"sql": statement}, timeout=60)
