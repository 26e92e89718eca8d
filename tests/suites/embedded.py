"""Vectors of what is kept, as the background makes them: of the scripted backend's model."""

from typing import Any

import asyncpg

from gateway.canonical import Request
from storage.vector import unpacked
from tests.acceptance.in_thread import MODEL, Gateway

_TEXTS = {
    "chunk": "select id, tenant as scope, text from askonce.passages",
    "prompt": "select key as id, scope, prompt_text as text from askonce.completions where kind = 'chat'",
}
_COLUMNS = {"chunk": "passage", "prompt": "completion"}


def embed_all(gateway: Gateway, database_url: str) -> None:
    """Embed every passage and every question that is kept, by the current model, which is made if there is none."""
    gateway.flushed()
    gateway.run(_embed_all(gateway, database_url))


async def _embed_all(gateway: Gateway, database_url: str) -> None:
    connection: Any = await asyncpg.connect(database_url)
    backend = gateway.backend
    identity = await backend.identity()
    size = len(unpacked((await _vectors(gateway, ["a"]))[0]))
    await connection.execute("update askonce.embedding_models set is_current = false")
    model = await connection.fetchval(
        "insert into askonce.embedding_models (model, model_version, dimensions, is_current) values ($1, $2, $3, true)"
        " on conflict (model, model_version, dimensions) do update set is_current = true returning id",
        MODEL,
        identity.model_version,
        size,
    )
    try:
        for kind, texts in _TEXTS.items():
            for row in await connection.fetch(texts):
                [vector] = await _vectors(gateway, [row["text"]])
                await connection.execute(
                    f"insert into askonce.embeddings (model_id, kind, scope, {_COLUMNS[kind]}, whole, embedding)"
                    " values ($1, $2, $3, $4, true, $5::text::halfvec) on conflict do nothing",
                    model,
                    kind,
                    row["scope"],
                    row["id"],
                    str(unpacked(vector)),
                )
    finally:
        await connection.close()


async def _vectors(gateway: Gateway, texts: list[str]) -> list[bytes]:
    asked = [Request(kind="embedding", model=MODEL, prompt={"input": text}, params={}, extra={}) for text in texts]
    return [one.values for one in await gateway.backend.embed(asked)]
