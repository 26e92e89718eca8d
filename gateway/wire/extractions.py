"""`/v1/extractions` and the field `extract` of a chat: bytes -> what is to be extracted, from what, and how."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from extractors.errors import RecipeError
from extractors.files import Text
from extractors.recipe import Recipe, from_data
from gateway.errors import InvalidRequest
from gateway.wire import body, sampling

_NUL: Final = "\u2400"
"""Postgres has no NUL; its picture takes as much room."""
_LATER: Final = 0.7
"""The temperature of later passes, unless one is said: at none they would say what the first said."""
_TITLE: Final = 500
_SOURCES: Final = ("text", "document_id", "messages")

S = TypeVar("S", bound=msgspec.Struct)
_Name = Annotated[str, Meta(min_length=1, max_length=200)]
Metadata = dict[str, Any]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a text is gone through."""

    passes: Annotated[int, Meta(ge=1, le=8)] = 1
    """How often. What a later pass finds where nothing was found before is added."""
    chunk_chars: Annotated[int, Meta(ge=100, le=100_000)] = 2000
    """Code points of a chunk, at most."""
    context_chars: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """How much of the text before it is shown with a chunk."""
    attempts: Annotated[int, Meta(ge=1, le=5)] = 2
    """How often a pass asks about a chunk, when its answers cannot be used."""
    parallel: Annotated[int, Meta(ge=1, le=32)] = 8
    """How many chunks are asked about at the same time."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    seed: sampling.Seed | None = None
    max_tokens: sampling.Count = 4096
    constrained: bool = True
    """Whether the engine is to hold the model to the schema, where it can."""

    def temperature_of(self, number: int) -> float:
        """That of a pass, from 1 on."""
        return self.temperature if self.temperature is not None else _LATER if number > 1 else 0

    def seed_of(self, number: int) -> int | None:
        """That of a pass: each has its own; none where nothing is drawn by lot and none was said."""
        if self.seed is None and self.temperature_of(number) == 0:
            return None
        return ((self.seed or 0) + number - 1 + 2**63) % 2**64 - 2**63


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be extracted, and how."""

    recipe: str | Recipe
    """The name of a saved one, or one of the request's own."""
    options: Options
    source: Literal["answer", "messages"] = "answer"
    """Of a chat: from what."""
    metadata: Mapping[str, Any] = {}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request for an extraction."""

    wanted: Wanted
    model: str
    text: str = ""
    document_id: str = ""
    """Where the text is, if it is not said."""
    stream: bool = False
    background: bool = False


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Body(Options, frozen=True, kw_only=True):
    model: _Name
    recipe: str | dict[str, Any]
    metadata: Metadata = {}
    text: str | None = None
    document_id: _Name | None = None
    messages: Annotated[list[_Message], Meta(min_length=1)] | None = None
    stream: bool = False
    background: bool = False
    user: str = ""


class _Extract(Options, frozen=True, kw_only=True):
    recipe: str | dict[str, Any]
    metadata: Metadata = {}
    source: Literal["answer", "messages"] = "answer"


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    metadata: Metadata = {}


def decode(data: bytes) -> Asked:
    """The request in `data`. Raises `InvalidRequest`."""
    raw = body.decode(data)
    fields = _known(raw, _Body)
    given = [name for name in _SOURCES if getattr(fields, name) is not None]
    if len(given) != 1:
        message = f"Give one of 'text', 'document_id' and 'messages'; this has {' and '.join(given) or 'none of them'}."
        raise InvalidRequest(message, param=given[1] if given else "text", code="invalid_value")
    if fields.stream and fields.background:
        message = "What runs in the background is followed at /v1/extractions/{id}/events; leave out 'stream'."
        raise InvalidRequest(message, param="stream", code="invalid_value")
    text = fields.text if fields.messages is None else spoken(fields.messages)
    return Asked(
        wanted=_wanted(fields),
        model=fields.model,
        text=_said(text or "", given[0]) if fields.document_id is None else "",
        document_id=fields.document_id or "",
        stream=fields.stream,
        background=fields.background,
    )


def extract(said: Any) -> Wanted:
    """The field `extract` of a chat. Raises `InvalidRequest`."""
    if isinstance(said, str):
        said = {"recipe": said}
    if not isinstance(said, dict):
        message = "'extract' must be an object with a 'recipe'."
        raise InvalidRequest(message, param="extract", code="invalid_value")
    try:
        fields = _known(said, _Extract)
        wanted = _wanted(fields)
    except InvalidRequest as error:
        error.param = f"extract.{error.param}" if error.param else "extract"
        raise
    return msgspec.structs.replace(wanted, source=fields.source)


def document(data: bytes) -> tuple[Text, dict[str, Any]]:
    """A document that is to be kept: its text, and what is said of it. Raises `InvalidRequest`."""
    fields = _known(body.decode(data), _Document)
    return Text(_said(fields.text, "text")), _small(fields.metadata)


def of_file(found: Text, metadata: bytes, name: str) -> tuple[Text, dict[str, Any]]:
    """The same of what was read from a file, with `metadata` as JSON. Raises `InvalidRequest`."""
    said = _spoken_of(metadata) if metadata.strip() not in (b"", b"null") else {}
    text = Text(_said(found.text, "file"), found.pages, storable(found.title or name)[:_TITLE])
    return text, _small(said)


def _spoken_of(metadata: bytes) -> Metadata:
    try:
        return body.decode(metadata)
    except InvalidRequest as error:
        message = str(error).replace("The body", "'metadata'", 1).partition(", such as")[0].removesuffix(".")
        raise InvalidRequest(f"{message}.", param="metadata", code=error.code) from error


def storable(text: str) -> str:
    """A text as it can be kept: its places stay the same."""
    return text.replace("\x00", _NUL)


def spoken(messages: list[Any]) -> str:
    """What is said in a conversation: the words of each message, with a blank line between."""
    return "\n\n".join(filter(None, map(_words, messages)))


def _words(message: Any) -> str:
    content: Any = message.get("content") if isinstance(message, dict) else message.content
    if isinstance(content, list):
        texts = (part.get("text") if isinstance(part, dict) else part.text for part in content)
        return "\n".join(text for text in texts if text)
    return content or ""


def _known(raw: dict[str, Any], shape: type[S]) -> S:
    """The fields, if there are no others: what is misspelt would be passed over. Null is the same as left out, for a
    field that may be left out. Raises `InvalidRequest`.
    """
    body.expect_known(raw, shape)
    needed = _needed(shape)
    return body.typed({name: value for name, value in raw.items() if value is not None or name in needed}, shape)


@functools.cache
def _needed(shape: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that may not be left out."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(shape) if field.required)


def _wanted(fields: _Body | _Extract) -> Wanted:
    options = Options(**{name: getattr(fields, name) for name in Options.__struct_fields__})
    return Wanted(recipe=_recipe(fields.recipe), options=options, metadata=_small(fields.metadata))


def _recipe(said: str | dict[str, Any]) -> str | Recipe:
    if isinstance(said, str):
        return said
    try:
        return from_data(said)
    except RecipeError as error:
        param = f"recipe.{error.where}".removesuffix(".")
        raise InvalidRequest(f"'{param}': {error}", param=param, code="invalid_recipe") from error


def _said(text: str, param: str) -> str:
    if not text.strip():
        message = f"'{param}' has no words to extract anything from."
        raise InvalidRequest(message, param=param, code="invalid_value")
    return storable(text)


def _small(metadata: Metadata) -> Metadata:
    """What was said of a document or a run, if it can be kept."""
    if len(msgspec.json.encode(metadata)) > 2**16:
        message = "'metadata' is larger than 64 KiB; put long texts into documents."
        raise InvalidRequest(message, param="metadata", code="invalid_value")
    return _storable(metadata)


def _storable(value: Any) -> Any:
    """The same without NUL, in names too."""
    if isinstance(value, dict):
        return {storable(name): _storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return storable(value) if isinstance(value, str) else value
