"""What a search found -> what a client is told of it. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.proof.record import iso
from gateway.searching.places import page
from gateway.searching.searcher import Hit, Results
from storage.search import Found

_BEGIN: Final = "\x01"
_END: Final = "\x02"


def results(found: Results) -> dict[str, Any]:
    """All of it."""
    return {
        "object": "list",
        "searched": list(found.searched),
        "skipped": dict(found.skipped),
        "data": [result(hit) for hit in found.hits],
    }


def result(hit: Hit) -> dict[str, Any]:
    """One thing that was found. Its highlights are places in its `text`."""
    kind, tell = _TELL[hit.found.place.kind]
    return {
        "object": "search.result",
        "kind": kind,
        "score": round(hit.fused.score, 6),
        "scores": {name: {"rank": one.rank, "score": round(one.score, 6)} for name, one in hit.fused.standings.items()},
        **tell(hit.found.fields),
        "highlights": highlights(hit.found),
    }


def highlights(found: Found) -> list[list[int]]:
    """Where in its text the words stand that were looked for: beginnings and ends, in code points."""
    first, *marked = found.marked.split(_BEGIN)
    places: list[list[int]] = []
    at = len(first)
    for piece in marked:
        word, _, rest = piece.partition(_END)
        places.append([at, at + len(word)])
        at += len(word) + len(rest)
    return places if at == len(found.fields["text"]) else []


def _passage(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "document_id": row["document_id"],
        "title": row["title"],
        "chunk": row["ordinal"],
        "key": row["key"].hex(),
        "start": row["start"],
        "end": row["end"],
        "page": page(row["pages"], row["start"]),
        "text": row["text"],
    }


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "extraction_id": row["run_id"],
        "recipe": row["recipe"],
        "document_id": row["document_id"],
        "title": row["title"],
        "class": row["class"],
        "text": row["text"],
        "attributes": msgspec.json.decode(row["attributes"]) if row["attributes"] is not None else None,
        "start": row["start"],
        "end": row["end"],
        "page": page(row["pages"], row["start"]) if row["start"] is not None else None,
        "quote": row["quote"],
    }


def _completion(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": row["key"].hex(),
        "model": row["model"],
        "created_at": iso(row["created_at"].timestamp()),
        "prompt": row["prompt"],
        "text": row["text"],
    }


_TELL: Final[Mapping[str, Any]] = {
    "chunk": ("document", _passage),
    "record": ("record", _record),
    "prompt": ("completion", _completion),
}
