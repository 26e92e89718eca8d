"""The prompts nearest to a vector: those of one context, exactly; of a large one, by the model's index."""

import asyncpg
import numpy as np
import pytest

from storage.guard import Guard
from storage.postgres import connect
from storage.vector import packed
from storage.vectors.models import Model, Models
from storage.vectors.near import Neighbours
from tests.bench.vector_filling import DIMENSIONS, Part, Space, fill

ROWS = 2000
SCOPE = "default"


@pytest.fixture
async def pool(database_url: str) -> asyncpg.Pool:
    """A database with prompts of a hundred tenants."""
    return await connect(database_url, 2)


async def filled(pool: asyncpg.Pool) -> tuple[Model, bytes]:
    """The model, and the context of a tenant that has one prompt in a hundred."""
    model = await Models(pool).use("m", "1", DIMENSIONS)
    async with pool.acquire() as connection:
        await fill(connection, model.id, Part(0, ROWS), Space())
        await connection.execute("analyze askonce.embeddings")
        context = await connection.fetchval("select sha256(convert_to($1, 'utf8'))", SCOPE)
    return model, context


@pytest.mark.parametrize("few", [10_000, 5])
async def test_all_that_is_near_is_found(pool: asyncpg.Pool, few: int) -> None:
    """Of one tenant in a hundred: exactly where there are few, and as well as its index can where there are many."""
    model, context = await filled(pool)
    space = Space()
    mine = space.vectors(Part(0, ROWS))[::100]
    near = Neighbours(pool, Guard("postgres", lambda *_: None), 30.0, few)
    assert await near.model() == Model(model.id, "m", "1", DIMENSIONS, looked_through=False)
    found = 0
    for question in space.questions(20):
        expected = sorted(mine @ question, reverse=True)[:5]
        neighbours = await near.nearest(model, (context, SCOPE), packed(question.tolist()), b"", 5)
        similarities = [one.similarity for one in neighbours]
        assert similarities == sorted(similarities, reverse=True)
        found += sum(np.isclose(similarities, expected[: len(similarities)], atol=2e-3))
    assert found >= (100 if few > ROWS else 95)
    await pool.close()


async def test_nothing_of_others_is_near(pool: asyncpg.Pool) -> None:
    """Neither of another context or scope, nor of another model, nor the question itself."""
    model, context = await filled(pool)
    near = Neighbours(pool, Guard("postgres", lambda *_: None), 30.0)
    vector = Space().vectors(Part(0, ROWS))[0]
    asked = packed(vector.tolist())
    [first, *_] = await near.nearest(model, (context, SCOPE), asked, b"", 10)
    assert first.similarity == pytest.approx(1, abs=2e-3)
    assert first.key not in {one.key for one in await near.nearest(model, (context, SCOPE), asked, first.key, 10)}
    assert await near.nearest(model, (b"\0" * 32, SCOPE), asked, b"", 10) == []
    assert await near.nearest(model, (context, "tenant-1"), asked, b"", 10) == []
    other = await Models(pool).use("m", "2", DIMENSIONS)
    assert await near.nearest(other, (context, SCOPE), asked, b"", 10) == []
    await pool.close()
