"""What replies cost, what keeping them has saved, and where that can be read."""

from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx

from gateway.config import BackendConfig
from tests.acceptance.in_thread import Gateway

Make = Callable[..., Gateway]


def ask(gateway: Gateway, model: str, text: str = "one two three", **more: object) -> dict[str, object]:
    """The usage of a reply."""
    messages = [{"role": "user", "content": text}]
    body = {"model": model, "messages": messages, "temperature": 0, **more}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=30).json()["usage"]


async def test_prices_make_costs_and_hits_save_them(gateway: Make, database_url: str, tmp_path: Path) -> None:
    """In the reply, in the record, and by the hour."""
    script = tmp_path / "priced.toml"
    script.write_text('[[line]]\nreply = "a b c d"\n')
    priced = BackendConfig(
        kind="scripted",
        model="priced",
        script=script,
        usd_per_million_prompt_tokens=2.0,
        usd_per_million_completion_tokens=10.0,
    )
    served = gateway(backends=[priced])
    first = ask(served, "priced")
    assert first["askonce"] == {"provenance": "generated", "cached": False, "cost_usd": 46e-6}  # 3 x 2 + 4 x 10
    assert ask(served, "priced")["askonce"] == {"provenance": "exact", "cached": True, "cost_usd": 0}
    assert ask(served, "parrot")["askonce"] == {"provenance": "generated", "cached": False}
    served.flushed()
    assert served.run(served.parts.pipeline._ledger.flush())
    assert served.run(served.parts.pipeline._ledger.flush())  # nothing is counted twice
    connection = await asyncpg.connect(database_url)
    try:
        row = await connection.fetchrow("select * from api.usage where model = 'priced'")
        kept = await connection.fetchval("select cost_micro_usd from api.completions where model = 'priced'")
    finally:
        await connection.close()
    assert kept == 46
    assert (row["tenant"], row["requests"], row["hits"], row["coalesced"]) == ("default", 2, 1, 0)
    assert (row["prompt_tokens"], row["completion_tokens"], row["saved_tokens"]) == (3, 4, 7)
    assert (row["cost_micro_usd"], row["saved_micro_usd"]) == (46, 46)
