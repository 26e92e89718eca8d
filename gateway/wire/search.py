"""`/v1/search`: bytes -> what is looked for, and where."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.errors import InvalidRequest
from gateway.wire import body, filtering

Kind = Literal["documents", "records", "completions"]
Mode = Literal["hybrid", "text", "vector"]
MAX_RESULTS: Final = 50
LONGEST: Final = 8000
"""Characters of a question."""
_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for, and where."""

    query: str
    operators: bool = False
    """Whether quotes, `or` and hyphens in it say how to search; in somebody's own words they are what they are."""
    limit: int = 10
    mode: Mode = "hybrid"
    kinds: tuple[Kind, ...] = ("documents",)
    collection: str | None = None
    document_ids: tuple[str, ...] | None = None
    filters: str | None = None
    """A predicate of SQL/JSON about the attributes of a document."""


class _Body(msgspec.Struct, kw_only=True):
    query: Annotated[str, Meta(min_length=1, max_length=LONGEST)]
    limit: Annotated[int, Meta(ge=1, le=MAX_RESULTS)] = 10
    mode: Mode = "hybrid"
    kinds: Annotated[tuple[Kind, ...], Meta(min_length=1)] = ("documents",)
    collection: _Name | None = None
    document_ids: Annotated[list[_Name], Meta(max_length=1000)] | None = None
    filters: Any = None


def decode(data: bytes) -> Asked:
    """The search in `data`. Raises `InvalidRequest`."""
    raw = body.decode(data)
    body.expect_known(raw, _Body)
    fields = body.typed({name: value for name, value in raw.items() if value is not None or name == "query"}, _Body)
    asked = Asked(
        query=text(fields.query, "query"),
        operators=True,
        limit=fields.limit,
        mode=fields.mode,
        kinds=tuple(dict.fromkeys(fields.kinds)),
        collection=fields.collection,
        document_ids=None if fields.document_ids is None else tuple(fields.document_ids),
        filters=None if fields.filters is None else filtering.path(fields.filters),
    )
    narrowing = ("collection", "document_ids", "filters")
    narrowed = next((name for name in narrowing if getattr(asked, name) is not None), None)
    if narrowed and "completions" in asked.kinds:
        message = f"'{narrowed}' says which documents are searched, and completions are of none; search them apart."
        raise InvalidRequest(message, param=narrowed, code="invalid_value")
    return asked


def text(said: str, param: str) -> str:
    """What is looked for. Raises `InvalidRequest` where nothing is said."""
    found = said.replace("\x00", " ").strip()
    if not found:
        message = f"'{param}' has no words to look for."
        raise InvalidRequest(message, param=param, code="invalid_value")
    return found
