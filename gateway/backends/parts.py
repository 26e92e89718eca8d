"""Parts of messages that are more than text: which an engine takes, and in which form."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.backends import parameters
from gateway.backends.parameters import Engine
from gateway.errors import BackendRefused


def check(backend: str, engine: Engine, messages: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there are pictures. Raises `BackendRefused` for parts that the engine cannot read.

    A picture at an address is refused everywhere: the server behind it could be any in this network, and what is there
    can change while the answer to it is kept.
    """
    pictures = False
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = part["type"]
            if kind in parameters.PARTS and not parameters.of(kind, engine).honours:
                raise _refused(f"Backend '{backend}' cannot read parts of the type '{kind}'.")
            if kind == "image_url":
                pictures = True
                _check_picture(part)
    return pictures


def _check_picture(part: Mapping[str, Any]) -> None:
    match part.get("image_url"):
        case {"url": str(url)} if _is_data(url):
            return
        case _:
            message = "Images are taken as data URLs only ('data:image/png;base64,…'): send what is in them."
            raise _refused(message)


def _is_data(url: str) -> bool:
    head, comma, data = url.partition(",")
    return head.startswith("data:image/") and head.endswith(";base64") and bool(comma and data)


def _refused(message: str) -> BackendRefused:
    return BackendRefused(message, status=400, code="unsupported_content", param="messages")
