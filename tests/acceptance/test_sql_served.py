"""SQL on a real `askonce serve`: there by itself, once its test has been passed."""

import time

import httpx

from tests.acceptance.serving import Served


def test_sql_is_there_by_itself(served: Served) -> None:
    """With the embedded Postgres, as any user has it."""
    deadline = time.monotonic() + 30
    while True:
        said = httpx.post(f"{served.url}/v1/sql", json={"sql": "select session_user, current_user"}, timeout=30)
        if said.status_code == 200 or time.monotonic() > deadline:
            break
        assert said.json()["error"]["code"] == "sql_unavailable", said.text
        time.sleep(0.1)
    [[session, current]] = said.json()["rows"]
    assert session == current
    assert session.startswith("askonce_")
    assert "Tenants' SQL is off" not in served.text
