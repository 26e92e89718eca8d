"""Files that clients send: what their content type says, what a form has, and what is read from them."""

import mimetypes
from email.message import Message
from pathlib import PurePath
from typing import Any, Final

import msgspec

from extractors.files import TYPES
from gateway.errors import InvalidRequest, UnsupportedMedia

FORM: Final = "multipart/form-data"
_PLAIN: Final = "text/plain"
_ENDINGS: Final = (
    ".txt .log .csv .tsv .json .jsonl .xml .yaml .yml .toml .ini .sql .sh "
    ".py .ipynb .js .ts .go .rs .java .c .h .cpp .rb"
)
_BY_NAME: Final = {".md": "text/markdown", ".markdown": "text/markdown", **dict.fromkeys(_ENDINGS.split(), _PLAIN)}
_TEXTUAL: Final = frozenset(
    f"application/{name}"
    for name in ("json", "jsonl", "x-ndjson", "xml", "yaml", "x-yaml", "toml", "javascript", "sql")
)
"""What is text, whatever else it is: read as it is written."""
_JSON: Final = frozenset({"", "application/json", "text/json", "application/x-www-form-urlencoded"})
"""What clients call JSON; the last is what curl says unless it is told."""
_ANY: Final = frozenset({"", "application/octet-stream"})


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file, of a type that can be read."""

    data: bytes
    media_type: str
    charset: str = ""
    name: str = ""
    metadata: bytes = b""
    """As JSON; empty where nothing was said."""


def kind_of(content_type: str) -> tuple[str, str]:
    """The media type that a header names, in lower case, and its charset; empty where it does not say."""
    said = Message()
    said["content-type"] = content_type
    media_type = said.get_content_type() if content_type.strip() else ""
    return media_type, said.get_content_charset("")


def of_body(data: bytes, media_type: str, charset: str) -> File | None:
    """A file that is a request's whole body; None where that is JSON. Raises `UnsupportedMedia`."""
    if media_type in TYPES:
        return File(data=data, media_type=media_type, charset=charset)
    if media_type in _JSON or media_type.endswith("+json"):
        return None
    if _is_text(media_type):
        return File(data=data, media_type=_PLAIN, charset=charset)
    raise _unreadable(media_type)


def readable(data: bytes, content_type: str, name: str, metadata: bytes) -> File:
    """A file of a form. One whose type is not said is known by the end of its name, or as text by what is in it.

    Raises `UnsupportedMedia`.
    """
    media_type, charset = kind_of(content_type)
    if media_type in _ANY or media_type not in TYPES:
        ending = PurePath(name).suffix.lower()
        media_type = _BY_NAME.get(ending) or mimetypes.guess_type(name)[0] or media_type
    if media_type not in TYPES and (_is_text(media_type) or (media_type in _ANY and _says_text(data))):
        media_type = _PLAIN
    if media_type not in TYPES:
        raise _unreadable(media_type)
    return File(data=data, media_type=media_type, charset=charset, name=PurePath(name).name[:200], metadata=metadata)


def of_form(form: Any) -> Any:
    """The field `file` of a form. Raises `InvalidRequest`."""
    found = form.get("file")
    if not hasattr(found, "filename"):
        message = "The form has no file: send it as the field 'file'."
        raise InvalidRequest(message, param="file", code="invalid_value")
    if strange := sorted(set(form) - {"file", "metadata", "purpose"}):
        message = f"'{strange[0][:80]}' is not known here; these are: file, metadata."
        raise InvalidRequest(message, param=strange[0][:80], code="unknown_parameter")
    return found


async def metadata_of(form: Any) -> bytes:
    """The field `metadata` of a form, which may be a file itself; empty where there is none."""
    found = form.get("metadata", "")
    return found.encode() if isinstance(found, str) else await found.read()


def content_type_of(part: Any) -> str:
    """What a form says a file of it is, with its charset, which `part.content_type` lacks."""
    said = {name.lower(): value for name, value in part.headers.items()}
    return said.get("content-type", part.content_type)


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type in _TEXTUAL


def _says_text(data: bytes) -> bool:
    """Whether it is UTF-8, without what no text has."""
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unreadable(media_type: str) -> UnsupportedMedia:
    said = (media_type or "none")[:80]
    message = f"A file of type '{said}' cannot be read; these can, and other text: {', '.join(sorted(TYPES))}."
    return UnsupportedMedia(message, param="file")
