"""OpenAI's `/v1/vector_stores`: bytes -> what is to be done. What cannot be done is refused, not passed over."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from gateway.errors import InvalidRequest
from gateway.wire import body, filtering
from gateway.wire.search import LONGEST, MAX_RESULTS, Asked, text

MOST: Final = 2000
"""Files of one request, as OpenAI has it."""
_DAY_S: Final = 24 * 3600

S = TypeVar("S", bound=msgspec.Struct)
_Id = Annotated[str, Meta(min_length=1, max_length=200)]
_Ids = Annotated[list[_Id], Meta(max_length=MOST)]
_Name = Annotated[str, Meta(max_length=1000)]
_Word = Annotated[str, Meta(min_length=1, max_length=64)]
_Value = Annotated[str, Meta(max_length=512)] | float | bool
Attributes = Annotated[dict[_Word, _Value], Meta(max_length=64)]
_Metadata = Annotated[dict[_Word, Annotated[str, Meta(max_length=512)]], Meta(max_length=64)]


class _Expires(msgspec.Struct):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=3650)]


class _Chunking(msgspec.Struct):
    type: str


class _Store(msgspec.Struct, kw_only=True):
    name: _Name | None = None
    description: _Name | None = None
    file_ids: _Ids | None = None
    metadata: _Metadata | None = None
    expires_after: _Expires | None = None
    chunking_strategy: _Chunking | None = None


class _Change(msgspec.Struct, kw_only=True):
    name: _Name | None = None
    metadata: _Metadata | None = None
    expires_after: _Expires | None = None


class _File(msgspec.Struct, kw_only=True):
    file_id: _Id
    attributes: Attributes | None = None
    chunking_strategy: _Chunking | None = None


class _Described(msgspec.Struct, kw_only=True):
    attributes: Attributes | None


class _Batch(msgspec.Struct, kw_only=True):
    file_ids: _Ids | None = None
    files: Annotated[list[_File], Meta(max_length=MOST)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: _Chunking | None = None


class _Ranking(msgspec.Struct):
    ranker: str = "auto"
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class _Search(msgspec.Struct, kw_only=True):
    query: Annotated[str, Meta(max_length=LONGEST)] | Annotated[list[str], Meta(min_length=1, max_length=16)]
    filters: Any = None
    max_num_results: Annotated[int, Meta(ge=1, le=MAX_RESULTS)] | None = None
    ranking_options: _Ranking | None = None
    rewrite_query: bool | None = None


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """A store that is to be made."""

    name: str
    description: str
    file_ids: tuple[str, ...]
    metadata: Mapping[str, Any]
    expires_after_s: int | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be changed of a store; what is None stays."""

    name: str | None
    metadata: Mapping[str, Any] | None
    expires: tuple[int | None] | None
    """After so many seconds without use, or never."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A search in one store."""

    asked: Asked
    said: tuple[str, ...]
    threshold: float


def store(data: bytes) -> Store:
    """A store that is to be made. Raises `InvalidRequest`."""
    _, fields = _known(data, _Store)
    _auto(fields.chunking_strategy)
    return Store(
        name=fields.name or "",
        description=fields.description or "",
        file_ids=tuple(dict.fromkeys(fields.file_ids or ())),
        metadata=fields.metadata or {},
        expires_after_s=_seconds(fields.expires_after),
    )


def change(data: bytes) -> Change:
    """What is to be changed of one. Raises `InvalidRequest`."""
    raw, fields = _known(data, _Change)
    return Change(
        name=fields.name or "" if "name" in raw else None,
        metadata=fields.metadata or {} if "metadata" in raw else None,
        expires=(_seconds(fields.expires_after),) if "expires_after" in raw else None,
    )


def file(data: bytes) -> Mapping[str, Mapping[str, Any]]:
    """A file that is to be in a store, and its attributes. Raises `InvalidRequest`."""
    _, fields = _known(data, _File)
    _auto(fields.chunking_strategy)
    return {fields.file_id: fields.attributes or {}}


def attributes(data: bytes) -> Mapping[str, Any]:
    """What is to be said of a file in a store. Raises `InvalidRequest`."""
    _, fields = _known(data, _Described)
    return fields.attributes or {}


def batch(data: bytes) -> Mapping[str, Mapping[str, Any]]:
    """Files that are to be in a store, and their attributes. Raises `InvalidRequest`."""
    _, fields = _known(data, _Batch)
    _auto(fields.chunking_strategy)
    if (fields.file_ids is None) == (fields.files is None):
        message = "Give one of 'file_ids' and 'files'."
        raise InvalidRequest(message, param="file_ids", code="invalid_value")
    if fields.files is None:
        return {name: fields.attributes or {} for name in fields.file_ids or ()}
    for one in fields.files:
        _auto(one.chunking_strategy)
    return {one.file_id: one.attributes or {} for one in fields.files}


def search(data: bytes, collection: str) -> Search:
    """A search in a store. Raises `InvalidRequest`."""
    _, fields = _known(data, _Search)
    if fields.rewrite_query:
        message = "'rewrite_query' takes a model, and none is asked here; leave it out."
        raise InvalidRequest(message, param="rewrite_query", code="unsupported_parameter")
    said = (fields.query,) if isinstance(fields.query, str) else tuple(fields.query)
    asked = Asked(
        query=text("\n".join(said)[:LONGEST], "query"),
        limit=fields.max_num_results or 10,
        collection=collection,
        filters=None if fields.filters is None else filtering.path(fields.filters),
    )
    threshold = (fields.ranking_options and fields.ranking_options.score_threshold) or 0.0
    return Search(asked=asked, said=said, threshold=threshold)


def _known(data: bytes, shape: type[S]) -> tuple[dict[str, Any], S]:
    """The fields, if there are no others."""
    raw = body.decode(data or b"{}")
    body.expect_known(raw, shape)
    return raw, body.typed(raw, shape)


def _auto(chunking: _Chunking | None) -> None:
    if chunking is not None and chunking.type != "auto":
        message = "Documents are divided where their text has ends, once for all stores; 'chunking_strategy' is 'auto'."
        raise InvalidRequest(message, param="chunking_strategy", code="unsupported_parameter")


def _seconds(expires: _Expires | None) -> int | None:
    return None if expires is None else expires.days * _DAY_S
