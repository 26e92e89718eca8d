"""What the model of these tests says: a count with a checksum at its end, so that no other text passes for an answer.

Only the standard library, and little of it: processes that are killed by the dozen import this.
"""

import re
import zlib
from typing import Any

_ASKED = re.compile(r"Count for ([0-9]+)\.")
PROMPT_TOKENS = 7


def steps(number: int) -> list[str]:
    """The answer to question `number`, step by step."""
    said = [f"{number}.{place} " for place in range(10 + number % 13)]
    return [*said, f"sum {zlib.crc32(''.join(said).encode()):08x}"]


def answer(number: int) -> str:
    """The whole answer to question `number`."""
    return "".join(steps(number))


def question(model: str, number: int, *, stream: bool = True) -> dict[str, Any]:
    """Question `number`, as a client asks it."""
    words = {"role": "user", "content": f"Count for {number}."}
    asked: dict[str, Any] = {"model": model, "messages": [words], "temperature": 0, "stream": stream}
    return asked | ({"stream_options": {"include_usage": True}} if stream else {})


def number_in(text: str) -> int:
    """Which question `text` asks. Raises `ValueError` when it asks none."""
    found = _ASKED.search(text)
    if found is None:
        raise ValueError(text)
    return int(found[1])
