"""What is wrong with a TOML file, as msgspec says it -> the line where that stands. Pure.

msgspec names a path such as `$.backends[1].weight`; no parser of Python's tells where its values come from. What is
looked for are headers and keys at the beginning of lines, which is how people write them.
"""

import re
from typing import Final

_HEADER: Final = re.compile(r"\s*\[(\[?)\s*([\w.\"-]+)\s*\]")
_KEY: Final = re.compile(r"\s*\"?([\w-]+)\"?\s*=")
_PATH: Final = re.compile(r"at `\$([^`]*)`")
_STEP: Final = re.compile(r"\.([\w-]+)|\[(\d+)\]")
_NAMED: Final = re.compile(r"`([\w-]+)`")

Places = dict[tuple[str, int, str], int]
"""Line numbers, by table, which of the tables of this name it is, and key; the header has no key."""


def line_of(text: str, error: str) -> int | None:
    """The number of the line of `text` that `error` is about; None where that cannot be told."""
    places = _places(text)
    found = _PATH.search(error)
    steps = [(name, number) for name, number in _STEP.findall(found[1] if found else "")]
    table, which, key = "", 0, ""
    match steps:
        case [(str(name), ""), ("", str(number)), *rest] if name:
            table, which = name, int(number)
            key = rest[0][0] if rest else ""
        case [(str(name), ""), *_]:
            key = name
        case _:
            pass
    words = [key] if key else _NAMED.findall(error[: found.start()] if found else error)
    for word in words:
        if (number := places.get((table, which, word))) is not None:
            return number
    if table:
        return places.get((table, which, "")) or places.get(("", 0, table))
    headers = ([number for (name, _, key), number in places.items() if name == word and not key] for word in words)
    return next((max(numbers) for numbers in headers if numbers), None)


def _places(text: str) -> Places:
    places: Places = {}
    counts: dict[str, int] = {}
    table, which = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = header[2].strip('"')
            which = counts.get(table, 0)
            counts[table] = which + 1
            places[table, which, ""] = number
        elif key := _KEY.match(line):
            places.setdefault((table, which, key[1]), number)
    return places
