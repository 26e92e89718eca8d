"""`make vector-figures`: what searching costs as the record grows. Writes docs/figures/vectors.json.

A real `askonce serve` with its own Postgres, filled with as many prompts, passages and vectors as are wanted, of which
the tenant that asks has one in a hundred. Vectors are as many numbers as all-MiniLM-L6-v2 gives; a script stands for
the model, so that what is measured is askonce and Postgres.
"""

import argparse
import asyncio
import hashlib
import random
import re
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg
import httpx

from gateway.bench import direct, figures
from gateway.bench.figures import Figure, Maker
from storage import sql
from storage.guard import Guard
from storage.search import MANY_VECTORS, Candidate, Model, Search, Wanted
from storage.vector import direction, packed
from storage.vectors.models import index_name
from storage.vectors.near import Neighbours
from tests.acceptance.serving import Served
from tests.bench.vector_filling import DIMENSIONS, VOCABULARY, Part, Space, fill
from tests.engines.child import ROOT

FIGURES: Final = ROOT / "docs" / "figures" / "vectors.json"
SEARCH_P95_MS: Final = 60.0
LOOK_UP_P95_MS: Final = 20.0
RECALL: Final = 0.95
QUESTIONS: Final = 200
OF_MANY: Final = 40
"""For a tenant with so many rows that comparing them all, to know the truth, takes seconds."""
SQL_TIMES: Final = 5
_SETTINGS: Final = """\
model = "none"
embedding_model = "script"
sql_timeout_s = 60

[[backends]]
kind = "scripted"
model = "script"
script = "{script}"
"""
_DEADLINE_S: Final = 60.0


def main() -> None:
    """Measure at each size, and write what came of it."""
    parser = argparse.ArgumentParser(prog="make vector-figures", description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000, help="how many rows of each kind, at last")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--folder", type=Path, help="what is filled here is kept, and only measured the next time")
    options = parser.parse_args()
    made = figures.maker(f"make vector-figures ARGS='--most {options.most}'")
    found: list[Figure] = []
    with scratch(options.folder) as folder:
        for figure in measured(folder, made, options.most):
            found.append(figure)
            print(f"{figure.name}: {figure.value:g} {figure.unit}  ({figure.note})", flush=True)
    if options.folder and options.figures.exists():  # smaller sizes are not measured again
        names = {figure.name for figure in found}
        found = [*(figure for figure in figures.read(options.figures) if figure.name not in names), *found]
    figures.write(found, options.figures)
    print(figures.verdict(found))


@contextmanager
def scratch(folder: Path | None) -> Generator[Path]:
    """A folder that is kept, or one that is not."""
    if folder is not None:
        folder.mkdir(exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ao-", dir="/tmp") as made:
        yield Path(made)


def measured(folder: Path, made: Maker, most: int) -> Iterator[Figure]:
    """All figures of a record that grows to `most` rows of each kind."""
    script = folder / "script.toml"
    script.write_text(f"dimensions = {DIMENSIONS}\n[[line]]\n")
    config = folder / "askonce.toml"
    config.write_text(_SETTINGS.format(script=script))
    served = Served(folder / "data", "--config", str(config)).start()
    try:
        until(lambda: httpx.get(f"{served.url}/v1/vectors", timeout=_DEADLINE_S).json()["model"] == "script")
        dsn = direct.address(served.data_dir)
        kept = asyncio.run(filled(dsn))
        for size in (most // 100, most // 10, most):
            if size < kept:
                continue
            if size > kept:
                asyncio.run(grown(dsn, Part(kept, size)))
                kept = size
            yield from at_size(served, dsn, made, size, last=size == most)
    finally:
        served.stop()


def until(reached: Callable[[], bool]) -> None:
    """Wait for it."""
    ends = time.monotonic() + _DEADLINE_S
    while not reached():
        assert time.monotonic() < ends
        time.sleep(0.1)


async def filled(dsn: str) -> int:
    """How many rows of each kind an earlier run has left."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("select count(*) from askonce.completions where kind = 'chat'")
    finally:
        await connection.close()


async def grown(dsn: str, part: Part) -> None:
    """Add rows, and have the index made anew: that takes a fraction of adding them to it one by one."""
    connection = await asyncpg.connect(dsn)
    try:
        model_id = await connection.fetchval(
            "update askonce.embedding_models set prompts_after = null, chunks_after = null, records_after = null"
            " where is_current returning id"
        )
        name = index_name(model_id)
        definition = await connection.fetchval("select indexdef from pg_indexes where indexname = $1", name)
        await connection.execute(f"drop index askonce.{name}")
        started = time.perf_counter()
        await fill(connection, model_id, part, Space())
        print(f"filled to {part.end} in {time.perf_counter() - started:.0f} s", flush=True)
        started = time.perf_counter()
        await connection.execute("set maintenance_work_mem = '6GB'; set max_parallel_maintenance_workers = 1")
        await connection.execute(definition)
        print(f"index on {2 * part.end} vectors in {time.perf_counter() - started:.0f} s", flush=True)
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


def at_size(served: Served, dsn: str, made: Maker, size: int, *, last: bool) -> Iterator[Figure]:
    """The figures at one size; bars are for the last."""
    note = f"{QUESTIONS} searches of three words each over HTTP, one at a time, by a tenant with {size // 100} passages"
    for mode in ("hybrid", "text", "vector"):
        took = searched(served, mode)
        bar = SEARCH_P95_MS if last and mode == "hybrid" else None
        yield made.figure(f"search, {mode}, of {size}: p50", at(took, 0.5), "ms", note=note)
        yield made.figure(f"search, {mode}, of {size}: p95", at(took, 0.95), "ms", note=note, bar=bar)
    for tenant, share, count in (("default", 100, QUESTIONS), ("big", 2, OF_MANY)):
        took, recall = asyncio.run(nearest(dsn, tenant, count))
        note = f"the nearest 10 passages to {count} vectors, for a tenant with {size // share} of {2 * size} vectors"
        barred = last and tenant == "default"
        name = f"nearest vectors of {size // share} among {2 * size}"
        yield made.figure(f"{name}: p95", at(took, 0.95), "ms", note=note)
        yield made.figure(f"{name}: recall@10", recall, "", note=note, bar=RECALL if barred else None, at_least=True)
        took, recall = asyncio.run(alike(dsn, tenant, count))
        note = f"the 10 prompts nearest to {count} vectors, all {size // share} of a tenant in one context"
        name = f"semantic look-up of {size // share} among {2 * size}"
        yield made.figure(f"{name}: p95", at(took, 0.95), "ms", note=note, bar=LOOK_UP_P95_MS if barred else None)
        yield made.figure(f"{name}: recall@10", recall, "", note=note, bar=RECALL if barred else None, at_least=True)
    for statement in examples():
        name = " ".join(statement.split())[:60]
        note = f"{SQL_TIMES} times over HTTP; a tenant with {size // 100} answers"
        yield made.figure(f"SQL of {size}: {name}", at(asked(served, statement), 0.5), "ms", note=note)


def searched(served: Served, mode: str) -> list[float]:
    """How long searches took, in milliseconds."""
    draw = random.Random(5)
    took: list[float] = []
    with httpx.Client(base_url=served.url, timeout=_DEADLINE_S) as client:
        for _ in range(QUESTIONS):
            words = " ".join(f"w{int(VOCABULARY ** draw.random())}" for _ in range(3))
            client.post("/v1/embeddings", json={"model": "script", "input": words}).raise_for_status()
            started = time.perf_counter()
            client.post("/v1/search", json={"query": words, "mode": mode}).raise_for_status()
            took.append(1000 * (time.perf_counter() - started))
    return took


async def nearest(dsn: str, tenant: str, count: int) -> tuple[list[float], float]:
    """How long the search for vectors took, in milliseconds, and which share of the nearest it found."""
    pool = await asyncpg.create_pool(dsn, min_size=2, max_size=2)
    try:
        search = Search(pool, Guard("postgres", lambda *_: None), _DEADLINE_S)
        model = await search.model()
        assert model is not None
        wanted = Wanted(text="", tenant=tenant, scope=tenant, limit=10)
        took: list[float] = []
        shares: list[float] = []
        for vector in Space().questions(count):
            values = packed(vector.tolist())
            started = time.perf_counter()
            found = await by_vector(search, wanted, model, values)
            took.append(1000 * (time.perf_counter() - started))
            truth = await search.by_vector(wanted, "chunk", model, values, exact=True)
            shares.append(len({one.place for one in found} & {one.place for one in truth}) / len(truth))
        return took, sum(shares) / len(shares)
    finally:
        await pool.close()


async def alike(dsn: str, tenant: str, count: int) -> tuple[list[float], float]:
    """The same for prompts that differ in nothing but their words."""
    pool = await asyncpg.create_pool(dsn, min_size=2, max_size=2)
    try:
        near = Neighbours(pool, Guard("postgres", lambda *_: None), _DEADLINE_S)
        model = await near.model()
        assert model is not None
        context = hashlib.sha256(tenant.encode()).digest()
        took: list[float] = []
        shares: list[float] = []
        for vector in Space().questions(count):
            values = packed(vector.tolist())
            started = time.perf_counter()
            found = await near.nearest(model, (context, tenant), values, b"", 10)
            took.append(1000 * (time.perf_counter() - started))
            query = sql.query("embedding_near").format(model=model.id)
            truth = await pool.fetch(query, context, tenant, direction(values), b"", 10)
            shares.append(len({one.key for one in found} & {row["key"] for row in truth}) / len(truth))
        return took, sum(shares) / len(shares)
    finally:
        await pool.close()


async def by_vector(search: Search, wanted: Wanted, model: Model, values: bytes) -> Sequence[Candidate]:
    """As `gateway.searching` does it."""
    count = await search.vectors(model, wanted, "chunk")
    return await search.by_vector(wanted, "chunk", model, values, exact=count <= MANY_VECTORS)


def examples() -> list[str]:
    """The statements of the documentation."""
    pages = [page.read_text("utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))]
    return [statement for page in pages for statement in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)]


def asked(served: Served, statement: str) -> list[float]:
    """How long a statement took, in milliseconds."""
    took: list[float] = []
    with httpx.Client(base_url=served.url, timeout=_DEADLINE_S) as client:
        for _ in range(SQL_TIMES):
            started = time.perf_counter()
            client.post("/v1/sql", json={"sql": statement}).raise_for_status()
            took.append(1000 * (time.perf_counter() - started))
    return took


def at(took: Sequence[float], share: float) -> float:
    """What so many of them took at most."""
    return sorted(took)[min(len(took) - 1, int(share * len(took)))]


if __name__ == "__main__":
    main()
