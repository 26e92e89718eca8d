"""Texts of others -> texts that leave the terminal alone: no control character moves the cursor or colours."""

import json
from typing import Any


def printable(text: str) -> str:
    """Text that leaves the terminal alone."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def plain_json(value: Any, indent: int | None = None) -> str:
    """JSON that leaves the terminal alone, and is still JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
