"""Documents, runs and calls, made by hand, for the suites of what was extracted."""

import hashlib
from typing import Any

from storage.breaker import Breaker
from storage.extracted import Call, ChunkSpan, Document, Record, Run
from storage.extractions import Extractions
from storage.guard import Guard

TENANT = "default"
WORKER = "worker"
"""Who goes on with every run."""
NOON = 1_795_305_600.123457


def digest(text: str) -> bytes:
    """32 bytes that follow from `text`."""
    return hashlib.sha256(text.encode()).digest()


def guard() -> Guard:
    """One that tries again at once."""
    return Guard("postgres", lambda *_: None, Breaker(0, 0))


def document(text: str = "Took aspirin.", tenant: str = TENANT, **fields: Any) -> Document:
    """A document whose id follows from its tenant and text."""
    name = f"doc_{digest(tenant + text).hex()[:12]}"
    values: dict[str, Any] = {"id": name, "sha256": digest(text), "characters": len(text), "created_at": NOON}
    return Document(tenant=tenant, text=text, **(values | fields))


def run(document: Document, name: str = "ext_1", **fields: Any) -> Run:
    """A run over a document."""
    values: dict[str, Any] = {
        "scope": "s",
        "recipe": "clinic-notes",
        "edition": "1-abc",
        "model": "m",
        "options": {"chunk_chars": 2000, "saved": True},
        "langextract": "1.7.1",
        "chunker": "structure-1/2000",
        "passes": 1,
        "created_at": NOON,
        "worker": WORKER,
    }
    return Run(id=name, tenant=document.tenant, document_id=document.id, **(values | fields))


def spans(count: int) -> list[ChunkSpan]:
    """So many chunks of ten characters."""
    return [ChunkSpan(number, 10 * number, 10 * number + 10, digest(str(number))) for number in range(count)]


def call(chunk: int = 0, *records: Record, **fields: Any) -> Call:
    """A call about a chunk that went well."""
    values: dict[str, Any] = {
        "pass_number": 0,
        "attempt": 0,
        "status": "ok",
        "chosen": True,
        "model": "m",
        "key": digest(f"key {chunk}"),
        "prompt_hash": digest(f"prompt {chunk}"),
        "answered_at": NOON - 100,
        "served_at": NOON,
        "duration_ms": 1.5,
    }
    return Call(chunk=chunk, records=records, **(values | fields))


def found(text: str, document: str | None = None, name: str = "drug", **fields: Any) -> Record:
    """A record that says `text`, which stands in the document if there is one."""
    if document is None:
        return Record(name=name, text=text, **fields)
    start = document.index(text)
    place: dict[str, Any] = {"start": start, "end": start + len(text), "quote": text, "alignment": "match_exact"}
    return Record(name=name, text=text, **(place | fields))


async def begun(store: Extractions, text: str = "Took aspirin.", name: str = "ext_1", **fields: Any) -> Run:
    """A run that is in progress over a document of this text, in two chunks."""
    tenant = fields.pop("tenant", TENANT)
    kept = await store.put_document(document(text, tenant))
    made = run(kept, name, **fields)
    await store.begin(made, {"name": made.recipe}, spans(2))
    return made
