"""The body of a request comes in, one hash for each of its beginnings goes out. Pure.

The beginnings are those of the messages as they are sent, in steps of `BLOCK_BYTES`. Two prompts that begin with the
same text have the same first hashes. A mistake costs time only: llama.cpp itself compares tokens before it uses any.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

BLOCK_BYTES: Final = 1024
_HASH_BYTES: Final = 16
_APART: Final = ("tools", "chat_template_kwargs", "cache_salt")
"""What comes before the messages in a prompt, or keeps those of one tenant apart from those of others."""

Chain = tuple[bytes, ...]
_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def chain(body: dict[str, Any]) -> Chain:
    """The hashes of all beginnings of a prompt, the shortest first; none where there are several prompts, or images."""
    text = _text(body)
    hashed = hashlib.sha256(_ENCODER.encode([body.get(name) for name in _APART])).digest()
    found: list[bytes] = []
    for start in range(0, len(text) - BLOCK_BYTES + 1, BLOCK_BYTES):
        hashed = hashlib.sha256(hashed + text[start : start + BLOCK_BYTES]).digest()[:_HASH_BYTES]
        found.append(hashed)
    return tuple(found)


def common(one: Chain, other: Chain) -> int:
    """How many beginnings two prompts share."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # each hash covers all before it
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[middle - 1] == other[middle - 1] else (low, middle - 1)
    return low


def _text(body: dict[str, Any]) -> bytes:
    if body.get("n") not in {None, 1}:
        return b""
    prompt, messages = body.get("prompt"), body.get("messages")
    if isinstance(prompt, str):
        return prompt.encode(errors="replace")
    if not isinstance(messages, list) or any(_shows(message) for message in messages):
        return b""
    # Sorted, the content comes before the role: what follows a text is at its end.
    return b"".join(_ENCODER.encode(message) for message in messages)


def _shows(message: Any) -> bool:
    """Whether a message has more than text: a slot with images cannot be saved."""
    parts = message.get("content") if isinstance(message, dict) else None
    return isinstance(parts, list) and any(not isinstance(part, dict) or part.get("type") != "text" for part in parts)
