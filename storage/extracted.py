"""Documents, runs over them, and what was found in each part, as they are kept."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

RunStatus = Literal["in_progress", "completed", "incomplete", "failed", "cancelling", "cancelled"]
Ended = Literal["completed", "incomplete", "failed", "cancelled"]
CallStatus = Literal["ok", "empty", "refused", "truncated", "invalid", "failed"]

SILENT_S: Final = 30.0
"""A run whose worker was not heard of for so long is anybody's."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A text, once for each tenant."""

    id: str
    tenant: str
    sha256: bytes
    text: str
    characters: int
    created_at: float
    meta: dict[str, Any] = {}
    media_type: str = "text/plain"
    """Of the file that the text was read from."""
    title: str = ""
    """What that calls itself."""
    pages: tuple[int, ...] = ()
    """Of a PDF: where each page begins, in code points."""
    passages: str = ""
    """How it was divided into passages that are searched; empty while it has not been."""


class Outcome(msgspec.Struct, frozen=True):
    """How a run ended."""

    status: Ended
    counts: Mapping[str, Any]
    error: Mapping[str, Any] | None
    ended_at: float
    """Seconds since the epoch."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe applied to a document."""

    id: str
    tenant: str
    """Who may see it."""
    scope: str
    """Where its answers are kept."""
    document_id: str
    recipe: str
    edition: str
    model: str
    options: dict[str, Any]
    langextract: str
    """The version of LangExtract."""
    chunker: str
    """How the document is split."""
    passes: int
    created_at: float
    status: RunStatus = "in_progress"
    error: dict[str, Any] | None = None
    counts: dict[str, Any] = {}
    chunks: int = 0
    chunks_done: int = 0
    metadata: dict[str, Any] = {}
    made_by: str = ""
    worker: str
    """Who goes on with it: nobody else writes to it."""
    seen_at: float = 0.0
    """When its worker was last heard of; the database says."""
    ended_at: float | None = None


class ChunkSpan(msgspec.Struct, frozen=True):
    """A part of a document. Places are code points from its beginning."""

    ordinal: int
    start: int
    end: int
    sha256: bytes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found."""

    name: str
    """Its class."""
    text: str
    attributes: dict[str, Any] | None = None
    start: int | None = None
    end: int | None = None
    quote: str | None = None
    """What the document says there."""
    alignment: str | None = None
    group: int = 0
    fits: bool = True
    """Its attributes are what the recipe asks for."""
    kept: bool = True
    """It is part of the run's result."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One time a model was asked about a chunk. What a call that failed does not know is None."""

    chunk: int
    pass_number: int
    attempt: int
    status: CallStatus
    chosen: bool
    """Its records are what its pass found."""
    model: str
    served_at: float
    """When its answer was given to the run, or it failed."""
    duration_ms: float
    problems: tuple[str, ...] = ()
    key: bytes | None = None
    prompt_hash: bytes | None = None
    model_version: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    backend: str | None = None
    finish_reason: str | None = None
    cache: str | None = None
    tier: str | None = None
    origin_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    answered_at: float | None = None
    """When the model said it."""
    error: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None
    """Temperature, seed and their like, as it was asked."""
    records: tuple[Record, ...] = ()
    serial: int = 0
    """Given by the database; what is committed later has a higher one."""
