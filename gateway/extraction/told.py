"""A run and what came of it -> what clients are told, the same whether it was just made or is read from its rows."""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

import msgspec

from extractors.chunking import Chunk
from extractors.grounded import Grounded
from gateway.extraction import counting
from storage.extracted import SILENT_S, Call, Document, Ended, Record, Run, RunStatus

_ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


class Told(msgspec.Struct, frozen=True):
    """A run, its document without its text, and the chunks of that."""

    run: Run
    document: Document
    chunks: Sequence[Chunk]
    stored: bool = True

    def state(self, calls: Sequence[Call]) -> dict[str, Any]:
        """How it stands."""
        run, counts = self.run, counting.counts(calls, len(self.chunks))
        return {
            **head(run),
            "document": described(self.document),
            "counts": counts,
            "usage": counting.usage(calls),
            "stored": self.stored,
        }

    def chunk(self, number: int, calls: Sequence[Call]) -> dict[str, Any]:
        """What became of one chunk."""
        chunk = self.chunks[number]
        passes = [
            {
                "pass": call.pass_number,
                "attempt": call.attempt,
                "status": call.status,
                "chosen": call.chosen,
                "cache": call.cache,
                "key": call.key.hex() if call.key else None,
                "problems": call.problems,
                "error": call.error,
            }
            for call in calls
        ]
        return {"index": number, "start": chunk.start, "end": chunk.end, "status": _worst(calls), "calls": passes}

    def pending(self, chunk: Chunk) -> dict[str, Any]:
        """A chunk that nobody was asked about."""
        return {"index": chunk.index, "start": chunk.start, "end": chunk.end, "status": "pending", "calls": []}

    def part(self, calls: Sequence[Call]) -> dict[str, Any]:
        """What came of the chunk that all `calls` are about."""
        return {"id": self.run.id, **self.chunk(calls[0].chunk, calls), "records": self.records(calls)}

    def records(self, calls: Iterable[Call]) -> list[dict[str, Any]]:
        """What was found, with where each came from, in the order of the text."""
        found: list[dict[str, Any]] = []
        for some in counting.by_chunk(calls):
            shown = [
                (record, provenance)
                for call in some
                if call.chosen and call.records
                for provenance in [self.provenance(call)]
                for record in call.records
                if record.kept
            ]
            found += [_record(record, provenance) for record, provenance in sorted(shown, key=_by_place)]
        return found

    def provenance(self, call: Call) -> dict[str, Any]:
        """Who said what a call brought, when, asked how, and where that is kept."""
        run, chunk = self.run, self.chunks[call.chunk]
        key = call.key.hex() if call.key else None
        return {
            "key": key,
            "record": f"/v1/cache/{key}",
            "prompt_hash": call.prompt_hash.hex() if call.prompt_hash else None,
            "chunk": {"index": chunk.index, "start": chunk.start, "end": chunk.end, "sha256": chunk.sha256.hex()},
            "pass": call.pass_number,
            "attempt": call.attempt,
            "model": call.model,
            "model_version": call.model_version,
            "engine": call.engine,
            "engine_version": call.engine_version,
            "backend": call.backend,
            "parameters": call.parameters,
            "recipe": run.recipe,
            "edition": run.edition,
            "schema_hash": run.options.get("schema_hash"),
            "langextract": run.langextract,
            "chunker": run.chunker,
            "cache": call.cache,
            "tier": call.tier,
            "origin_id": call.origin_id,
            "answered_at": _moment(call.answered_at),
            "served_at": _moment(call.served_at),
        }


def head(run: Run) -> dict[str, Any]:
    """What is known of a run without its chunks."""
    return {
        "id": run.id,
        "object": "extraction",
        "created": int(run.created_at),
        "ended": int(run.ended_at) if run.ended_at else None,
        "status": _status(run),
        "model": run.model,
        "recipe": {"name": run.recipe, "edition": run.edition},
        "progress": {"chunks": run.chunks, "done": run.chunks_done},
        "error": run.error,
        "metadata": run.metadata,
    }


def listed(run: Run) -> dict[str, Any]:
    """A run among others. Who counts its calls knows more of one that did not end by itself."""
    return head(run) | {"document": {"id": run.document_id}, "counts": run.counts or None}


def described(document: Document) -> dict[str, Any]:
    """A document without its text."""
    return {"id": document.id, "sha256": document.sha256.hex(), "characters": document.characters}


def is_over(run: Run) -> bool:
    """Whether nothing more comes of it by itself."""
    return is_end(run.status)


def is_end(status: RunStatus | None) -> TypeGuard[Ended]:
    """Whether a run of this status is over."""
    return status in _ENDED


def grounded(calls: Iterable[Call]) -> list[Grounded]:
    """The records, as they are shown on a page or saved in a file."""
    found: list[Grounded] = []
    for some in counting.by_chunk(calls):
        records = [record for call in some if call.chosen for record in call.records if record.kept]
        found += [_grounded(record) for record in sorted(records, key=_place)]
    return found


def _status(run: Run) -> str:
    """As it is told. A run whose worker was not heard of for long goes on only when somebody resumes it."""
    silent = run.seen_at and not is_over(run) and time.time() - run.seen_at > SILENT_S
    return "interrupted" if silent else run.status


def _worst(calls: Sequence[Call]) -> str:
    """The status of a chunk: that of its passes, or the first that is not good."""
    said = [call.status for call in calls if call.chosen]
    return next((status for status in said if status not in ("ok", "empty")), said[0] if said else "failed")


def _record(record: Record, provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "class": record.name,
        "text": record.text,
        "attributes": record.attributes,
        "start": record.start,
        "end": record.end,
        "quote": record.quote,
        "alignment": record.alignment,
        "verbatim": record.quote == record.text,
        "fits": record.fits,
        "group": record.group,
        "provenance": provenance,
    }


def _grounded(record: Record) -> Grounded:
    alignment: Any = record.alignment
    return Grounded(
        name=record.name,
        text=record.text,
        attributes=record.attributes,
        start=record.start,
        end=record.end,
        alignment=alignment,
        group=record.group,
    )


def _by_place(shown: tuple[Record, Any]) -> tuple[bool, int]:
    return _place(shown[0])


def _place(record: Record) -> tuple[bool, int]:
    """Those of one chunk in their order; what stands nowhere comes last."""
    return record.start is None, record.start or 0


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
