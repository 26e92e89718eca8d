"""Many who ask one Ollama at the same time: each answer has it say again who it is, and nobody is turned away."""

import asyncio
from collections import Counter
from collections.abc import Callable

import httpx

from tests.acceptance.in_thread import Gateway
from tests.extraction.gold import notes
from tests.extraction.oracle import Oracle

AT_ONCE = 32
ASKED = 200


async def test_nobody_is_turned_away_while_ollama_says_who_it_is(gateway: Callable[..., Gateway]) -> None:
    """A doubt that is newer than a question's is no reason not to ask: it waits a moment."""
    (note,) = notes(1)
    with Oracle([note], delay_s=0.02).serving() as oracle:
        made = await asyncio.to_thread(gateway, backends=[oracle.backend("ollama", alias="ollama")])
        seen = Counter[int]()
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=AT_ONCE)) as client:

            async def one(seed: int) -> None:
                said = {"role": "user", "content": f"{seed}\n\nQ: {note.text}\nA: "}
                body = {"model": "ollama", "seed": seed, "messages": [said]}
                reply = await client.post(f"{made.url}/v1/chat/completions", json=body)
                seen[reply.status_code] += 1

            await asyncio.gather(*map(one, range(ASKED)))
        assert seen == {200: ASKED}
