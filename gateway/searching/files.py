"""Documents -> files, and files of vector stores, as OpenAI's API tells of them. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from storage.collections import File, Member, Page


def file(found: File) -> dict[str, Any]:
    """A document, as a file. Its bytes are those of its text."""
    return {
        "id": found.id,
        "object": "file",
        "bytes": found.bytes,
        "created_at": int(found.created_at),
        "filename": found.title or found.id,
        "purpose": "assistants",
        "status": "processed",
    }


def member(store: str, found: Member) -> dict[str, Any]:
    """A document in a collection, as a file of a vector store."""
    return {
        "id": found.id,
        "object": "vector_store.file",
        "usage_bytes": found.bytes,
        "created_at": int(found.added_at),
        "vector_store_id": store,
        "status": "in_progress" if found.is_waiting else "completed",
        "last_error": None,
        "attributes": attributes(found.attributes),
        "chunking_strategy": {"type": "other"},
    }


def attributes(said: str) -> dict[str, Any]:
    """What is said of a document, of JSON."""
    return msgspec.json.decode(said)


def more(page: Page) -> Page:
    """The same with one more, to see whether there are others."""
    return msgspec.structs.replace(page, limit=page.limit + 1)


def page_of(found: Sequence[dict[str, Any]], page: Page) -> dict[str, Any]:
    """A part of a list, of which one more was looked for."""
    data = list(found[: page.limit])
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > page.limit,
    }
